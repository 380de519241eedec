"""Tables for people about models: metrics side by side, and what a blend was chosen from."""

from typing import Any

from jobs.output import Table
from recsys.training.gate import METRIC
from recsys.training.pipeline import Candidate

_NO_HELP = "beside the others it helps no more than chance would, as far as there was time to try"
_UNTRAINED = "its start, than which no epoch was better"


def holdout_table(candidates: list[Candidate], row: str) -> Table:
    """The candidates side by side, the metrics of one row of their evaluation."""
    return side_by_side(f"Holdout, {row.replace('_', ' ')}", {c.name: c.result.rows[row] for c in candidates})


def side_by_side(title: str, models: dict[str, dict[str, float]]) -> Table:
    """Metrics downwards, models across."""
    metrics = list(next(iter(models.values())))
    return Table(title, ["metric", *models], [[metric, *(m[metric] for m in models.values())] for metric in metrics])


def comparisons(candidates: list[Candidate]) -> list[Table]:
    """What a model that chose among others found on validation, where its settings say so."""
    return [comparison(c.name, c.vectors.settings) for c in candidates if "comparison" in c.vectors.settings]


def comparison(name: str, settings: dict[str, Any]) -> Table:
    """The candidates of a blend, their scores and weights, and why one has no weight."""
    weights = {part["model"]: part["weight"] for part in settings["parts"]}
    reasons = dict(settings["skipped"])
    for part in settings["parts"]:
        if part["settings"].get("epochs") == 0:
            reasons.setdefault(part["model"], _UNTRAINED)
    for model in set(settings["comparison"]) - set(weights) - {"blend"}:
        reasons.setdefault(model, _NO_HELP)
    rows = [
        [model, settings["comparison"].get(model, ""), weights.get(model, ""), reasons.get(model, "")]
        for model in dict.fromkeys([*settings["comparison"], *settings["skipped"]])
    ]
    columns = ["candidate", METRIC, "weight in the blend", "why none, or not in full"]
    return Table(f"Validation, what {name} chose from", columns, rows)
