"""Check the shop's database."""

from contextlib import closing
from pathlib import Path

from jobs.doctor.answer import Answer
from recsys.config.loading import load_config
from recsys.errors import RecsysError
from recsys.source.reader import open_reader

NEEDED_COLUMNS = {
    "interactions": ("user_id", "item_id", "event", "timestamp"),
    "items": ("item_id",),
    "users": ("user_id",),
}


def check_source(config: str) -> Answer:
    """Whether the database answers and its queries return the required columns. Reads no rows."""
    settings = load_config(Path(config)).source
    if settings.url is None:
        return True, "no [source] url: the service's own tables", "a database that answers, or none"
    found = {}
    try:
        with closing(open_reader(settings.url, settings.dialect, seconds=settings.query_timeout_seconds)) as reader:
            for name, needed in NEEDED_COLUMNS.items():
                query = getattr(settings, name)
                if query is not None:
                    found[name] = reader.query(query, name).columns
                    missing = [column for column in needed if column not in found[name]]
                    if missing:
                        return False, f"{name} returns {', '.join(found[name])}", f"also {', '.join(missing)}"
    except RecsysError as error:
        return False, error.in_full, "a database that answers its queries: url, interactions, items, users in [source]"
    return True, f"{reader.where}: {', '.join(found)}", "a database that answers its queries"
