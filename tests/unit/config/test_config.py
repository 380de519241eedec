"""The configuration refuses what is wrong and says what is allowed."""

from pathlib import Path

import pytest

from recsys.config import loading
from recsys.config.loading import load_config
from recsys.config.settings import Config
from recsys.config.toml import toml_value
from recsys.errors import ConfigError


def written(folder: Path, text: str) -> Path:
    path = folder / "recsys.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_missing_file_names_the_command_that_writes_one(tmp_path):
    with pytest.raises(ConfigError, match="recsys init"):
        load_config(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[sourc]\nurl = 'x'", "sourc: unknown key; allowed here: .*; meant may be source$"),
        ("[models.mf]\nrank = 3", "models.mf.rank: unknown key; allowed here: .*n_factors"),
        ("[models.mf]\nn_factors = [64, 0]", r"models.mf.n_factors.1: .*greater than or equal to 1 \(found 0\)"),
        ("[models.mf]\nn_factors = 64", r"models.mf.n_factors: should be a list in square brackets \(found 64\)$"),
        (
            "[models.mf]\nn_factors = [-8]",
            r"wrong:\n  models.mf.n_factors.0: .*greater than or equal to 1 \(found -8\)$",
        ),
        ("[training]\nmodels = ['mf', 'mf']", r"\[training\] models \['mf', 'mf'\]: allowed is each model once$"),
        ("[models.popularity]\nhalf_life_days = [0]", r"half_life_days.0: .*greater than 0 \(found 0\)"),
        ("[models.mf]\nrecency_half_life_days = [-1]", r"recency_half_life_days.0: .*greater than 0 \(found -1\)"),
        ("[models.two_tower]\ntemperatures = [0.0]", r"temperatures.0: .*greater than 0 \(found 0.0\)"),
        ("[models.sequence]\ntemperatures = [0.0]", r"temperatures.0: .*greater than 0 \(found 0.0\)"),
        ("[gate]\nmax_drop = 2", r"gate.max_relative_drop: .*less than 1 \(found 2\)"),
        ("[training]\ndevice = 'tpu'", r"training.device: .*'auto', 'cpu' or 'cuda' \(found 'tpu'\)"),
        ("[events.aliases]\nbuy = 'purchas'", "'purchas': allowed are view, cart, purchase"),
        ("[events]\nown_kinds = ['click']", "'click': allowed are view, cart, purchase"),
        ("[events.weights]\nview = -1", "must not be negative"),
        ("[events]\nhalf_life_days = [0]", "above 0"),
        ("[evaluation]\ntargets = ['order']", "'order': allowed are view, cart, purchase"),
        ("[source]\nitems = 'select 1'", "none for interactions"),
        ("[source]\ninteractions = 'select 1'", "no url"),
        (
            "[models.auto]\ncandidates = ['auto']",
            r"wrong:\n  \[models.auto\] candidates \['auto'\]: allowed is each model once",
        ),
        ("[store\n", "cannot be read"),
    ],
)
def test_a_wrong_file_is_refused_with_the_key_and_what_is_allowed(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message):
        load_config(written(tmp_path, text), {})


def test_the_environment_overrides_the_file(tmp_path):
    path = written(tmp_path, "[training]\nseed = 1\n")
    environment = {"RECSYS_TRAINING__SEED": "7", "RECSYS_STORE__URL": "postgresql://db/x", "RECSYS_CONFIG": "ignored"}
    config = load_config(path, environment)
    assert config.training.seed == 7
    assert config.store.url == "postgresql://db/x"


def test_a_typo_in_the_environment_is_refused():
    with pytest.raises(ConfigError, match=r"training\.sed: .*RECSYS_TRAINING__SED .*may be RECSYS_TRAINING__SEED"):
        load_config(None, {"RECSYS_TRAINING__SED": "7"})
    with pytest.raises(ConfigError, match=r"sorce: .*RECSYS_SORCE__URL .*may be RECSYS_SOURCE__URL$"):
        load_config(None, {"RECSYS_SORCE__URL": "sqlite:///shop.db"})


