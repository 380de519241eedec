"""A campaign as a run: its row in the ledger, kills at every point, the three databases, small shops, calibration."""

import csv
import json
import signal
import sqlite3
from contextlib import closing

import numpy as np
import pytest
from road import configured, parsed
from test_crash import expire_leases_of
from tiny import quiet

from jobs.audience import audience
from jobs.train import train
from recsys.data.extract import open_extract
from recsys.errors import RefusedError
from recsys.store.audiences import find_audience, list_members
from recsys.store.migrate import open_store
from recsys.store.runs import list_runs
from recsys.store.users import delete_user

ITEM = "P00207"


def arguments(folder, name="a.csv", size="20"):
    out = ("--items", ITEM, "--size", size, "--out", folder / name)
    return ("audience", *out, "--json", "--config", folder / "recsys.toml")


def written(folder, name="a.csv"):
    with (folder / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def opened(config):
    return open_store(config.store.url, config.store.table_prefix)


def runs(folder):
    with closing(opened(configured(folder))) as store:
        return [run for run in list_runs(store) if run.job == "audience"]


def test_a_run_is_in_the_ledger_with_counts_and_without_people(trained_shop, recsys):
    data = parsed(recsys(*arguments(trained_shop)))
    (run,) = runs(trained_shop)
    assert (run.status, run.error, run.bundle) == ("done", None, data["bundle"])
    counts = {step["name"]: step["counts"] for step in run.steps}
    assert list(counts) == ["load", "draw", "write"]
    assert all(counted.pop("peak_mb") > 0 for counted in counts.values())
    assert counts["draw"] == {"eligible": data["eligible"], "left_out": data["left_out"], "members": 20}
    assert counts["write"] == {"members": 20, "left_since": {}}
    assert run.metrics["audience_id"] == data["audience_id"]
    told = json.dumps([run.steps, run.metrics])
    assert not [row["user_id"] for row in written(trained_shop) if f'"{row["user_id"]}"' in told]
    shown = parsed(recsys("runs", "--json", "--config", trained_shop / "recsys.toml"))
    assert shown[0]["job"] == "audience"


def test_a_refusal_and_a_failure_are_in_the_ledger_too(trained_shop, recsys):
    nobody = "SELECT id AS user_id, 0 AS email_consent FROM customers"
    assert recsys(*arguments(trained_shop), RECSYS_SOURCE__USERS=nobody).returncode == 3
    assert recsys(*arguments(trained_shop)[:2], "nope", *arguments(trained_shop)[3:]).returncode == 1
    failed, refused = runs(trained_shop)
    assert (failed.status, refused.status) == ("failed", "refused")
    assert "'nope' are not in the live bundle" in failed.error
    assert "1500 users who did not consent" in refused.error


def test_wrong_usage_is_exit_code_2_and_no_run(trained_shop, recsys):
    wrong = recsys(*arguments(trained_shop), "--size", "0")
    assert wrong.returncode == 2
    assert recsys(*arguments(trained_shop, "nowhere/a.csv")).returncode == 2
    assert runs(trained_shop) == []
    assert recsys(*arguments(trained_shop), "--as-of", "yesterday").returncode == 2


@pytest.mark.parametrize(
    ("point", "is_frozen", "is_written"),
    [
        ("before freeze", False, False),
        ("after freeze", True, False),
        ("in file", True, False),
        ("after file", True, True),
    ],
)
def test_a_kill_leaves_all_or_nothing_and_the_same_command_goes_on(
    trained_shop, recsys, recsys_apart, tmp_path, point, is_frozen, is_written
):
    undisturbed = tmp_path / "undisturbed"
    other = {"RECSYS_STORE__URL": f"sqlite:///{undisturbed}.db"}
    parsed(recsys(*arguments(trained_shop, "undisturbed.csv"), **other))
    killed = recsys_apart(*arguments(trained_shop), RECSYS_CRASH_AT=point)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert (trained_shop / "a.csv").exists() == is_written
    with closing(opened(configured(trained_shop))) as store, store.reading() as connection:
        frozen = connection.execute(store.tables.audiences.select()).all()
        members = connection.execute(store.tables.audience_members.select()).all()
    assert (len(frozen), len(members)) == ((1, 20) if is_frozen else (0, 0))
    busy = recsys(*arguments(trained_shop))
    assert (busy.returncode, "another run" in busy.stderr) == (4, True)
    expire_leases_of(trained_shop)
    again = parsed(recsys(*arguments(trained_shop)))
    assert again["frozen"] == ("before" if is_frozen else "now")
    assert written(trained_shop) == written(trained_shop, "undisturbed.csv")
    assert [run.status for run in runs(trained_shop)] == ["done", "failed"]
    assert runs(trained_shop)[1].error.startswith("died:")
    assert not list(trained_shop.glob(".a.csv*"))


def test_a_kill_while_an_older_file_is_replaced_leaves_the_older_one(trained_shop, recsys, recsys_apart):
    parsed(recsys(*arguments(trained_shop, size="5")))
    before = (trained_shop / "a.csv").read_bytes()
    assert recsys_apart(*arguments(trained_shop), RECSYS_CRASH_AT="in file").returncode == -signal.SIGKILL
    assert (trained_shop / "a.csv").read_bytes() == before


def test_a_campaign_on_each_database(trained_shop, database, recsys):
    environment = {"RECSYS_STORE__URL": database}
    config = configured(trained_shop, **environment)
    data = parsed(recsys(*arguments(trained_shop), **environment))
    first = written(trained_shop)
    again = parsed(recsys(*arguments(trained_shop, "b.csv"), "--as-of", data["as_of"], **environment))
    assert (data["frozen"], again["frozen"], again["audience_id"]) == ("now", "before", data["audience_id"])
    assert written(trained_shop, "b.csv") == first
    gone, withdrawn = first[0]["user_id"], first[3]["user_id"]
    with closing(opened(config)) as store:
        record, members = find_audience(store, data["audience_id"]), list_members(store, data["audience_id"])
        assert (record.items, record.left_out, record.bundle) == ([ITEM], data["left_out"], data["bundle"])
        assert members["user_id"].to_pylist() == [row["user_id"] for row in first]
        delete_user(store, gone, now=store.now())
    with closing(sqlite3.connect(trained_shop / "shop.db")) as shop, shop:
        shop.execute("UPDATE customers SET email_consent = 0 WHERE id = ?", [withdrawn])
    parsed(recsys(*arguments(trained_shop, "c.csv"), **environment))
    assert written(trained_shop, "c.csv") == [row for row in first if row["user_id"] not in (gone, withdrawn)]
    with closing(opened(config)) as store:
        assert [run.status for run in list_runs(store)] == ["done"] * 3


def delete_all_but(config, keep):
    """Tombstones alone, and all at once: deletions one by one take most of a minute."""
    with closing(opened(config)) as store:
        now = store.now()
        rows = [
            {"user_id": user, "deleted_at": now} for user in open_extract(config.storage.path).users if user != keep
        ]
        with store.writing() as connection:
            connection.execute(store.tables.deletions.insert(), rows)


def test_a_shop_of_one_user(trained_shop):
    config = configured(trained_shop, RECSYS_AUDIENCE__CONSENT="assumed")
    found = audience(config, items=[ITEM], size=1, out=trained_shop / "a.csv", progress=quiet).data
    assert found["members"] == 1
    (best,) = [row["user_id"] for row in written(trained_shop)]
    delete_all_but(config, best)
    alone = audience(config, items=[ITEM], size=9, out=trained_shop / "a.csv", progress=quiet).data
    assert (alone["members"], [row["user_id"] for row in written(trained_shop)]) == (1, [best])
    assert 0 < float(written(trained_shop)[0]["probability"]) < 1
    with closing(opened(config)) as store:
        delete_user(store, best, now=store.now())
    with pytest.raises(RefusedError, match="1500 deleted users"):
        audience(config, items=[ITEM], size=8, out=trained_shop / "a.csv", progress=quiet)


def test_a_shop_in_which_nobody_bought_in_the_window_is_refused(trained_shop, recsys):
    with closing(sqlite3.connect(trained_shop / "shop.db")) as shop:
        (first,) = shop.execute("SELECT min(viewed_at) FROM page_views").fetchone()
    for moment, reason in ((first, "no event before"), (f"{first[:10]}T23:59", "nobody bought anything")):
        done = recsys(*arguments(trained_shop), "--as-of", moment.replace(" ", "T"))
        assert (done.returncode, reason in done.stderr) == (3, True), done.stderr
    assert not (trained_shop / "a.csv").exists()


def test_what_is_promised_on_the_sample_shop_comes(shop):
    """Trained on all but the last 28 days; every user is asked about, for the shop's best sellers together."""
    whole = configured(shop)
    cut = "2026-06-03"
    until = f"SELECT * FROM ({whole.source.interactions}) AS e WHERE timestamp < '{cut}'"
    known = configured(shop, RECSYS_SOURCE__INTERACTIONS=until, RECSYS_AUDIENCE__CONSENT="assumed")
    train(known, progress=quiet)
    later = configured(shop, RECSYS_STORAGE__PATH=str(shop / "whole"), RECSYS_STORE__TABLE_PREFIX="whole_")
    train(later, progress=quiet)
    extract = open_extract(later.storage.path)
    bought = extract.events.of_kinds(later.target_codes)
    before = bought.before(int(np.datetime64(cut, "us").astype(np.int64)))
    counts = np.bincount(before.items, minlength=len(extract.items))
    best = np.argsort(-counts, kind="stable")[:30]
    items = extract.items.ids_of(best)
    data = audience(known, items=items, size=2000, out=shop / "all.csv", progress=quiet).data
    came = bought.select((bought.times >= int(np.datetime64(cut, "us").astype(np.int64))) & np.isin(bought.items, best))
    buyers = {extract.users.id_of(int(user)) for user in np.flatnonzero(np.diff(came.offsets))}
    rows = written(shop, "all.csv")
    hits = np.array([row["user_id"] in buyers for row in rows])
    assert hits.sum() > 60
    assert data["expected_buyers"] == pytest.approx(hits.sum(), rel=0.35)
    first = len(rows) // 10
    promised = sum(float(row["probability"]) for row in rows[:first])
    assert promised == pytest.approx(hits[:first].sum(), rel=0.5)
    assert hits[:first].mean() > 2 * hits.mean()
