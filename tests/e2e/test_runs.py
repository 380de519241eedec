"""What `recsys runs` tells of the ledger: a line a run, everything of one, what differs between two."""

import json
import sqlite3
from contextlib import closing

from road import parsed


def test_the_ledger_is_read_by_people_and_programs(trained_shop, recsys):
    settings = trained_shop / "recsys.toml"
    listed = recsys("runs", "--config", settings).stdout.splitlines()
    assert all(len(line) <= 80 for line in listed)
    assert listed[1].split()[:3] == ["1", "train", "done"]
    assert listed[1].rstrip().endswith("mf")

    settings.write_text(settings.read_text().replace("quantity", "no_such_column"))
    failed = recsys("train", "--config", settings)
    assert (failed.returncode, "missing column no_such_column" in failed.stderr) == (1, True)
    lines = recsys("runs", "--failed", "--config", settings).stdout.splitlines()
    assert [line.split()[2] for line in lines[1:]] == ["failed"]
    assert "missing column" in lines[1]

    shown = recsys("runs", "show", "1", "--config", settings).stdout
    for told in ("started by hand", "Steps", "peak MB", "Figures", "Events by kind and whole day", "Gate", "purchase"):
        assert told in shown, shown
    newest = parsed(recsys("runs", "show", "--json", "--config", settings))
    assert (newest["run_id"], newest["metrics"]["cause"]) == (2, "missing column no_such_column")
    assert "source" in newest["metrics"]["started"]["settings"]
    assert "url" not in newest["metrics"]["started"]["settings"]["source"]

    differing = parsed(recsys("runs", "diff", "--json", "--config", settings))
    assert differing["runs"] == [1, 2]
    assert differing["changed"]["status"] == ["done", "failed"]
    assert "setting source.interactions" in differing["changed"]
    assert "setting source.items" not in differing["changed"]
    assert "What differs" in recsys("runs", "diff", "1", "2", "--config", settings).stdout
    missing = recsys("runs", "show", "77", "--config", settings)
    assert (missing.returncode, "there is no run 77" in missing.stderr) == (1, True)


def test_a_training_prints_its_findings_and_a_scheduled_one_refuses_by_name(trained_shop, recsys):
    settings = trained_shop / "recsys.toml"
    with closing(sqlite3.connect(trained_shop / "shop.db")) as shop, shop:
        shop.execute("UPDATE products SET stock = 0")
    refused = recsys("train", "--scheduled", "--config", settings)
    assert refused.returncode == 3
    assert "available items: 0 items are available" in refused.stderr
    assert "available items" in recsys("runs", "--config", settings).stdout.splitlines()[1]
    done = recsys("train", "--force", "we have sold out", "--config", settings)
    assert done.returncode == 0, done.stderr
    assert "warning: available items: " in done.stdout
    assert "within their bounds" in done.stdout
    assert "note: " in done.stdout
    run = json.loads(recsys("runs", "show", "--json", "--config", settings).stdout)
    assert run["metrics"]["started"]["forced"] == "we have sold out"
    assert recsys("train", "--force", " ", "--config", settings).returncode == 2
