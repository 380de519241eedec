"""What the check says of the events as a whole: who can judge, silences, and who has too many."""

from collections.abc import Sequence

import numpy as np
import pytest

from recsys.config.settings import Config
from recsys.data.interactions import Interactions
from recsys.data.splits import split_by_time
from recsys.data.targets import targets_of
from recsys.source.evaluation_check import evaluation_findings, longest_gap
from recsys.source.findings import Finding

DAY = 86_400_000_000
FIRST = 20_454 * DAY  # 2026-01-01
VIEW, CART, PURCHASE = 0, 1, 2
Row = tuple[int, int, int, float, float]  # user, item, kind, day, value


def events(rows: Sequence[Row]) -> Interactions:
    users, items, kinds, days, values = (np.array(column) for column in zip(*rows, strict=True))
    return Interactions.from_rows(
        users.astype(np.int32),
        items.astype(np.int32),
        kinds.astype(np.int8),
        FIRST + (days * DAY).astype(np.int64),
        values.astype(np.float32),
        user_count=int(users.max()) + 2,
        item_count=int(items.max()) + 2,
    )


def shop(days: int = 150, users: int = 60, kinds: Sequence[int] = (VIEW, PURCHASE)) -> list[Row]:
    """A shop in which everything is as it should be: every day somebody looks and somebody buys."""
    random = np.random.default_rng(5)
    rows = []
    for at in range(days * 8):
        user, item = int(random.integers(users)), int(random.integers(40))
        rows.append((user, item, kinds[at % len(kinds)], at / 8, 5.0))
    return rows


def findings(rows: Sequence[Row], **tables: dict[str, object]) -> dict[str, Finding]:
    config = Config.model_validate(tables)
    found = evaluation_findings(events(rows), config, user_id=lambda row: f"u{row}", item_id=lambda row: f"i{row}")
    return {finding.reason: finding for finding in found}


def test_a_shop_as_it_should_be_has_no_finding() -> None:
    assert findings(shop()) == {}


def test_without_an_event_of_a_target_kind_the_kinds_that_are_there_are_named() -> None:
    found = findings(shop(kinds=(VIEW, CART)))["no event to judge by"]
    assert (found.severity, found.is_of_evaluation) == ("error", True)
    assert "[evaluation] targets (purchase)" in found.advice
    assert "view (600), cart (600)" in found.advice
    assert findings(shop(kinds=(VIEW, CART)), evaluation={"targets": ["cart"]}) == {}


def test_when_the_last_purchase_is_before_the_holdout_its_day_is_named() -> None:
    rows = [row for row in shop(300) if row[2] == VIEW or row[3] < 250]
    found = findings(rows)
    assert found["no event to judge by in the holdout"].severity == "error"
    assert "is of 2026-09-07; the holdout begins on 2026-09-29" in found["no event to judge by in the holdout"].advice
    assert "50 days before the newest events" in found["kind that stops: purchase"].advice
    assert "no event to judge by in the holdout" not in findings(rows, evaluation={"holdout_days": 60.0})


def test_one_order_long_after_all_others_is_told_of_with_the_gap() -> None:
    rows = [*shop(), (3, 7, PURCHASE, 302.0, 5.0)]
    found = findings(rows)
    advice = found["nobody to judge by" if "nobody to judge by" in found else "few users to judge by"].advice
    assert "before the last event there is a gap of 153 days from 2026-05-30 to 2026-10-30" in advice
    assert found["gap in time: all kinds"].rows == 1
    assert not any(reason.startswith("kind that stops") for reason in found)


@pytest.mark.parametrize("buys_before", [True, False])
def test_users_of_one_order_each_cannot_be_judged_by(buys_before: bool) -> None:
    rows = [(at, at % 40, PURCHASE, at / 4, 5.0) for at in range(600)]
    if buys_before:
        rows += [(at, (at + 1) % 40, VIEW, 0.0, 5.0) for at in range(600)]
        assert "nobody to judge by" not in findings(rows)
        return
    found = findings(rows)
    assert "is user_id a person" in found["nobody to judge by"].advice
    assert found["users of one visit"].rows == 600


