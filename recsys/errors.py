"""The errors that people see. A message says what was asked, what was found, and what is allowed.

Only `jobs.cli` turns them into exit codes, and only `api.problems` into HTTP statuses.
"""


class RecsysError(Exception):
    """An error that a person can fix. Exit code 1.

    detail: the message of a database. It may repeat the contents of rows, so it is shown at the terminal and kept out
    of the ledger, alerts and HTTP. cause: what kind of failure it is, as `network` or `missing table orders`.
    """

    def __init__(self, message: str = "", *, detail: str | None = None, cause: str | None = None) -> None:
        super().__init__(message)
        self.detail = detail
        self.cause = cause

    @property
    def in_full(self) -> str:
        """The message with the detail, for the terminal."""
        return f"{self}: {self.detail}" if self.detail else str(self)


class ConfigError(RecsysError):
    """The configuration is wrong: an unknown key, a bad value, a missing file. Exit code 2."""


class SourceError(RecsysError):
    """The shop's database or an import file could not be read as configured."""


class BundleError(RecsysError):
    """A bundle is damaged, incomplete, of another format, or missing."""


class NotFoundError(RecsysError):
    """An id, version or name does not exist."""


class RefusedError(RecsysError):
    """A check or the gate refused; nothing was changed. Exit code 3."""


class BusyError(RefusedError):
    """Another run of the same job is under way. Exit code 4."""


class AwayError(RecsysError):
    """The service's database does not answer now; a later attempt may succeed."""
