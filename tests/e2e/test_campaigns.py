"""The life of a campaign on the command line: draft, approved, exported, measured; its report; killed and run again."""

import csv
import json
import signal
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from command_line import run_here
from road import configured, parsed

from recsys.data.extract import open_extract
from recsys.data.times import from_datetime, rfc3339, to_datetime
from recsys.experiments.assignment import EVERY_MAILING, hold_back
from recsys.store.campaigns import is_held_back, list_campaigns, list_exports
from recsys.store.migrate import open_store
from recsys.store.users import delete_user

EVIL = "<script>document.title='owned'</script> \"'; DROP TABLE recsys_campaigns; --"


def definition(folder: Path, **changed: Any) -> Path:
    """A file that asks for a campaign 40 days before the newest event, so that its window is over."""
    moment = to_datetime(open_extract(configured(folder).storage.path).as_of) - timedelta(days=40)
    values = {
        "name": "lamps",
        "purpose": EVIL,
        "legal_basis": "consent",
        "retention_days": 90,
        "control_share": 0.3,
        "audience": {"items": ["P00207", "P00288"], "size": 300, "as_of": rfc3339(from_datetime(moment))},
    }
    file = folder / f"{changed.get('name', 'lamps')}.json"
    file.write_text(json.dumps(values | changed), encoding="utf-8")
    return file


def campaign(folder: Path, *words: str | Path) -> Any:
    return parsed(run_here("campaign", *words, "--json", "--config", folder / "recsys.toml"))


def refused(folder: Path, *words: str | Path) -> tuple[int, str]:
    done = run_here("campaign", *words, "--json", "--config", folder / "recsys.toml")
    return done.returncode, done.stderr


def ids(file: Path) -> list[str]:
    with file.open(newline="", encoding="utf-8") as rows:
        return [row["user_id"] for row in csv.DictReader(rows)]


def test_a_campaign_is_drawn_approved_exported_measured_reported_and_deleted(trained_shop: Path) -> None:
    source, out = definition(trained_shop), trained_shop / "lamps.csv"
    made = campaign(trained_shop, "create", source, "--by", "Ann")
    assert (made["state"], made["changed_by"], made["members"]) == ("draft", "Ann", 300)
    assert made["mailed"] + made["held_back"] == 300
    assert made["held_back"] == pytest.approx(90, abs=30)
    assert sum(made["audience"]["left_out"].values()) + made["audience"]["eligible"] == 1500
    chosen = [one for one in made["could_find"] if one["chosen"]]
    assert [one["control_share"] for one in chosen] == [0.3]
    assert campaign(trained_shop, "create", source) == made  # nothing changes, whoever asks
    assert refused(trained_shop, "export", "lamps", "--out", out)[0] == 3
    assert not out.exists()
    campaign(trained_shop, "approve", "lamps", "--by", "Cleo")
    assert "is approved since" in refused(trained_shop, "approve", "lamps")[1]

    done = campaign(trained_shop, "export", "lamps", "--out", out)
    mailed = ids(out)
    assert len(mailed) == len(set(mailed)) == done["members"] == made["mailed"]
    assert not [user for user in mailed if is_held_back(user, "lamps", 0.3)]
    before = out.read_bytes()
    campaign(trained_shop, "export", "lamps", "--out", out)
    assert out.read_bytes() == before

    sent = made["as_of"]
    found = campaign(trained_shop, "measure", "lamps", "--sent-at", sent)
    assert (found["mailed"], found["held_back"]) == (made["mailed"], made["held_back"])
    assert found["verdict"] in ("worked", "harmed", "no_effect", "not_enough_data")  # nobody was mailed, in truth
    assert sum(one["mailed"] + one["held_back"] for one in found["tenths"]) == 300
    assert found["conversion"]["mailed"] > 0
    told = campaign(trained_shop, "show", "lamps")
    assert [one["action"] for one in told["changes"]] == ["create", "approve", "export", "export", "measure"]
    assert told["measurement"]["text"] == found["text"]
    assert [one["destination"] for one in told["exports"]] == [str(out.resolve())] * 2
    [listed] = campaign(trained_shop, "list")
    assert (listed["state"], listed["verdict"]) == ("measured", found["verdict"])
    assert listed["delete_after"] is not None

    campaign(trained_shop, "report", "lamps", "--out", trained_shop / "lamps.html")
    page = (trained_shop / "lamps.html").read_text(encoding="utf-8")
    for part in ("Measured lift", "From all users", "Lift by tenth", "Members by segment", "The first members", "Cleo"):
        assert part in page
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "http" not in page.replace("http-equiv", "")  # no file but this one

    gone = campaign(trained_shop, "delete", "lamps")
    assert len(gone["exports"]) == 2
    assert campaign(trained_shop, "list") == []
    assert refused(trained_shop, "show", "lamps")[0] == 1


