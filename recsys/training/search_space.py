"""The search space of each model, and how a result is written into a configuration.

The names are the keys of the configuration, so that a trial is a configuration with one value for each of them.
"""

from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from recsys.config.settings import Config
from recsys.config.toml import toml_value
from recsys.models.contract import ALL_TIME_DAYS

Space = dict[str, BaseDistribution]

HALF_LIFE = "half_life_days"  # a key of [events]; the others are keys of the model's own table
_DIGITS = 3  # of a value that is tried and written: more make no difference to a ranking
_RECENT: Space = {"recency_half_life_days": FloatDistribution(1, 365, log=True)}
_DECAY: Space = {HALF_LIFE: FloatDistribution(3, ALL_TIME_DAYS, log=True)}
_TEMPERATURE_AND_TREND: Space = {
    "temperatures": FloatDistribution(0.02, 0.5, log=True),
    "trend_weights": FloatDistribution(0, 2),
    **_RECENT,
}

_NEGATIVES = IntDistribution(256, 8192, log=True)

SPACES: dict[str, Space] = {
    "mf": {
        **_DECAY,
        "n_factors": IntDistribution(16, 1024, log=True),
        "kind_exponents": FloatDistribution(0, 1.5),
        "user_exponents": FloatDistribution(0, 0.8),
        "item_exponents": FloatDistribution(0, 0.8),
        "popularity_exponents": FloatDistribution(-0.2, 1),
        "singular_exponents": FloatDistribution(0, 1),
        **_RECENT,
        "recency_exponents": FloatDistribution(0, 1.5),
    },
    "two_tower": {
        **_DECAY,
        "dim": IntDistribution(32, 512, step=4),
        "negatives": _NEGATIVES,
        "learning_rate": FloatDistribution(0.005, 0.5, log=True),
        "normalize_items": CategoricalDistribution([True, False]),
        **_TEMPERATURE_AND_TREND,
    },
    "sequence": {
        "dim": IntDistribution(32, 256, step=8),
        "length": IntDistribution(10, 200, log=True),
        "blocks": IntDistribution(1, 3),
        "dropout": FloatDistribution(0, 0.7),
        "negatives": _NEGATIVES,
        **_TEMPERATURE_AND_TREND,
    },
}


def space_of(config: Config, model: str, items: int) -> Space:
    """The model's space, without what plays no part for so many items with events.

    It is the same whatever is configured, so that a study goes on when what it found has been put into the file.
    """
    space = dict(SPACES[model])
    whole = config.models.sequence.full_softmax_items if model == "sequence" else 0
    if "negatives" in space and items <= max(whole, _NEGATIVES.low):
        del space["negatives"]  # the softmax is over all items
    return space


def with_values(config: Config, model: str, params: dict[str, Any]) -> Config:
    """The configuration with these values of a space alone to choose from, checked as if they came from the file."""
    values = written(config, model, params)
    section = getattr(config.models, model)
    own = {key: value for key, value in values.items() if key != HALF_LIFE}
    models = config.models.model_copy(update={model: type(section).model_validate({**section.model_dump(), **own})})
    shared = {key: value for key, value in values.items() if key == HALF_LIFE}
    events = type(config.events).model_validate({**config.events.model_dump(), **shared})
    return config.model_copy(update={"models": models, "events": events})


def written(config: Config, model: str, params: dict[str, Any]) -> dict[str, Any]:
    """Key -> value as the configuration wants it: a list of one where it takes several, floats with three digits."""
    rounded = {k: float(f"{v:.{_DIGITS}g}") if isinstance(v, float) else v for k, v in params.items()}
    return {
        key: (value,) if isinstance(_value_of(config, model, key), tuple) else value for key, value in rounded.items()
    }


def params_of(chosen: dict[str, Any], space: Space) -> dict[str, Any]:
    """The settings that a model chose for itself, by the keys of the configuration ("temperatures")."""
    return {key: chosen.get(key, chosen.get(key.removesuffix("s"))) for key in space}


def placed(params: dict[str, Any], space: Space) -> dict[str, Any]:
    """Move params to the nearest place in the space: configured values, and those a model sets, may lie outside."""
    return {key: _nearest(found, params[key]) for key, found in space.items()}


def as_toml(config: Config, model: str, params: dict[str, Any]) -> str:
    """The lines of the file that configure these values."""
    values = written(config, model, params)
    lines = [f"{key} = {toml_value(value)}" for key, value in values.items() if key != HALF_LIFE]
    shared = ["[events]", f"{HALF_LIFE} = {toml_value(values[HALF_LIFE])}", ""] if HALF_LIFE in values else []
    return "\n".join([*shared, f"[models.{model}]", *lines]) + "\n"


def _value_of(config: Config, model: str, key: str) -> Any:
    return getattr(config.events if key == HALF_LIFE else getattr(config.models, model), key)


def _nearest(found: BaseDistribution, value: Any) -> Any:
    if isinstance(found, IntDistribution | FloatDistribution):
        return min(max(value, found.low), found.high)
    return value
