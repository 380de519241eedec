"""Check the configuration file."""

from pathlib import Path

from jobs.doctor.answer import Answer
from recsys.config.loading import load_config
from recsys.errors import ConfigError


def check_configuration(config: str) -> Answer:
    """Whether the file exists and every key is known and allowed."""
    try:
        settings = load_config(Path(config))
    except ConfigError as error:
        return False, str(error), "a valid configuration: docs/configuration.md has each key; `recsys init` writes one"
    return True, f"{config}, hash {settings.hash()}", "a valid configuration"