def test_a_variable_that_means_nothing_is_told_of_with_the_nearest_that_does(caplog):
    known = {"RECSYS_CONFIG": "x", "RECSYS_DUE": "x", "RECSYS_TEST_MARIADB_URL": "x", "HOME": "x"}
    load_config(None, known | {"RECSYS_STORE_URL": "sqlite:///x.db", "RECSYS_TRAINING__SEED": "7"})
    (told,) = [record.getMessage() for record in caplog.records]
    assert "RECSYS_STORE_URL is no known variable and counts for nothing" in told
    assert told.endswith("the nearest that is known is RECSYS_STORE__URL")
    load_config(None, known | {"RECSYS_IMPORT_COLUMNS": "x"})
    assert caplog.records[-1].getMessage().endswith("is RECSYS_IMPORT__COLUMNS")
    load_config(None, known | {"RECSYS_QQQ": "x"})
    assert caplog.records[-1].getMessage().endswith("RECSYS_QQQ is no known variable and counts for nothing")


def test_a_url_may_lie_in_a_file_of_its_own(tmp_path):
    for name, url in (
        ("shop", "postgresql://a:b@db/shop"),
        ("own", "sqlite:///own.db"),
        ("hook", "https://h.example/x"),
    ):
        (tmp_path / name).write_text(f"{url}\n")
    text = "[source]\nurl_file = 'shop'\ninteractions = 'SELECT 1'\n[alerts]\nwebhook_url_file = 'hook'\n"
    config = load_config(written(tmp_path, text), {"RECSYS_STORE__URL_FILE": str(tmp_path / "own")})
    assert config.source.url == "postgresql://a:b@db/shop"
    assert config.store.url == f"sqlite:///{tmp_path}/own.db"
    assert config.alerts.webhook_url.get_secret_value() == "https://h.example/x"


@pytest.mark.parametrize(
    ("holds", "url", "message"),
    [
        ("postgresql://a:SECRET@db/x", "url = 'sqlite:///x.db'", r"\[source\] has both url and url_file"),
        (None, "", r"\[source\] url_file: .*secret cannot be read \(FileNotFoundError\)"),
        (" \n", "", r"\[source\] url_file: .*secret is empty"),
        (b"\xff\xfe", "", r"secret cannot be read \(UnicodeDecodeError\)"),
    ],
)
def test_a_file_of_a_url_that_cannot_be_used_is_named_and_not_repeated(tmp_path, holds, url, message):
    if holds is not None:
        (tmp_path / "secret").write_bytes(holds if isinstance(holds, bytes) else holds.encode())
    with pytest.raises(ConfigError, match=message) as error:
        load_config(written(tmp_path, f"[source]\nurl_file = 'secret'\n{url}\n"), {})
    assert "SECRET" not in str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        "[alerts]\nwebhook_url = ['https://hooks.example/SECRET']",
        "[alerts]\nwebhook_url = 'ftp://hooks.example/SECRET'",
        "[source]\nurl = ['postgresql://shop:SECRET@db/shop']",
        "[store]\nurl = {main = 'postgresql://shop:SECRET@db/shop'}",
        "store = 'postgresql://shop:SECRET@db/shop'",
        "store = ['postgresql://shop:SECRET@db/shop']",
    ],
)
def test_an_address_is_not_repeated(tmp_path, text):
    with pytest.raises(ConfigError, match=r"url|store") as error:
        load_config(written(tmp_path, text), {})
    assert "SECRET" not in str(error.value)


@pytest.mark.parametrize("text", ["[store]\nurl = 'sqlite:///x.db'", "store = 5"])
def test_a_variable_that_names_a_key_in_what_is_no_table_is_refused(tmp_path, text):
    with pytest.raises(ConfigError, match=r"RECSYS_STORE__URL__X names a key in store(\.url)?, but that is no table"):
        load_config(written(tmp_path, text), {"RECSYS_STORE__URL__X": "1"})


def test_paths_are_relative_to_the_file(tmp_path):
    config = load_config(written(tmp_path, "[source]\nurl = 'sqlite:///shop.db'\n"), {})
    assert config.store.url == f"sqlite:///{tmp_path}/recsys.db"
    assert config.source.url == f"sqlite:///{tmp_path}/shop.db"
    assert config.storage.path == tmp_path / "recsys-data"


SHOP = {"url": "postgresql://reader:secret@old/shop", "interactions": "SELECT 1", "items": "SELECT 2"}


@pytest.mark.parametrize(
    "changed",
    [
        {"store": {"url": "sqlite:///other.db"}},
        {"storage": {"path": "elsewhere"}},
        {"source": {**SHOP, "url": "postgresql://reader:changed@new:5433/shop"}},
        {"source": {**SHOP, "url_file": "secret", "query_timeout_seconds": 5}},
        {"recommendations": {"allow_unlisted": True}},
        {"recommendations": {"exclude_sold_out": False}},
        {"api": {"port": 9000}},
    ],
)
def test_the_hash_does_not_follow_where_data_lies_or_how_it_is_served(changed):
    assert Config.model_validate({"source": SHOP, **changed}).hash() == Config.model_validate({"source": SHOP}).hash()


