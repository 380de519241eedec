"""The errors that people see: each names what was asked, what was found and what is allowed.

`jobs.cli` turns them into exit codes and `api` into HTTP statuses; nobody else does.
"""


class RecsysError(Exception):
    """Something failed in a way that a person can mend. Exit code 1."""


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
