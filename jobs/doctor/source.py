"""Check the shop's database."""

from contextlib import closing
from pathlib import Path

from jobs.doctor.answer import Answer
from recsys.config.loading import load_config
from recsys.errors import RecsysError
from recsys.source.reader import open_reader

_MYSQL = (
    "SELECT DISTINCT privilege_type AS power FROM information_schema.user_privileges "
    "WHERE privilege_type IN ('SUPER', 'INSERT', 'UPDATE', 'DELETE', 'DROP')"
)
# What an account may beyond reading, a row for each: nothing for one that may only read.
_POWERS = {
    "postgresql": "SELECT 'do anything, as a superuser' AS power FROM pg_roles "
    "WHERE rolname = current_user AND rolsuper",
    "mysql": _MYSQL,
    "mariadb": _MYSQL,
}
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


def check_account(config: str) -> Answer:
    """Whether the account that reads the shop's database may only read, as far as the server says."""
    settings = load_config(Path(config)).source
    allowed = "an account that may only read: CREATE USER … and GRANT SELECT, as url in [source]"
    if settings.url is None:
        return True, "no [source] url", allowed
    with closing(open_reader(settings.url, settings.dialect, seconds=settings.query_timeout_seconds)) as reader:
        question = _POWERS.get(reader.url.drivername.partition("+")[0])
        if question is None:
            return True, "a file, which is opened for reading", allowed
        try:
            powers = [str(row[0]) for row in reader.query(question, "account").fetch(question)]
        except RecsysError:
            return True, "the server does not say what the account may", allowed
    return not powers, f"the account may {', '.join(powers)}" if powers else "no right to write anything", allowed
