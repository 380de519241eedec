"""The doctor's check of the live bundle. It returns (ok, found, what is allowed)."""

from pathlib import Path

from jobs.doctor.libraries import Answer
from recsys.bundle import bundle as bundles
from recsys.bundle import versions
from recsys.config.loading import load_config
from recsys.data.folder import current
from recsys.errors import RecsysError


def check_bundle(config: str) -> Answer:
    """Whether the live bundle is complete, undamaged and loadable."""
    folder = load_config(Path(config)).storage.path
    try:
        live = bundles.load(folder)
    except RecsysError as error:
        if current(folder / "bundles") is None:
            return True, "none published yet", "none, or one that verifies"
        return False, str(error), "one that verifies: `recsys rollback` goes back to the one before, or `recsys train`"
    found = f"{live.version}, {len(live.catalog)} items" + (", pinned" if versions.pinned(folder) else "")
    return True, found, "none, or one that verifies"