@pytest.mark.parametrize(
    "changed",
    [
        {"training": {"seed": 1}},
        {"source": {**SHOP, "interactions": "SELECT 3"}},
        {"source": {**SHOP, "timezone": "Europe/Berlin"}},
        {"recommendations": {"allow_repurchase": True}},
    ],
)
def test_the_hash_follows_what_shapes_a_bundle(changed):
    assert Config.model_validate({"source": SHOP, **changed}).hash() != Config.model_validate({"source": SHOP}).hash()


def place_of(config, place):
    for part in place:
        config = getattr(config, part)
    return config


OTHER_VALUES = {
    ("folder",): {"path": "elsewhere"},
    ("events", "kinds"): {"order": "purchase"},
    ("events", "same_event_minutes"): 3.0,
    ("recommendations", "repeats"): True,
    ("models", "mf", "ranks"): [7],
    ("models", "two_tower", "pass_events"): 5,
    ("models", "two_tower", "demands"): [0.1],
    ("models", "two_tower", "unit_items"): [False],
    ("models", "sequence", "pass_events"): 5,
    ("models", "sequence", "demands"): [0.1],
    ("gate", "max_drop"): 0.2,
    ("schedule", "limit_minutes"): 3.0,
    ("schedule", "attempts"): 9,
    ("api", "max_new_items"): 9,
}


@pytest.mark.parametrize(("old", "new"), loading.RENAMED.items(), ids=".".join)
def test_an_old_key_still_works_and_names_its_new_one(old, new, tmp_path, caplog):
    *tables, key = old
    value = OTHER_VALUES[old]
    text = toml_value(value) if not isinstance(value, dict) else None
    if text is None:
        lines = [f"[{'.'.join(old)}]", *(f"{name} = {toml_value(given)}" for name, given in value.items())]
    else:
        lines = [f"[{'.'.join(tables)}]", f"{key} = {text}"]
    file = tmp_path / "recsys.toml"
    file.write_text("\n".join(lines))
    config = load_config(file, {})
    assert f"{'.'.join(old)} is called {'.'.join(new)} now" in caplog.text
    assert place_of(config, new) != place_of(load_config(None, {}), new)
    assert load_config(file, {}) == config


def test_an_old_key_of_the_environment_overrides_the_new_one_of_the_file(tmp_path, caplog):
    file = tmp_path / "recsys.toml"
    file.write_text("[storage]\npath = 'of-the-file'\n[gate]\nmax_relative_drop = 0.1\n")
    config = load_config(file, {"RECSYS_FOLDER__PATH": "/of/the/environment", "RECSYS_GATE__MAX_DROP": "0.4"})
    assert (str(config.storage.path), config.gate.max_relative_drop) == ("/of/the/environment", 0.4)
    assert "RECSYS_GATE__MAX_DROP: gate.max_drop is called gate.max_relative_drop now" in caplog.text


def test_an_old_key_within_a_table_of_the_environment_still_works(caplog):
    config = load_config(None, {"RECSYS_MODELS__MF": "{ ranks = [16] }"})
    assert config.models.mf.n_factors == (16,)
    assert "the environment: models.mf.ranks is called models.mf.n_factors now" in caplog.text


def test_a_key_under_both_names_is_refused(tmp_path):
    file = tmp_path / "recsys.toml"
    file.write_text("[gate]\nmax_relative_drop = 0.1\nmax_drop = 0.2\n")
    with pytest.raises(ConfigError, match=r"both gate\.max_drop and gate\.max_relative_drop"):
        load_config(file, {})


def test_bought_is_what_has_to_be_foreseen_unless_it_is_configured():
    config = load_config(None, {})
    assert config.bought == config.evaluation.targets == ("purchase",)
    other = load_config(None, {"RECSYS_EVENTS__BOUGHT": '["cart", "purchase"]'})
    assert (other.bought_codes, other.target_codes) == ([1, 2], [2])
    with pytest.raises(ConfigError, match=r"bought 'rent': allowed are view, cart, purchase"):
        load_config(None, {"RECSYS_EVENTS__BOUGHT": '["rent"]'})