def test_before_the_window_is_over_nothing_is_kept_and_the_campaign_can_be_cancelled(trained_shop: Path) -> None:
    campaign(trained_shop, "create", definition(trained_shop, window_days=60))
    campaign(trained_shop, "approve", "lamps")
    assert refused(trained_shop, "measure", "lamps")[0] == 3
    campaign(trained_shop, "export", "lamps", "--out", trained_shop / "a.csv")
    found = campaign(trained_shop, "measure", "lamps", "--sent-at", campaign(trained_shop, "show", "lamps")["as_of"])
    assert found["verdict"] == "window_open"
    assert campaign(trained_shop, "show", "lamps")["measurement"] is None
    assert refused(trained_shop, "measure", "lamps", "--sent-at", "soon")[0] == 2
    assert campaign(trained_shop, "cancel", "lamps")["state"] == "cancelled"
    assert refused(trained_shop, "export", "lamps", "--out", trained_shop / "a.csv")[0] == 3


def test_what_differs_between_campaigns_is_told(trained_shop: Path) -> None:
    campaign(trained_shop, "create", definition(trained_shop))
    other = definition(trained_shop, name="chairs", audience={"items": ["P00207"], "size": 200})
    campaign(trained_shop, "create", other)
    told = campaign(trained_shop, "diff", "lamps", "chairs")
    assert told["changed"]["definition.audience.size"] == [300, 200]
    assert "definition.purpose" not in told["changed"]
    assert told["members"]["both"] + told["members"]["only_first"] == 300
    same = campaign(trained_shop, "diff", "lamps", "lamps")
    assert same == {"changed": {}, "members": {"both": 300, "only_first": 0, "only_second": 0}}


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"name": "../lamps"}, "name"),
        ({"legal_basis": "because"}, "legal_basis"),
        ({"colour": "red"}, "colour: there is no such key"),
        ({"audience": {"items": ["P00207"], "size": 3, "limit": 3}}, "audience.limit"),
        ({"audience": {"items": ["P00207"]}}, "audience.size"),
        (
            {"audience": {"items": ["P00207"], "size": 3, "user_filters": ["country:eq:x' OR 1=1 --"]}},
            "nobody is eligible",
        ),
    ],
)
def test_a_wrong_file_is_refused_and_the_key_named(trained_shop: Path, changed: dict[str, Any], told: str) -> None:
    code, error = refused(trained_shop, "create", definition(trained_shop, **changed))
    assert code in (2, 3)
    assert told in error
    with closing(open_store(configured(trained_shop).store.url, "recsys_")) as store:
        assert list_campaigns(store) == []


def test_another_definition_of_the_same_name_changes_nothing(trained_shop: Path) -> None:
    made = campaign(trained_shop, "create", definition(trained_shop))
    code, error = refused(trained_shop, "create", definition(trained_shop, retention_days=1))
    assert (code, "another definition" in error) == (3, True)
    assert campaign(trained_shop, "show", "lamps") == made


@pytest.mark.parametrize("point", ["before freeze", "after freeze", "after campaign"])
def test_a_creation_that_is_killed_and_run_again_gives_the_same_members(
    trained_shop: Path, recsys_apart: Callable[..., Any], point: str
) -> None:
    source, config = definition(trained_shop), trained_shop / "recsys.toml"
    killed = recsys_apart("campaign", "create", source, "--config", config, RECSYS_CRASH_AT=point)
    assert killed.returncode == -signal.SIGKILL
    assert (campaign(trained_shop, "list") != []) == (point == "after campaign")
    expire(trained_shop)
    made = campaign(trained_shop, "create", source)
    assert made["members"] == 300
    first = members_of(trained_shop, made["audience_id"])
    assert len(first) == len(set(first)) == 300


