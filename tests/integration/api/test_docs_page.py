"""The description of the API at /docs: what is served, and Swagger UI in a real browser."""

import httpx
from test_api_keys import create

PARTS = ("/docs", "/docs/docs.js", "/docs/swagger-ui.css", "/docs/swagger-ui-bundle.js")


def test_its_files_are_held_by_browsers_and_may_load_from_here_only(serve):
    http = serve().http
    for address in PARTS:
        answer = http.get(address)
        assert answer.status_code == 200
        assert len(answer.content) > 200
        policy = dict(part.strip().partition(" ")[::2] for part in answer.headers["Content-Security-Policy"].split(";"))
        assert policy["default-src"] == policy["frame-ancestors"] == "'none'"
        assert policy["script-src"] == policy["connect-src"] == "'self'"
        assert "http" not in str(policy)
        held = http.get(address, headers={"If-None-Match": answer.headers["ETag"]})
        assert (held.status_code, held.content) == (304, b"")
        assert http.head(address).content == b""
    for address in ("/docs/", "/docs/docs.html", "/docs/redoc.standalone.js", "/docs/..%2Fcore.py", "/redoc"):
        assert http.get(address).status_code == 404


def test_it_needs_no_key_and_holds_no_data(serve, shop):
    create(shop, "recommend")
    url = serve().url
    assert httpx.get(f"{url}/docs").status_code == 200
    assert httpx.get(f"{url}/v1/users/1003/recommendations").status_code == 401


def test_it_shows_every_address_sends_a_request_and_asks_nobody_else(serve, browser):
    server = serve()
    browser.open(f"{server.url}/docs")
    described = server.http.get("/openapi.json").json()["paths"]
    browser.wait(lambda: browser.count(".opblock") == sum(len(methods) for methods in described.values()))
    shown = {text.replace("\u200b", "") for text in browser.texts(".opblock-summary-path")}
    assert shown == set(described)

    block = ".opblock-get:has([data-path='/v1/users/{user_id}/recommendations'])"
    browser.press(f"{block} .opblock-summary-control")
    browser.wait(lambda: browser.count(f"{block} .try-out__btn"))
    browser.press(f"{block} .try-out__btn")
    browser.type(f"{block} tr[data-param-name='user_id'] input", "1003")
    browser.press(f"{block} .execute")
    browser.wait(lambda: browser.texts(f"{block} .live-responses-table .response-col_status"))
    assert "200" in browser.text(f"{block} .live-responses-table tbody .response-col_status")

    assert browser.complaints() == []
    foreign = [url for _, url in browser.requests() if not url.startswith((server.url + "/", "data:"))]
    assert foreign == []
