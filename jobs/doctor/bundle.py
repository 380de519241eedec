"""Check the live bundle."""

from pathlib import Path

from jobs.doctor.answer import Answer
from recsys.bundle import bundle as bundles
from recsys.bundle import versions
from recsys.config.loading import load_config
from recsys.data.folder import current
from recsys.errors import RecsysError


def check_bundle(config: str) -> Answer:
    """Whether the live bundle opens as a server opens it; none published yet is fine."""
    folder = load_config(Path(config)).storage.path
    try:
        live = bundles.load(folder)
        bundles.search_once(live)
    except RecsysError as error:
        if current(folder / "bundles") is None:
            return True, "none published yet", "none, or one that verifies"
        return False, str(error), "one that verifies: `recsys rollback` goes back to the one before, or `recsys train`"
    found = f"{live.version}, {len(live.catalog)} items" + (", pinned" if versions.pinned(folder) else "")
    return True, found, "none, or one that verifies"
