"""Every shop system: its tables, `recsys init --shop`, a check without faults, and what is read of them.

MariaDB stands for MySQL.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from command_line import run_here
from databases import Databases
from key_checks import SINGLE
from road import parsed
from shop_systems import magento, odoo, prestashop, shopware, woocommerce
from shop_systems.story import (
    BLOCKED,
    BUNDLE,
    DELETED,
    DRAFT,
    GONE,
    GUEST,
    HIDDEN,
    OTHER_DRAFT,
    SAME_GUEST,
    SOLD_OUT,
    Story,
    told,
)
from tiny import quiet

from recsys.config.loading import load_config
from recsys.config.settings import Config
from recsys.source.dataset import Dataset, load
from recsys.source.shops.contract import SHOPS
from recsys.store.migrate import open_store

# name -> the module that tells the story, how it does so, and the kind of the database
SYSTEMS: dict[str, tuple[Any, Callable[[str, Story], None], str]] = {
    "woocommerce": (woocommerce, woocommerce.build, "mariadb"),
    "woocommerce-posts": (woocommerce, partial(woocommerce.build, in_posts=True), "mariadb"),
    "magento": (magento, magento.build, "mariadb"),
    "prestashop": (prestashop, prestashop.build, "mariadb"),
    "shopware": (shopware, shopware.build, "mariadb"),
    "odoo": (odoo, odoo.build, "postgresql"),
}


@pytest.fixture(scope="module")
def story() -> Story:
    return told()


@pytest.fixture(scope="module", params=SYSTEMS)
def system(
    request: pytest.FixtureRequest, databases: Databases, story: Story, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Path]]:
    """A shop system's name, and a folder with the configuration that `recsys init --shop` wrote for its database."""
    module, build, kind = SYSTEMS[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    with databases.fresh(kind, folder) as url:
        build(url, story)
        settings = folder / "recsys.toml"
        done = run_here("init", "--shop", request.param, "--config", str(settings))
        assert done.returncode == 0, done.stderr
        assert f"`recsys source check --config {settings}` comes next" in done.stdout.replace("\n", " ")
        text = settings.read_text().replace(json.dumps(load_config(settings, {}).source.url), json.dumps(url))
        zone = getattr(module, "ZONE", None)
        text = text.replace('# timezone = "Europe/Berlin"', f'timezone = "{zone}"') if zone else text
        settings.write_text(text)
        yield request.param, folder


def read(folder: Path) -> tuple[Config, Dataset]:
    config = load_config(folder / "recsys.toml", {})
    with closing(open_store(config.store.url, config.store.table_prefix)) as store:
        return config, load(config, store, now=store.now(), progress=quiet)


def test_there_is_a_story_for_every_shop_system() -> None:
    assert list(SYSTEMS) == list(SHOPS)


def test_the_check_finds_no_fault(system: tuple[str, Path], recsys: Any) -> None:
    report = parsed(recsys("source", "check", "--json", "--config", str(system[1] / "recsys.toml")))
    assert [found for found in report["findings"] if found["severity"] != "note"] == []
    assert {found["reason"] for found in report["findings"]} <= {
        "time without a zone",
        "item without catalog row",
        "purchase taken back by a return",
    }


def test_what_was_sold_is_read_and_nothing_else(system: tuple[str, Path], story: Story) -> None:
    name, folder = system
    module = SYSTEMS[name][0]
    _, found = read(folder)
    events = found.events
    bought = list(
        zip(
            found.users.ids_of(events.users), found.catalog.ids.ids_of(events.items), events.times.tolist(), strict=True
        )
    )
    expected = [
        (module.user_id(story, buyer.number), module.product_id(product), round(time.timestamp() * 1e6))
        for buyer, product, time in story.sold()
    ]
    assert sorted(bought) == sorted(expected)
    assert {found.kinds[code] for code in events.kinds} == {"purchase"}
    assert (events.values > 0).all()
    user, same = module.user_id(story, GUEST), module.user_id(story, SAME_GUEST)
    assert (user == same, [row[0] for row in bought].count(user)) == (True, 2)


def test_the_catalog_has_what_is_offered_with_title_price_category_and_stock(
    system: tuple[str, Path], story: Story
) -> None:
    name, folder = system
    module = SYSTEMS[name][0]
    _, found = read(folder)
    ids, table = found.catalog.ids, found.catalog.columns
    rows = {ids.id_of(row): values for row, values in enumerate(table.to_pylist())}
    without = {module.product_id(number) for number in (GONE, HIDDEN)}  # bought, and not offered any more
    offered = {module.product_id(number): product for number, product in story.offered().items()}
    assert rows.keys() == offered.keys() | without
    assert not {module.product_id(number) for number in (DRAFT, OTHER_DRAFT)} & rows.keys()
    assert all(rows[gone]["title"] is None for gone in without)
    for identifier, product in offered.items():
        row = rows[identifier]
        assert (row["title"], row["available"]) == (product.title, product.number != SOLD_OUT)
        assert row["price"] == pytest.approx(product.price)
        assert row["category"] == module.CATEGORY
        assert row["image_url"].startswith("https://shop.example/")
        assert row["created_at"] == 1_704_067_200_000_000  # 2024-01-01
        assert "brand" not in row or row["brand"] == "Vento"
    assert module.product_id(BUNDLE) in offered


def test_nobody_is_mailed_without_consent_and_deleted_buyers_and_guests_are_no_users(
    system: tuple[str, Path], story: Story
) -> None:
    name, folder = system
    module = SYSTEMS[name][0]
    _, found = read(folder)
    assert found.consent is not None
    consent = dict(zip(list(found.users), found.consent.to_pylist(), strict=True))
    assert not {module.user_id(story, number) for number in (DELETED, BLOCKED)} & consent.keys()
    for buyer in story.buyers.values():
        if not buyer.is_guest and not buyer.is_deleted:
            assert consent[module.user_id(story, buyer.number)] is module.consent(buyer)
    assert consent[module.user_id(story, GUEST)] in (None, False)


def test_it_trains_and_recommends(system: tuple[str, Path], story: Story, recsys: Any) -> None:
    name, folder = system
    module = SYSTEMS[name][0]
    settings = folder / "recsys.toml"
    environment = SINGLE | {"RECSYS_TRAINING__MODELS": '["mf"]'}
    trained = recsys("train", "--json", "--config", str(settings), **environment)
    assert trained.returncode == 0, trained.stderr
    buyer = module.user_id(story, 6)  # likes products 13 to 24
    [answer] = parsed(recsys("recommend", buyer, "-k", "3", "--json", "--config", str(settings), **environment))
    liked = {module.product_id(number) for number in range(13, 25)}
    bought = {module.product_id(product) for who, product, _ in story.sold() if who.number == 6}
    assert {hit["item_id"] for hit in answer["hits"]} == liked - bought
