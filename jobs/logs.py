"""The log of the scheduler, its jobs and the service: one line a record, in UTC, as text for people or as JSON.

A record of a run has its id: that of the run that this process works on, or the one that is given as
`extra={"run_id": …}`.
"""

import json
import logging
import os
import sys
import time

TEXT = "%(asctime)sZ %(levelname)s %(process)d %(of_run)s%(message)s"
DUE = "RECSYS_DUE"  # environment variable of a process that the scheduler started: the job and the due time of its run

_runs: list[int] = []  # of this process, the newest last


def is_scheduled() -> bool:
    """Whether the scheduler started this process: what it writes goes into a log."""
    return DUE in os.environ


def begin_log(form: str) -> None:
    """Send the program's own log, from INFO on, to the error stream. form: a key of FORMS."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(FORMS[form]())
    for name in ("jobs", "recsys"):
        ours = logging.getLogger(name)
        ours.handlers, ours.propagate = [handler], False  # the root logger would add the lines of every library
        ours.setLevel(logging.INFO)


def note_run(run_id: int) -> None:
    """From here on, what this process logs is of this run, also what it says after the run's end."""
    _runs.append(run_id)


def _run_of(record: logging.LogRecord) -> int | None:
    given: int | None = getattr(record, "run_id", None)
    return given if given is not None or not _runs else _runs[-1]


class TextLines(logging.Formatter):
    """Lines for people, as `2026-11-23T02:00:00Z INFO 4711 run 12: train: started`."""

    def __init__(self) -> None:
        super().__init__(TEXT, "%Y-%m-%dT%H:%M:%S")
        self.converter = time.gmtime

    def format(self, record: logging.LogRecord) -> str:
        """Write a record."""
        run = _run_of(record)
        record.of_run = "" if run is None else f"run {run}: "
        return super().format(record)


class JsonLines(logging.Formatter):
    """A JSON object a line: time, level, process, run, logger, message and, with an error, its traceback."""

    def __init__(self) -> None:
        super().__init__()
        self.converter = time.gmtime

    def format(self, record: logging.LogRecord) -> str:
        """Write a record."""
        values = {
            "time": f"{self.formatTime(record, '%Y-%m-%dT%H:%M:%S')}.{int(record.msecs):03d}Z",
            "level": record.levelname,
            "process": record.process,
            "run": _run_of(record),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            values["traceback"] = self.formatException(record.exc_info)
        return json.dumps(values, ensure_ascii=False)


FORMS = {"text": TextLines, "json": JsonLines}