def test_who_buys_the_same_again_judges_only_when_that_is_allowed() -> None:
    rows = [(user, user % 20, PURCHASE, day, 5.0) for user in range(40) for day in range(100)]
    found = findings(rows)["nobody to judge by"]
    assert found.severity == "error"
    assert "[recommendations] allow_repurchase" in found.advice
    assert "nobody to judge by" not in findings(rows, recommendations={"allow_repurchase": True})


def test_one_time_for_everything_is_named() -> None:
    found = findings([(user, item, PURCHASE, 3.0, 5.0) for user in range(30) for item in range(3)])
    assert "2026-01-04 00:00:00" in found["one time for all events"].advice


def test_few_users_to_judge_by_and_none_to_choose_settings_by_are_warnings() -> None:
    rows = [row for row in shop() if row[2] == VIEW or row[3] < 90 or row[3] > 148]
    found = findings(rows)
    assert found["few users to judge by"].severity == "warning"
    assert 0 < found["few users to judge by"].rows < 20
    assert (
        "before 2026-04-04 and a new item of [evaluation] targets (purchase) from then to 2026-05-02"
        in found["nobody to choose settings by"].advice
    )


def test_judges_are_counted_as_the_evaluation_counts_them() -> None:
    rows = [(at % 30, (at * at) % 23, PURCHASE, at / 3, 5.0) for at in range(18)] + shop(40, 30)
    config, of_all = Config(), events(rows)
    splits = split_by_time(of_all, validation_days=28.0, holdout_days=28.0)
    targets = targets_of(splits.holdout, splits.known, target_codes=[PURCHASE], bought_codes=[PURCHASE])
    found = evaluation_findings(of_all, config, user_id=str, item_id=str)
    [few] = [finding for finding in found if finding.reason == "few users to judge by"]
    assert few.rows == len(targets) > 0


def test_a_closed_season_is_a_gap_and_quiet_days_of_a_small_shop_are_none() -> None:
    daily = FIRST + np.arange(300) * DAY
    closed = daily[(daily < daily[100]) | (daily > daily[160])]
    gap = longest_gap(closed)
    assert gap is not None
    assert (gap.days, str(gap)) == (62, "62 days from 2026-04-10 to 2026-06-11")
    rare = FIRST + np.random.default_rng(0).integers(0, 2000, 60) * DAY
    assert longest_gap(rare) is None
    assert longest_gap(daily[:1]) is None


def test_a_kind_alone_may_have_a_gap() -> None:
    rows = [row for row in shop(200) if row[2] == VIEW or not 60 <= row[3] < 120]
    found = findings(rows)
    assert "no event of purchase for 61 days" in found["gap in time: purchase"].advice
    assert "gap in time: all kinds" not in found


def test_guests_under_one_id_and_a_bot_are_shown_with_their_share() -> None:
    guests = [(60, at % 40, PURCHASE, at / 4, 5.0) for at in range(590)]
    found = findings([*shop(), *guests])["user with an unusual share"]
    assert (found.severity, found.rows, found.examples) == ("warning", 590, ("user_id='u60': 590",))
    assert "33.0% of all events" in found.advice
    assert "u60" not in found.advice


def test_guests_who_only_buy_are_found_among_the_purchases() -> None:
    views = [(at % 2000, at % 40, VIEW, at / 300, 5.0) for at in range(45_000)]
    guests = [(2000, at % 40, PURCHASE, at / 3, 5.0) for at in range(440)]
    found = findings([*shop(), *views, *guests])["user with an unusual share"]
    assert "of the events of [evaluation] targets (purchase)" in found.advice


def test_shipping_sold_as_an_item_is_shown_with_its_share() -> None:
    # Of 400 products one lies in every order.
    rows = [(at % 60, at % 400, PURCHASE, at / 8, 5.0) for at in range(1200)]
    fees = [(at % 60, 400, PURCHASE, at / 8 + 0.001, 5.0) for at in range(600)]
    found = findings([*rows, *fees])["item with an unusual share"]
    assert found.examples == ("item_id='i400': 600",)


def test_negative_values_are_counted() -> None:
    rows = [*shop(), (1, 2, PURCHASE, 30.0, -12.5), (1, 3, PURCHASE, 31.0, float("nan"))]
    found = findings(rows)["negative value"]
    assert (found.severity, found.rows) == ("warning", 1)
