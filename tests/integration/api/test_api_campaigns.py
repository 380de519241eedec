"""Campaigns over HTTP: their life, who may do what, and what hostile names, texts and keys do: nothing."""

import csv
import io
import sqlite3
from contextlib import closing

from serving import said
from test_api_keys import create

EVIL = "<img src=x onerror=alert(1)>'; DROP TABLE recsys_campaigns; --"
DEFINITION = {
    "name": "lamps",
    "purpose": EVIL,
    "legal_basis": "consent",
    "retention_days": 90,
    "control_share": 0.4,
    "audience": {"anything": True, "size": 60, "strategy": "most_active"},
}


def asked(server, method, path, body=None, key=None):
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return server.http.request(method, f"/v1/campaigns{path}", json=body, headers=headers)


def test_a_campaign_lives_over_http_and_the_receipt_of_a_deletion_names_its_export(sqlite_server):
    server = sqlite_server
    made = server.post("/v1/campaigns", DEFINITION)
    assert (made["state"], made["members"], made["purpose"]) == ("draft", 60, EVIL)
    assert server.post("/v1/campaigns", DEFINITION) | {"request_id": ""} == made | {"request_id": ""}
    clash = asked(server, "POST", "", DEFINITION | {"purpose": "other"})
    assert (clash.status_code, clash.json()["code"]) == (409, "wrong_state")
    early = asked(server, "POST", "/lamps/export")
    assert (early.status_code, early.json()["code"]) == (409, "wrong_state")
    assert "export takes one that is approved or exported" in early.json()["detail"]
    assert said(asked(server, "POST", "/lamps/approve"))["changed_by"] == "without a key"
    again = asked(server, "POST", "/lamps/approve")
    assert (again.status_code, "is approved since" in again.json()["detail"]) == (409, True)

    exported = asked(server, "POST", "/lamps/export")
    assert exported.headers["content-type"] == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(exported.text)))
    assert len(rows) == made["mailed"] == 60 - made["held_back"]
    shown = said(asked(server, "GET", "/lamps"))
    assert [(one["destination"], one["members"]) for one in shown["exports"]] == [("HTTP, without a key", len(rows))]
    assert said(asked(server, "GET", "/lamps/diff/lamps"))["changed"] == {}
    found = said(asked(server, "POST", "/lamps/measure", {"sent_at": made["as_of"]}))
    assert found["verdict"] == "window_open"

    page = asked(server, "GET", "/lamps/report")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'; style-src 'sha256-" in page.headers["content-security-policy"]
    assert "&lt;img src=x" in page.text
    assert "<img" not in page.text

    known = said(server.http.get(f"/v1/users/{rows[0]['user_id']}/report", params={"limit": 2}))
    assert [(one["campaign"], one["held_back"]) for one in known["memberships"]] == [("lamps", False)]
    assert (len(known["events"]), known["next_skip"], len(known["exports"])) == (2, 2, 1)
    rest = said(server.http.get(f"/v1/users/{rows[0]['user_id']}/report", params={"skip": 2}))
    assert rest["next_skip"] is None
    assert rest["events"]
    assert not [event for event in rest["events"] if event in known["events"]]

    receipt = said(server.http.delete(f"/v1/users/{rows[0]['user_id']}"))
    assert [one["campaign"] for one in receipt["exports"]] == ["lamps"]
    assert said(server.http.delete(f"/v1/users/{rows[0]['user_id']}"))["exports"] == receipt["exports"]
    refused = asked(server, "DELETE", "/lamps")
    assert (refused.status_code, "delete takes" in refused.json()["detail"]) == (409, True)
    assert said(asked(server, "POST", "/lamps/cancel"))["state"] == "cancelled"
    assert [one["state"] for one in said(asked(server, "GET", ""))["campaigns"]] == ["cancelled"]
    assert len(said(asked(server, "DELETE", "/lamps"))["exports"]) == 1
    assert said(asked(server, "GET", ""))["campaigns"] == []


ROUTES = [
    ("GET", "", None),
    ("POST", "", DEFINITION),
    ("GET", "/lamps", None),
    ("GET", "/lamps/report", None),
    ("GET", "/lamps/diff/lamps", None),
    ("POST", "/lamps/approve", None),
    ("POST", "/lamps/export", None),
    ("POST", "/lamps/measure", {}),
    ("POST", "/lamps/cancel", None),
    ("DELETE", "/lamps", None),
]


def test_only_a_key_for_audiences_may(shop, serve):
    keys = {scope: create(shop, scope)["key"] for scope in ("recommend", "events", "audience", "metrics")}
    server = serve()
    for method, path, body in ROUTES:
        assert asked(server, method, path, body).status_code == 401
        for scope in ("recommend", "events", "metrics"):
            assert asked(server, method, path, body, keys[scope]).status_code == 403
        if body is None:
            nobodys = path.replace("lamps", "nobodys")
            assert asked(server, method, nobodys, body, keys["audience"]).status_code == (404 if path else 200)


def test_hostile_names_and_definitions_change_nothing(sqlite_server, shop):
    server = sqlite_server
    for name in ("--help", "x';DROP TABLE recsys_campaigns;--", "..", "a" * 65, "%00"):
        for method, action in (
            ("GET", ""),
            ("DELETE", ""),
            ("POST", "/approve"),
            ("POST", "/export"),
            ("GET", "/report"),
        ):
            assert asked(server, method, f"/{name}{action}").status_code in (400, 404, 405, 422)
    wrong = [
        {"name": "--config=/etc/passwd"},
        {"audience": {"anything": True, "size": 5, "suppress": ["/etc/passwd"]}},
        {"audience": {"anything": True, "size": 5, "seeds": "/etc/passwd"}},
        {"audience": {"anything": True, "size": 5, "contacts": ["/etc/passwd"]}},
        {"audience": {"anything": True, "size": 5, "user_filters": ["email_consent:eq:1) OR (1=1"]}},
        {"audience": {"anything": True, "size": 5, "strategy": "os:system"}},
        {"audience": {"anything": True, "size": 5, "limit": 3}},
        {"control_share": 2},
    ]
    for changed in wrong:
        answer = asked(server, "POST", "", DEFINITION | changed)
        assert answer.status_code in (404, 422), changed
        assert "root:" not in answer.text
    with closing(sqlite3.connect(shop / "recsys.db")) as own:
        assert own.execute("SELECT count(*) FROM recsys_campaigns").fetchone() == (0,)
