"""The doctor's checks of the configuration, the folder, the device and the clock. Each returns (ok, found, allowed)."""

import importlib
import os
import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from jobs.doctor.libraries import Answer
from recsys.config.loading import load_config
from recsys.errors import ConfigError

FREE_BYTES = 1_000_000_000


def check_configuration(config: str) -> Answer:
    """Whether the file exists and every key is known and allowed."""
    try:
        settings = load_config(Path(config))
    except ConfigError as error:
        return False, str(error), "a valid configuration: docs/configuration.md has each key; `recsys init` writes one"
    return True, f"{config}, hash {settings.hash()}", "a valid configuration"


def check_device(config: str) -> Answer:
    """Whether the device is there that the configuration asks for."""
    wanted = load_config(Path(config)).training.device
    has_gpu = bool(importlib.import_module("torch").cuda.is_available())
    found = f"{wanted}: {'a GPU' if has_gpu else 'no GPU'}"
    if wanted == "cuda" and not has_gpu:
        return False, found, 'device = "auto" or "cpu" in [training], or a GPU with requirements-cuda.lock'
    return True, found, "auto, cpu, or cuda with a GPU"


def check_folder(config: str) -> Answer:
    """Whether bundles can be written, and whether there is room for them."""
    folder = load_config(Path(config)).storage.path
    existing = next(place for place in (folder, *folder.parents) if place.exists())
    try:
        with tempfile.TemporaryFile(dir=existing) as file:
            file.write(b"written")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return False, f"{existing} cannot be written to: {error.strerror}", "a folder of this user's: path in [storage]"
    free = shutil.disk_usage(existing).free
    found = f"{folder}, {free / 1e9:.1f} GB free"
    return free >= FREE_BYTES, found, f"at least {FREE_BYTES / 1e9:.1f} GB free"


def check_clock(config: str) -> Answer:
    """Whether the time is plausible and the configured zone known on this machine."""
    now = datetime.now(UTC)
    zone = load_config(Path(config)).source.timezone
    try:
        ZoneInfo(zone or "UTC")
    except (ZoneInfoNotFoundError, ValueError):
        return False, f"the zone {zone!r} is unknown here", "a name as Europe/Berlin; the system's tzdata knows them"
    found = f"{now:%Y-%m-%d %H:%M} UTC, zone of the source {zone or 'UTC'}"
    # the files of this project were written after 2025; a clock before that would make every event one of the future
    return now.year >= 2026, found, "the right time, and a known zone"
