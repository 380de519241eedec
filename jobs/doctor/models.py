"""Check the names of models and index. A file of its own, because it imports what they need."""

from pathlib import Path

from jobs.doctor.answer import Answer, to_train
from recsys.config.loading import load_config
from recsys.errors import ConfigError
from recsys.training.pipeline import check_names


@to_train
def check_models(config: str) -> Answer:
    """Whether the configured models and index exist."""
    settings = load_config(Path(config))
    found = f"{', '.join(settings.training.models)}; index {settings.index.kind}"
    try:
        check_names(settings)
    except ConfigError as error:
        return False, str(error), "models in [training], candidates in [models.auto] and kind in [index]"
    return True, found, "names of models and of an index, or dotted names"