def test_an_export_that_is_killed_is_in_the_register_and_run_again_writes_the_same_list(
    trained_shop: Path, recsys_apart: Callable[..., Any]
) -> None:
    out, config = trained_shop / "lamps.csv", trained_shop / "recsys.toml"
    campaign(trained_shop, "create", definition(trained_shop))
    campaign(trained_shop, "approve", "lamps")
    killed = recsys_apart("campaign", "export", "lamps", "--out", out, "--config", config, RECSYS_CRASH_AT="after file")
    assert killed.returncode == -signal.SIGKILL
    first = out.read_bytes()
    told = campaign(trained_shop, "show", "lamps")
    assert (told["state"], [one["finished_at"] for one in told["exports"]]) == ("approved", [None])
    expire(trained_shop)
    campaign(trained_shop, "export", "lamps", "--out", out)
    assert out.read_bytes() == first
    with closing(open_store(configured(trained_shop).store.url, "recsys_")) as store:
        exports = [one.export_id for one in list_exports(store)]
        assert delete_user(store, ids(out)[0], now=store.now()).exports == tuple(sorted(exports))
    campaign(trained_shop, "export", "lamps", "--out", out)
    assert ids(out) == [row.split(",")[1] for row in first.decode().splitlines()[2:]]


def expire(folder: Path) -> None:
    """The lease of a killed process ends in a minute; here at once."""
    with closing(open_store(configured(folder).store.url, "recsys_")) as store, store.writing() as connection:
        connection.execute(store.tables.leases.update().values(expires_at=0))


def members_of(folder: Path, audience_id: str) -> list[str]:
    with closing(open_store(configured(folder).store.url, "recsys_")) as store, store.reading() as connection:
        rows = store.tables.audience_members
        found = connection.execute(rows.select().where(rows.c.audience_id == audience_id)).mappings()
        return [row["user_id"] for row in found]


def test_a_user_is_told_everything_that_is_known(trained_shop: Path) -> None:
    campaign(trained_shop, "create", definition(trained_shop))
    campaign(trained_shop, "approve", "lamps")
    campaign(trained_shop, "export", "lamps", "--out", trained_shop / "lamps.csv")
    user, out = ids(trained_shop / "lamps.csv")[0], trained_shop / "user.json"
    words = ("user", "report", user, "--out", out, "--json", "--config", trained_shop / "recsys.toml")
    counts = parsed(run_here(*words))
    told = json.loads(out.read_text(encoding="utf-8"))
    extract = open_extract(configured(trained_shop).storage.path)
    row = extract.users.row_of(user)
    assert counts["events"] == len(told["events"]) == int(extract.events.offsets[row + 1] - extract.events.offsets[row])
    assert told["shop"]["email_consent"] is True
    assert [(one["campaign"], one["held_back"]) for one in told["memberships"]] == [("lamps", False)]
    assert [one["destination"] for one in told["exports"]] == [str((trained_shop / "lamps.csv").resolve())]
    unknown = run_here("user", "report", "who?", "--out", out, "--config", trained_shop / "recsys.toml")
    assert (unknown.returncode, "nothing is known of the user" in unknown.stderr) == (1, True)


def test_who_is_held_back_from_every_mailing_is_in_none_and_tells_what_all_of_them_brought(trained_shop: Path) -> None:
    share = {"RECSYS_AUDIENCE__CONTROL_SHARE": "0.2"}
    config = ("--json", "--config", trained_shop / "recsys.toml")
    everybody = ("audience", "--anything", "--size", "5000", "--out", trained_shop / "all.csv", *config)
    fewer, all_of_them = parsed(run_here(*everybody, **share)), set(ids(trained_shop / "all.csv"))
    assert fewer["left_out"]["users held back from every mailing"] > 50
    assert not hold_back(all_of_them, EVERY_MAILING, 0.2).any()
    assert parsed(run_here(*everybody))["members"] > fewer["members"]
    told = parsed(run_here("campaign", "lift", "--since", "2020-01-01", *config, **share))
    assert told["held_back"] == pytest.approx(0.2 * (told["held_back"] + told["mailed"]), rel=0.3)
    assert told["conversion"]["mailed"] > 0
    refused = run_here("campaign", "lift", "--since", "2020-01-01", *config)
    assert (refused.returncode, "nothing to compare with" in refused.stderr) == (3, True)
