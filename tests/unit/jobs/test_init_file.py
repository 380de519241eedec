import re
import tomllib
from pathlib import Path

import pytest
from pydantic import BaseModel
from tiny import quiet

from jobs.init_file import commented_toml, sample, write
from recsys.config.loading import load_config
from recsys.config.settings import Config, SourceSettings
from recsys.errors import ConfigError
from recsys.source.shops.contract import SHOPS, find_shop


def test_the_written_file_is_the_default_configuration(tmp_path: Path) -> None:
    path = tmp_path / "recsys.toml"
    assert write(path)
    assert load_config(path, {}) == load_config_of("", tmp_path)


def load_config_of(text: str, folder: Path) -> Config:
    other = folder / "other.toml"
    other.write_text(text)
    return load_config(other, {})


def test_a_file_that_is_there_is_not_written_over(tmp_path: Path) -> None:
    path = tmp_path / "recsys.toml"
    path.write_text("[training]\nseed = 5\n")
    assert not write(path)
    assert load_config(path, {}).training.seed == 5


@pytest.mark.parametrize("name", SHOPS)
def test_the_file_for_a_shop_system_has_its_queries_and_its_notes(name: str, tmp_path: Path) -> None:
    path = tmp_path / "recsys.toml"
    assert write(path, shop=name)
    config, shop = load_config(path, {}), find_shop(name)
    assert (config.source.url, config.source.timezone) == (shop.url, shop.timezone)
    for query in (config.source.interactions, config.source.items, config.source.users):
        assert query is not None
        assert "{" not in query
    text = path.read_text()
    assert all(f"# - {note}" in text for note in shop.notes)
    assert config.model_copy(update={"source": SourceSettings()}) == load_config_of("", tmp_path)


def test_the_tables_of_a_shop_system_may_have_another_prefix(tmp_path: Path) -> None:
    for prefix, table in ((None, "wp_wc_orders"), ("x7_", "x7_wc_orders"), ("", " wc_orders")):
        path = tmp_path / f"{prefix}.toml"
        write(path, shop="woocommerce", prefix=prefix)
        assert table in path.read_text()
        assert table == "wp_wc_orders" or "wp_" not in (load_config(path, {}).source.interactions or "")


@pytest.mark.parametrize(
    ("shop", "prefix", "message"),
    [
        ("opencart", None, "unknown name 'opencart'; known: woocommerce, woocommerce-posts, magento"),
        ("pathlib:Path", None, "'pathlib:Path' is no recsys.source.shops.contract.Shop"),
        ("shopware", "sw_", "--prefix 'sw_': the tables of shopware have no prefix"),
        ("magento", "m; DROP", "--prefix 'm; DROP': allowed are letters, digits and _"),
        (None, "wp_", "--prefix 'wp_' is of the tables of a shop system; name it with --shop"),
    ],
)
def test_what_is_no_shop_system_is_refused_and_nothing_is_written(
    shop: str | None, prefix: str | None, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        write(tmp_path / "recsys.toml", shop=shop, prefix=prefix)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_there_is_no_place_for_a_shop_system(tmp_path: Path) -> None:
    path = tmp_path / "recsys.toml"
    path.write_text("# mine")
    with pytest.raises(ConfigError, match="exists and was not changed; --shop writes a new file"):
        write(path, shop="odoo")
    assert path.read_text() == "# mine"


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        write(tmp_path / "nowhere" / "recsys.toml")


def test_every_line_that_is_commented_out_is_right_when_it_is_taken_in() -> None:
    text = re.sub(r"^# (\w+ = )", r"\1", commented_toml(Config()), flags=re.MULTILINE)
    config = Config.model_validate(tomllib.loads(text))
    for name, section in config:
        for key in type(section).model_fields if isinstance(section, BaseModel) else ():
            default = getattr(getattr(Config(), name), key)
            found = getattr(section, key)
            assert found == default if default is not None else found is not None, f"{name}.{key}"


def test_every_key_that_is_unset_comes_with_an_example() -> None:
    assert "…" not in commented_toml(Config())


def test_what_differs_from_the_defaults_comes_back_from_the_file() -> None:
    values = {
        "events": {"aliases": {"buy it": "purchase"}, "half_life_days": [1e-5]},
        "models": {"mf": {"n_factors": [8]}},
        "alerts": {"webhook_url": "https://alerts.example.com/secret"},
        "source": {"url": 'sqlite:///Läden "x".db', "interactions": "SELECT\n1"},
    }
    config = Config.model_validate(values)
    assert Config.model_validate(tomllib.loads(commented_toml(config))) == config


def test_the_sample_folder_holds_a_shop_and_a_configuration_that_reads_it(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    output = sample(folder, users=50, items=30, events=500, seed=1, progress=quiet)
    config = load_config(folder / "recsys.toml", {})
    assert config.source.url == f"sqlite:///{folder / 'shop.db'}"
    assert Path(output.data["database"]).stat().st_size > 10_000
    assert sorted(path.name for path in folder.iterdir()) == ["recsys.toml", "shop.db"]


def test_a_sample_never_overwrites_a_configuration(tmp_path: Path) -> None:
    (tmp_path / "recsys.toml").write_text("# mine")
    with pytest.raises(ConfigError, match="there already"):
        sample(tmp_path, users=50, items=30, events=500, seed=1, progress=quiet)
    assert (tmp_path / "recsys.toml").read_text() == "# mine"


def test_the_sample_s_configuration_gets_the_name_that_is_asked_for(tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    sizes = {"users": 20, "items": 20, "events": 200, "seed": 0, "progress": quiet}
    with pytest.raises(ConfigError, match=r"other\.toml is not in .*shop"):
        sample(folder, config=tmp_path / "other.toml", **sizes)
    sample(folder, config=Path("mine.toml"), **sizes)
    assert load_config(folder / "mine.toml", {}).source.url == f"sqlite:///{folder}/shop.db"
    with pytest.raises(ConfigError, match=r"mine\.toml is there already|shop\.db is there already"):
        sample(folder, config=folder / "mine.toml", **sizes)
