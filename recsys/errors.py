"""The errors that people see: each names what was asked, what was found and what is allowed.

`jobs.cli` turns them into exit codes and `api` into HTTP statuses; nobody else does.
"""


class RecsysError(Exception):
    """Something failed in a way that a person can mend. Exit code 1.

    detail: what a database said in its own words. They may repeat what its rows hold, so whoever sits at the terminal
    reads them, and the ledger, alerts and HTTP do not.
    """

    def __init__(self, message: str = "", *, detail: str | None = None) -> None:
        super().__init__(message)
        self.detail = detail

    @property
    def in_full(self) -> str:
        """The message with the detail, for the terminal."""
        return f"{self}: {self.detail}" if self.detail else str(self)


class ConfigError(RecsysError):
    """The configuration is wrong: an unknown key, a bad value, a missing file. Exit code 2."""


class SourceError(RecsysError):
    """The shop's database or an import file could not be read as configured."""


class BundleError(RecsysError):
    """A bundle is damaged, incomplete, of another format, or not there."""


class NotFoundError(RecsysError):
    """An id, a version or a name that was asked for does not exist."""


class RefusedError(RecsysError):
    """A check or the gate said no; everything is as it was before. Exit code 3."""


class AwayError(RecsysError):
    """The own database does not answer now; asking again later may help."""
