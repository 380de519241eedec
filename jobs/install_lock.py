"""`recsys install-lock`: write the lock file that belongs to the installed version."""

from importlib.resources import files
from pathlib import Path

from jobs.output import Output
from recsys.errors import ConfigError, RecsysError

LOCKS = ("serve", "cpu", "cuda")


def install_lock(name: str, out: Path | None) -> Output:
    """Write the lock of that name to `out`, by default as requirements-NAME.lock into the current folder.

    A file that is there is replaced. Raises ConfigError for another name, RecsysError when the file cannot be written.
    """
    if name not in LOCKS:
        raise ConfigError(f"there is no lock {name!r}; allowed are {', '.join(LOCKS)}")
    file = f"requirements-{name}.lock"
    text, path = (files("jobs") / "locks" / file).read_text(encoding="utf-8"), out or Path(file)
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise RecsysError(f"{path} cannot be written: {error.strerror}") from None
    packages = sum("==" in line and not line.startswith("#") for line in text.splitlines())
    command = f"pip install --no-deps -r {path}"
    return Output(
        {"file": str(path), "packages": packages, "install": command},
        [f"{path} was written: {packages} packages of exact versions", f"next: {command}"],
    )
