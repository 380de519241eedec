"""The log of the scheduler and the service: one line a record, in UTC, as text for people or as JSON for programs."""

import json
import logging
import time

TEXT = "%(asctime)sZ %(levelname)s %(process)d %(message)s"


class TextLines(logging.Formatter):
    """Lines for people, as `2026-11-23T02:00:00Z INFO 4711 train: started`."""

    def __init__(self) -> None:
        super().__init__(TEXT, "%Y-%m-%dT%H:%M:%S")
        self.converter = time.gmtime


class JsonLines(logging.Formatter):
    """A JSON object a line: time, level, process, logger, message and, with an error, its traceback."""

    def __init__(self) -> None:
        super().__init__()
        self.converter = time.gmtime

    def format(self, record: logging.LogRecord) -> str:
        """Write a record."""
        values = {
            "time": f"{self.formatTime(record, '%Y-%m-%dT%H:%M:%S')}.{int(record.msecs):03d}Z",
            "level": record.levelname,
            "process": record.process,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            values["traceback"] = self.formatException(record.exc_info)
        return json.dumps(values, ensure_ascii=False)


FORMS = {"text": TextLines, "json": JsonLines}
