"""`recsys campaign backtest`: how many buyers were expected in past weeks and how many came, with a picture of it."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from jobs.audience import item_rows, targets
from jobs.backtest_plot import draw_svg
from jobs.commands import open_shop
from jobs.output import Output, Table
from recsys.audience.backtest import look_back, summarize
from recsys.audience.export import check_place
from recsys.audience.inputs import open_inputs
from recsys.config.settings import Config
from recsys.data.folder import replace_text
from recsys.progress import Progress


def backtest(
    config: Config,
    *,
    items: Sequence[str] = (),
    filters: Sequence[str] = (),
    weeks: int = 8,
    days: float = 7.0,
    size: int | None = None,
    out: Path | None = None,
    progress: Progress,
) -> Output:
    """Tell at each of past weeks who buys one of the items within `days`, from what was known by then, and compare.

    items, filters: as of an audience; without any, who buys anything. size: the first so many count; None: all
    users. out: an SVG file with the weeks and the calibration plot. Raises RefusedError when the events do not reach
    back far enough.
    """
    if out is not None:
        check_place(out)
    with closing(open_shop(config)) as store:
        progress("load", 0.0)
        inputs = open_inputs(config, store)
        progress("load", 1.0)
        asked = targets(items, filters, inputs.bundle) if items or filters else ()
        rows = item_rows(asked, inputs.bundle)
        most = len(inputs.users) if size is None else size
        moments = look_back(inputs, rows, weeks=weeks, days=days, size=most, progress=progress)
        version = inputs.bundle.version
    data = {"items": list(asked), "days": days, "bundle": version, **summarize(moments), "out": out and str(out)}
    if out is not None:
        replace_text(out, draw_svg(data))
    return Output(data, _parts(data))


def _parts(data: dict[str, Any]) -> list[Table | str]:
    weeks = [
        (one["as_of"][:10], one["users"], one["expected"], one["actual"], _ratio(one["expected"], one["actual"]))
        for one in data["weeks"]
    ]
    bins = [
        (f"{one['from']:g} to {one['to']:g}", one["users"], one["mean"], one["bought"]) for one in data["calibration"]
    ]
    about = f"one of {len(data['items'])} items" if data["items"] else "anything"
    error = "unknown: nobody bought" if data["mean_error"] is None else f"{100 * data['mean_error']:.0f} %"
    return [
        Table(
            f"Who bought {about} within {data['days']:g} days: expected, and what came",
            ("from", "users", "expected buyers", "actual buyers", "expected / actual"),
            weeks,
        ),
        f"all weeks: {data['expected']:.1f} expected, {data['actual']} came; mean error of a week {error}",
        Table(
            "Users of all weeks by probability", ("probability", "users", "mean probability", "share who bought"), bins
        ),
        *([f"written to {data['out']}"] if data["out"] else []),
    ]


def _ratio(expected: float, actual: int) -> float | None:
    return round(expected / actual, 2) if actual else None
