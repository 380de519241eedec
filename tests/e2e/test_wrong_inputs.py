"""Wrong inputs get a clear error or a right answer, and nothing is lost or half-written."""

import os
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
from road import configured, parsed
from tiny import quiet

from jobs.train import train
from recsys.bundle import bundle as bundles
from recsys.errors import BundleError, RecsysError


def change(folder, script):
    with sqlite3.connect(folder / "shop.db") as connection:
        connection.executescript(script)


def replaced(folder, old, new):
    path = folder / "recsys.toml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new", "code", "message"),
    [
        ("customer_id AS user_id", "customer_id AS buyer", 1, "user_id"),
        ("sqlite:///shop.db", "sqlite:///missing.db", 1, "missing.db"),
        ("sqlite:///shop.db", "postgresql://nobody:secret@127.0.0.1:1/shop", 1, "127.0.0.1"),
        ("sqlite:///shop.db", "oracle://shop", 2, "oracle"),
        ("FROM page_views", "FROM page_view", 1, "page_view"),
        ("[source]", "[sauce]", 2, "unknown key"),
        ('models = ["mf"]', 'models = ["mff"]', 2, "known: popularity, mf, two_tower, sequence, auto"),
    ],
    ids=["missing column", "missing file", "no server", "unknown database", "missing table", "typo", "unknown model"],
)
def test_a_wrong_setting_is_named(shop, recsys, old, new, code, message):
    replaced(shop, old, new)
    done = recsys("train", "--config", shop / "recsys.toml")
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert "secret" not in done.stderr
    assert "Traceback" not in done.stderr
    assert not (shop / "recsys-data" / "bundles" / "CURRENT").exists()


NO_GPU = pytest.mark.skipif(Path("/dev/nvidia0").exists(), reason="here it is allowed")


@pytest.mark.parametrize("command", ["train", "evaluate"])
@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        (
            "TRAINING__MODELS",
            '["mf", "mff"]',
            "[training] models: unknown name 'mff'; known: popularity, mf, two_tower,",
        ),
        ("MODELS__AUTO__CANDIDATES", '["mff"]', "[models.auto] candidates: unknown name 'mff'; known: popularity, mf,"),
        ("TRAINING__MODELS", '["shop.models:best"]', "'shop.models:best' cannot be loaded"),
        ("INDEX__KIND", "cubic", "[index] kind: unknown name 'cubic'; known: flat"),
        pytest.param("TRAINING__DEVICE", "cuda", 'device is "cuda", but torch finds no GPU', marks=NO_GPU),
    ],
)
def test_a_name_that_nobody_knows_is_told_before_anything_is_read(shop, recsys, command, variable, value, message):
    change(shop, "DROP TABLE page_views")  # whoever reads fails with code 1
    environment = {"RECSYS_TRAINING__MODELS": '["auto"]', f"RECSYS_{variable}": value}
    done = recsys(command, "--config", shop / "recsys.toml", **environment)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    [run] = parsed(recsys("runs", "--config", shop / "recsys.toml", "--json"))
    assert (run["status"], run["steps"]) == ("failed", [])
    assert message in run["error"]


@pytest.mark.parametrize(
    "command", [["recommend"], ["similar"], ["audience", "--size", "5", "--out", "a.csv", "--items"]]
)
@pytest.mark.parametrize("identifier", ["\udcff", "", "x" * 256], ids=["no text", "empty", "too long"])
def test_an_id_that_cannot_be_one_is_wrong_usage(shop, recsys, command, identifier):
    done = recsys(*command, identifier, "--config", shop / "recsys.toml")
    assert done.returncode == 2, done.stderr
    assert "allowed are 1 to 255 characters" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_the_words_of_a_database_are_for_the_terminal_alone(shop, recsys):
    replaced(shop, "FROM page_views", "FROM page_view")
    message = recsys("train", "--config", shop / "recsys.toml")
    assert "no such table: page_view" in message.stderr
    logged = recsys("train", "--config", shop / "recsys.toml", RECSYS_DUE="night 1")
    assert "no such table" not in logged.stderr
    assert "the query of interactions failed" in logged.stderr
    assert "missing table page_view" in logged.stderr  # the configuration's own word, not one of the database
    errors = [run["error"] for run in parsed(recsys("runs", "--config", shop / "recsys.toml", "--json"))]
    assert ["OperationalError SQLITE_ERROR" in error and "no such table" not in error for error in errors] == [
        True,
        True,
    ]


def test_an_empty_shop_is_refused(shop, recsys):
    change(shop, "DELETE FROM page_views; DELETE FROM cart_events; DELETE FROM order_lines; DELETE FROM orders;")
    done = recsys("train", "--config", shop / "recsys.toml")
    assert done.returncode == 3
    assert "no event" in done.stderr


@pytest.mark.parametrize("column", ["customer_id", "sku"])
def test_one_user_or_one_item_is_a_clear_refusal_or_a_bundle(shop, recsys, column):
    value = "1001" if column == "customer_id" else "(SELECT min(sku) FROM products)"
    change(shop, f"UPDATE page_views SET {column} = {value}; UPDATE cart_events SET {column} = {value};")
    table = "orders" if column == "customer_id" else "order_lines"
    change(shop, f"UPDATE {table} SET {column} = {value}")
    done = recsys("train", "--config", shop / "recsys.toml")
    assert done.returncode in (0, 3), done.stderr
    assert "Traceback" not in done.stderr


