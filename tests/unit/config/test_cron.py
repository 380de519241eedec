"""Cron entries mean what crontab means by them, and what cannot be read is refused with what is allowed."""

import pytest

from recsys.config.cron import parse_cron, time_zone
from recsys.config.loading import load_config
from recsys.errors import ConfigError


@pytest.mark.parametrize(
    ("entry", "field", "numbers"),
    [
        ("0 2 * * *", "minutes", (0,)),
        ("0 2 * * *", "hours", (2,)),
        ("0 2 * * *", "days", tuple(range(1, 32))),
        ("*/20 * * * *", "minutes", (0, 20, 40)),
        ("5/20 * * * *", "minutes", (5, 25, 45)),
        ("10-40/15 * * * *", "minutes", (10, 25, 40)),
        ("0 22,2-4 * * *", "hours", (2, 3, 4, 22)),
        ("0 2 * JAN,jul-sep *", "months", (1, 7, 8, 9)),
        ("0 2 * * 0", "weekdays", (0,)),
        ("0 2 * * 7", "weekdays", (0,)),
        ("0 2 * * sun", "weekdays", (0,)),
        ("0 2 * * mon-fri", "weekdays", (1, 2, 3, 4, 5)),
        ("0 2 * * 5-7", "weekdays", (0, 5, 6)),
        ("0 2 * * *", "weekdays", (0, 1, 2, 3, 4, 5, 6)),
        ("0 2 29 2 *", "days", (29,)),
    ],
)
def test_an_entry_means_what_crontab_means(entry, field, numbers):
    assert getattr(parse_cron(entry), field) == numbers


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("", "has 0 fields; a cron entry is five fields"),
        ("0 2 * *", "has 4 fields"),
        ("0 0 2 * * *", "has 6 fields"),
        ("@dayly", "has 1 fields"),
        ("60 2 * * *", "minute '60' is unknown; allowed are 0 to 59"),
        ("0 24 * * *", "hour '24'"),
        ("0 2 0 * *", "day '0'"),
        ("0 2 * 13 *", "month '13' is unknown; allowed are 1 to 12 or jan"),
        ("0 2 * * 8", "weekday '8' is unknown; allowed are 0 to 7 or sun"),
        ("0 2 * * mo", "weekday 'mo'"),
        ("-5 2 * * *", "minute '-5' cannot be read"),
        ("0 2-1 * * *", "hour '2-1' is empty or runs backwards"),
        ("*/0 2 * * *", "is empty"),
        ("0 1.5 * * *", "hour '1.5' cannot be read"),
        ("0 ² * * *", "hour '²'"),
        ("0 2,, * * *", "cannot be read"),
        ("0 1-2-3 * * *", "cannot be read"),
        ("0 2 1 * mon", "names days of the month and weekdays"),
        ("0 2 31 2,4 *", "would never be due"),
        ("0 2 30 2 *", "would never be due"),
    ],
)
def test_an_entry_that_cannot_be_read_is_refused_when_the_configuration_is_loaded(tmp_path, entry, message):
    path = tmp_path / "recsys.toml"
    path.write_text(f"[schedule]\ntrain = '{entry}'\n")
    with pytest.raises(ConfigError) as refusal:
        load_config(path, {})
    assert message in str(refusal.value)
    assert str(path) in str(refusal.value)


@pytest.mark.parametrize("zone", ["Europe/Berln", "../etc/passwd", "", "/etc/localtime"])
def test_an_unknown_zone_is_refused(tmp_path, zone):
    path = tmp_path / "recsys.toml"
    path.write_text(f"[schedule]\nzone = '{zone}'\n")
    with pytest.raises(ConfigError, match=r"the zone .* is unknown; allowed are UTC and names as"):
        load_config(path, {})


def test_the_environment_sets_an_entry_without_quotes():
    config = load_config(None, {"RECSYS_SCHEDULE__TRAIN": "0 2 * * *", "RECSYS_SCHEDULE__ZONE": "Europe/Berlin"})
    assert config.schedule.train == "0 2 * * *"
    assert str(time_zone(config.schedule.zone)) == "Europe/Berlin"


@pytest.mark.parametrize("url", ["ftp://host/x", "https://", "hooks/x", "https://me:secret@host/x", "http://host:0/x"])
def test_a_webhook_that_cannot_be_posted_to_is_refused_without_repeating_it(url):
    with pytest.raises(ConfigError, match="allowed is http") as refusal:
        load_config(None, {"RECSYS_ALERTS__WEBHOOK_URL": url})
    assert url not in str(refusal.value)


def test_the_webhook_is_a_secret_in_whatever_is_printed_and_changes_no_bundle():
    config = load_config(None, {"RECSYS_ALERTS__WEBHOOK_URL": "https://host/token"})
    assert "token" not in str(config)
    assert "token" not in str(config.model_dump(mode="json"))
    assert config.hash() == load_config(None, {}).hash()
