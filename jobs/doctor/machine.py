"""Check the machine: device, storage folder, clock."""

import importlib
import os
import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from jobs.doctor.answer import Answer, to_train
from recsys.config.loading import load_config

FREE_BYTES = 1_000_000_000


@to_train
def check_device(config: str) -> Answer:
    """Whether the configured device is there."""
    wanted = load_config(Path(config)).training.device
    has_gpu = bool(importlib.import_module("torch").cuda.is_available())
    found = f"{wanted}: {'a GPU' if has_gpu else 'no GPU'}"
    if wanted == "cuda" and not has_gpu:
        return False, found, 'device = "auto" or "cpu" in [training], or a GPU with requirements-cuda.lock'
    return True, found, "auto, cpu, or cuda with a GPU"


def check_folder(config: str) -> Answer:
    """Whether bundles can be written and fit on the disk."""
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
    """Whether the time is plausible and this machine knows the configured zone."""
    now = datetime.now(UTC)
    zone = load_config(Path(config)).source.timezone
    try:
        ZoneInfo(zone or "UTC")
    except (ZoneInfoNotFoundError, ValueError):
        return False, f"the zone {zone!r} is unknown here", "a name as Europe/Berlin; the system's tzdata knows them"
    found = f"{now:%Y-%m-%d %H:%M} UTC, zone of the source {zone or 'UTC'}"
    # With a clock before the date of this code, every event would lie in the future.
    return now.year >= 2026, found, "the right time, and a known zone"
