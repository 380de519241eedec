"""What a scheduler remembers on disk, for the time when the service's database is away and for the next night.

A small JSON file in the data folder, replaced in whole. It is a copy: when it is lost, a scheduler starts without it.
"""

import json
import logging
from pathlib import Path
from threading import Lock
from typing import Any

from recsys.data.folder import read_text, replace_text
from recsys.errors import RecsysError

FILE = "schedule.json"

_log = logging.getLogger(__name__)


class Remembered:
    """Values by section and name. Threads may share it."""

    def __init__(self, folder: Path) -> None:
        """folder: the data folder; it is made when something is to be remembered."""
        self._path, self._lock = folder / FILE, Lock()
        self._values: dict[str, dict[str, Any]] = {}
        try:
            found = json.loads(read_text(self._path) or "{}")
            self._values = {name: dict(values) for name, values in found.items()}
        except (RecsysError, ValueError, TypeError, AttributeError) as error:
            _log.warning("%s cannot be read and is begun anew: %s", self._path, type(error).__name__)

    def section(self, name: str) -> dict[str, Any]:
        """A copy of the values of a section."""
        with self._lock:
            return dict(self._values.get(name, {}))

    def put(self, section: str, name: str, value: Any) -> None:
        """Remember a value, or with None forget it. A disk that is full or away is only logged."""
        with self._lock:
            values = self._values.setdefault(section, {})
            if values.get(name) == value:
                return
            values.pop(name, None)
            if value is not None:
                values[name] = value
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                replace_text(self._path, json.dumps(self._values, indent=1) + "\n")
            except (RecsysError, OSError) as error:
                _log.warning("%s could not be written: %s", self._path, type(error).__name__)
