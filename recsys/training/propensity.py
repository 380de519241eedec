"""Train who buys again: one scorer a window. Where one is refused, the live bundle's stays."""

from typing import Any

from recsys.bundle.bundle import Bundle
from recsys.models.budget import Budget
from recsys.propensity.files import Propensity, align, plain
from recsys.propensity.inputs import categories_of, days_of
from recsys.propensity.training import learn
from recsys.training.pipeline import TrainingRun

_SHARE = 0.1  # of the training's time, for all windows together


def learn_propensity(run: TrainingRun, live: Bundle | None) -> Propensity:
    """Learn every configured window from all events; keep the live bundle's scorer of a window that is refused.

    The step of the run says of each window which model was chosen, or why it was refused.
    """
    config, catalog, now = run.config, run.dataset.catalog, run.as_of
    category_of, categories = categories_of(catalog)
    former = _former(run, live, categories)
    with run.step("propensity") as counts:
        days = days_of(run.dataset.events, category_of, config.bought_codes, now)
        scorers, trained_at, facts = {}, {}, dict[str, Any]()
        for window in config.propensity.windows_days:
            found = learn(
                days,
                window,
                item_count=len(catalog),
                category_count=len(categories),
                seed=config.training.seed,
                device=config.training.device,
                budget=Budget(_SHARE * config.training.budget_minutes * 60 / len(config.propensity.windows_days)),
                progress=run.progress,
            )
            facts[str(window)] = found.facts
            counts[str(window)] = {"model": found.facts.get("model"), "refused": list(found.reasons)}
            if found.facts.get("dropped"):
                counts[str(window)]["dropped"] = found.facts["dropped"]
            if found.scorer is not None:
                scorers[window], trained_at[window] = found.scorer, now
                counts[str(window)] |= _short(found.facts["past"])
            elif former is not None and window in former.scorers:
                scorers[window], trained_at[window] = former.scorers[window], former.trained_at[window]
                facts[str(window)] = former.facts.get(str(window), {}) | {"refused": list(found.reasons)}
                counts[str(window)]["kept"] = live.version if live else None
    return Propensity(scorers, trained_at, categories, plain(facts))


def _former(run: TrainingRun, live: Bundle | None, categories: list[str]) -> Propensity | None:
    if live is None or live.propensity is None:
        return None
    return align(live.propensity, live.catalog.ids, run.dataset.catalog.ids, categories)


_SHORT = ("auc", "log_loss", "gini", "mean_error_of_buyers", "mean_error_of_value")


def _short(past: dict[str, Any]) -> dict[str, Any]:
    return {name: plain(past[name]) for name in _SHORT if name in past}