def test_a_date_in_the_year_3000_is_left_out_and_counted(shop, recsys):
    change(
        shop, "UPDATE page_views SET viewed_at = '3000-01-01T00:00:00' WHERE id IN (SELECT id FROM page_views LIMIT 3)"
    )
    report = parsed(recsys("source", "check", "--config", shop / "recsys.toml", "--json"))
    [finding] = [f for f in report["findings"] if "future" in f["reason"]]
    assert finding["rows"] == 3
    assert finding["severity"] == "warning"
    done = parsed(recsys("train", "--config", shop / "recsys.toml", "--json"))
    assert done["published"]


def test_many_dates_in_the_future_are_refused(shop, recsys):
    change(shop, "UPDATE page_views SET viewed_at = '3000-01-01T00:00:00' WHERE id % 2")
    done = recsys("source", "check", "--config", shop / "recsys.toml")
    assert done.returncode == 3
    refused = recsys("train", "--config", shop / "recsys.toml")
    assert refused.returncode == 3
    assert "future" in refused.stderr
    assert "3000-01-01" in done.stdout
    assert "3000-01-01" not in refused.stderr  # examples of rows belong in no ledger and no alert


COMMANDS = (
    ["train"],
    ["recommend", "1001"],
    ["similar", "P00001"],
    ["audience", "--items", "P00001", "--size", "5", "--out", os.devnull],
    ["bundles"],
    ["publish", "x"],
    ["rollback"],
    ["serve", "--port", "0"],
)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda words: words[0])
def test_a_file_in_the_place_of_the_folder_is_named(shop, recsys, command):
    (shop / "taken").write_text("a file")
    done = recsys(*command, "--config", shop / "recsys.toml", RECSYS_STORAGE__PATH="taken")
    assert done.returncode == 1, done.stderr
    assert f"{shop / 'taken'} is a file; [storage] path needs a folder" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture
def unwritable(tmp_path):
    """A folder that may be read but not written to, by root neither."""
    folder = tmp_path / "unwritable"
    folder.mkdir()
    if os.geteuid() != 0:
        folder.chmod(0o500)
        yield folder
        folder.chmod(0o700)
        return
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_folder_that_cannot_be_written_to_is_named_before_anything_is_read(shop, recsys, unwritable):
    settings = shop / "recsys.toml"
    done = recsys("train", "--config", settings, RECSYS_STORAGE__PATH=str(unwritable / "bundles of the shop"))
    assert done.returncode == 1, done.stderr
    assert f"{unwritable} may not be written to; [storage] path needs a folder" in done.stderr
    assert "Traceback" not in done.stderr
    [run] = parsed(recsys("runs", "--config", settings, "--json"))
    assert (run["status"], run["steps"]) == ("failed", [])


@pytest.mark.parametrize("name", ["item_vectors.npy", "items.arrow", "index.faiss", "popularity.npy", "manifest.json"])
def test_a_flipped_byte_is_noticed(trained_shop, recsys, name):
    folder = trained_shop / "recsys-data"
    live = bundles.load(folder)
    path = folder / "bundles" / live.version / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(BundleError, match=name):
        bundles.load(folder)
    done = recsys("recommend", "1001", "--config", trained_shop / "recsys.toml")
    assert done.returncode == 1
    assert name in done.stderr
    train(configured(trained_shop), progress=quiet)
    assert bundles.load(folder).version != live.version


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small file system")
def test_a_full_disk_leaves_the_live_bundle(trained_shop, tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", small], check=True)
    try:
        folder = trained_shop / "recsys-data"
        subprocess.run(["cp", "-a", f"{folder}/.", small], check=True)
        before = bundles.load(small).version
        (small / "ballast").write_bytes(b"x" * (free(small) - 100_000))
        config = configured(trained_shop, RECSYS_STORAGE__PATH=str(small))
        with pytest.raises(RecsysError, match="No space left"):
            train(config, progress=quiet, full=True)
        assert bundles.load(small).version == before
        assert not list(small.glob("*/.tmp*"))
        (small / "ballast").unlink()
        train(config, progress=quiet, full=True)
        assert bundles.load(small).version != before
    finally:
        subprocess.run(["umount", "--lazy", small], check=True)  # whatever the failure of a check keeps open


def free(folder):
    status = os.statvfs(folder)
    return status.f_bavail * status.f_bsize


def test_own_tables_that_are_locked_for_long_are_told_in_a_line(trained_shop, recsys, monkeypatch):
    monkeypatch.setattr("recsys.store.database._BUSY_SECONDS", 0.1)
    with closing(sqlite3.connect(trained_shop / "recsys.db")) as other:
        other.execute("BEGIN EXCLUSIVE")
        done = recsys("train", "--config", trained_shop / "recsys.toml")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert "the service's own database failed" in done.stderr
    assert "others held what was needed for too long" in done.stderr
