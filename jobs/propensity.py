"""`recsys propensity`: how likely each customer buys again or is lost, and for how much, as CSV."""

import csv
import io
from contextlib import closing
from pathlib import Path
from typing import Any

from jobs.commands import open_shop
from jobs.output import Output, Table
from recsys.audience.export import check_place, guard_id
from recsys.audience.inputs import Inputs, check_lag, newest_moment, open_inputs
from recsys.config.settings import Config
from recsys.data.folder import replace_text
from recsys.data.times import rfc3339
from recsys.errors import RefusedError
from recsys.progress import Progress
from recsys.propensity.past_cuts import Totals
from recsys.serving.fresh_items import CatalogView
from recsys.serving.history import EventLog
from recsys.serving.propensity import FIGURES, Scored, score_in_blocks, values


def propensity(config: Config, *, out: Path, progress: Progress) -> Output:
    """Score every customer as of just after the newest known event, and write the figures of each window.

    Deleted users and users who never bought anything are left out. Raises RefusedError, with the reasons, when the
    live bundle has no scorer, and when it lies too far behind the events.
    """
    check_place(out)
    with closing(open_shop(config)) as store:
        progress("load", 0.0)
        inputs = open_inputs(config, store)
        progress("load", 1.0)
        windows = _windows(inputs)
        moment = newest_moment(inputs)
        check_lag(inputs, moment)
        text, sums, customers = _score(inputs, windows, moment, progress)
    replace_text(out, text)
    data: dict[str, Any] = {
        "as_of": rfc3339(moment),
        "bundle": inputs.bundle.version,
        "customers": customers,
        "windows": [_totals(inputs, window, sums[window]) for window in windows],
        "out": str(out),
    }
    return Output(data, _parts(data))


def _windows(inputs: Inputs) -> list[int]:
    """The windows of which the live bundle has a scorer. Raises RefusedError when there is none."""
    found = inputs.bundle.propensity
    if found is not None and found.scorers:
        return sorted(found.scorers)
    facts = {} if found is None else found.facts
    reasons = [f"  {days} days: {reason}" for days, about in facts.items() for reason in about.get("refused", [])]
    raise RefusedError(
        "\n".join(
            [f"the bundle {inputs.bundle.version} cannot tell who buys again; `recsys train` learns it", *reasons]
        )
    )


def _score(
    inputs: Inputs, windows: list[int], moment: int, progress: Progress
) -> tuple[str, dict[int, tuple[float, float]], int]:
    """The CSV file, the sums of probability and value for each window, and how many customers there are."""
    users, text = list(inputs.extract.users), io.StringIO()
    log, view = EventLog.of(inputs.extract, inputs.bundle, inputs.config), CatalogView(inputs.bundle)
    writer = csv.writer(text)
    writer.writerow(["user_id", *(f"{name}_{window}" for window in windows for name in FIGURES)])
    sums, customers = dict.fromkeys(windows, (0.0, 0.0)), 0
    for ids, scored in score_in_blocks(log, view, inputs.fresh, users, moment):
        customers += len(ids)
        for one in scored:
            buyers, value = sums[one.window]
            found = one.predictions
            sums[one.window] = (buyers + float(found.probability.sum()), value + float(found.value.sum()))
        for at, user_id in enumerate(ids):
            writer.writerow([guard_id(user_id)[0], *_figures(scored, at)])
        progress("score users", min(1.0, customers / max(1, len(users))))
    progress("score users", 1.0)
    return text.getvalue(), sums, customers


def _figures(scored: list[Scored], at: int) -> list[float | None]:
    return [values(one, at)[name] for one in scored for name in FIGURES]


def _totals(inputs: Inputs, window: int, sums: tuple[float, float]) -> dict[str, Any]:
    """The totals of a window with their intervals, and what past cuts say of its scorer."""
    found = inputs.bundle.propensity
    assert found is not None  # `_windows` says so
    facts = found.facts.get(str(window), {})
    told: dict[str, Any] = {
        "days": window,
        "trained_at": rfc3339(found.trained_at[window]),
        "model": facts.get("model"),
        "refused": facts.get("refused", []),
        "past": {name: facts.get("past", {}).get(name) for name in ("auc", "log_loss", "gini", "mean_error_of_buyers")},
    }
    for name, total in zip(("buyers", "value"), sums, strict=True):
        if spread := facts.get("totals", {}).get(name):
            low, high = Totals(**spread).interval(total)
            told[name] = {"expected": round(total, 2), "low": round(low, 2), "high": round(high, 2)}
    return told


def _parts(data: dict[str, Any]) -> list[Table | str]:
    rows = [
        [one["days"], one["model"], one["past"]["auc"], *(_interval(one.get(name)) for name in ("buyers", "value"))]
        for one in data["windows"]
    ]
    title = f"Propensity of {data['customers']} customers as of {data['as_of']}"
    columns = ("days", "model", "AUC on past cuts", "expected buyers (95 %)", "expected value (95 %)")
    kept = [one for one in data["windows"] if one["refused"]]
    warnings = [
        f"warning: {one['days']} days: the scorer of {one['trained_at']} was kept: {'; '.join(one['refused'])}"
        for one in kept
    ]
    return [Table(title, columns, rows), *warnings, f"written to {data['out']}"]


def _interval(total: dict[str, float] | None) -> str:
    return "" if total is None else f"{total['expected']:.0f} ({total['low']:.0f} to {total['high']:.0f})"
