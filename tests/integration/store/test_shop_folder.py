"""A data folder belongs to one shop: a second configuration is refused, and told what to do."""

import json
from pathlib import Path

import pytest
from command_line import run_here
from tiny import saved

from recsys.bundle import versions
from recsys.config.loading import load_config
from recsys.errors import RecsysError, RefusedError
from recsys.store.migrate import open_store
from recsys.store.shop import SHOP, check_shop, claim_folder

WINE, BOOKS = "postgresql://reader:secret@db.example.com/wine", "postgresql://reader:secret@db.example.com/books"


def test_the_first_to_claim_a_folder_keeps_it_and_another_source_or_other_tables_are_refused(store, tmp_path):
    folder = tmp_path / "data"
    check_shop(store, folder, WINE)  # it is nobody's yet
    claim_folder(store, folder, WINE)
    claim_folder(store, folder, "postgresql://other:account@db.example.com/wine?sslmode=require")
    with pytest.raises(RefusedError, match=r"belongs to another shop.*/wine.*/books.*recsys bundles claim"):
        claim_folder(store, folder, BOOKS)
    other = open_store(store.engine.url.render_as_string(hide_password=False), "books_")
    try:
        with pytest.raises(RefusedError, match=r"tables recsys_….*tables books_…"):
            check_shop(other, folder, WINE)
        claim_folder(other, folder, BOOKS, taken_over=True)
        check_shop(other, folder, BOOKS)
    finally:
        other.close()
    assert "secret" not in (folder / SHOP).read_text()


def test_a_folder_that_moves_with_its_files_stays_this_shop_s(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    for place in (here, there):
        store = open_store(f"sqlite:///{place / 'own.db'}")
        claim_folder(store, place / "data", f"sqlite:///{place / 'shop.db'}")
        store.close()
        if place == here:
            here.rename(there)


def test_a_shop_on_several_hosts_is_the_same_from_every_folder(sqlite_store, tmp_path, monkeypatch):
    hosts = "postgresql://reader@/wine?host=first:5432&host=second:5432"
    claim_folder(sqlite_store, tmp_path, hosts)
    monkeypatch.chdir("/")
    claim_folder(sqlite_store, tmp_path, f"{hosts}&target_session_attrs=any")
    with pytest.raises(RefusedError, match="first:5432,second:5432/books"):
        claim_folder(sqlite_store, tmp_path, hosts.replace("wine", "books"))


def test_a_shop_that_reads_its_own_tables_first_may_name_a_source_later(sqlite_store, tmp_path):
    claim_folder(sqlite_store, tmp_path, None)
    claim_folder(sqlite_store, tmp_path, WINE)
    claim_folder(sqlite_store, tmp_path, None)
    with pytest.raises(RefusedError):
        claim_folder(sqlite_store, tmp_path, BOOKS)


def test_a_damaged_mark_is_an_error_that_says_how_to_mend_it(sqlite_store, tmp_path):
    (tmp_path / SHOP).write_text("[")
    with pytest.raises(RecsysError, match=r"SHOP is damaged; `recsys bundles claim`"):
        check_shop(sqlite_store, tmp_path, None)


def two_shops(folder: Path) -> tuple[Path, Path]:
    """Two configurations with tables of their own and, by mistake, one data folder."""
    files = (folder / "wine.toml", folder / "books.toml")
    for file in files:
        file.write_text(f"[store]\nurl = 'sqlite:///{file.stem}.db'\n")
    return files


def test_a_second_configuration_neither_publishes_rolls_back_prunes_answers_nor_serves(tmp_path):
    wine, books = two_shops(tmp_path)
    names = saved(tmp_path / "recsys-data", 2)
    config = load_config(wine, {})
    store = open_store(config.store.url)
    claim_folder(store, config.storage.path, None)
    store.close()
    for words in (["publish", names[0]], ["rollback"], ["bundles", "prune"], ["recommend", "u1"], ["serve"], ["train"]):
        done = run_here(*words, "--config", books)
        assert done.returncode == 3, (words, done.stderr)
        assert "belongs to another shop" in done.stderr
    assert [v.live for v in versions.list_versions(config.storage.path)] == [True, False]
    assert run_here("rollback", "--config", wine).returncode == 0
    claimed = run_here("bundles", "claim", "--config", books, "--json")
    assert json.loads(claimed.stdout) == {"folder": str(tmp_path / "recsys-data")}
    assert run_here("publish", names[1], "--config", books).returncode == 0
    assert run_here("publish", names[0], "--config", wine).returncode == 3


def test_bundles_can_be_changed_while_the_database_is_away(tmp_path):
    settings = tmp_path / "recsys.toml"
    settings.write_text("[store]\nurl = 'postgresql://root@127.0.0.1:1/none'\n")
    saved(tmp_path / "recsys-data", 2)
    assert run_here("rollback", "--config", settings).returncode == 0
