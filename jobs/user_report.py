"""`recsys user report`: everything that is known of one user, as a JSON file for a request by the user."""

import json
from contextlib import closing
from pathlib import Path
from typing import Any

from jobs.commands import open_shop
from jobs.output import Output
from recsys.campaigns.person import read_events
from recsys.config.settings import Config
from recsys.data.extract import open_extract
from recsys.data.folder import replace_text
from recsys.errors import ConfigError, NotFoundError
from recsys.progress import Progress
from recsys.source.people import read_people
from recsys.store.person import read_person

_PAGE = 10_000


def report(config: Config, *, user_id: str, out: Path, progress: Progress) -> Output:
    """Write what the shop's query of users, the extract and the own tables know of a user.

    Raises NotFoundError when nothing is known of the id, ConfigError when the file cannot be written.
    """
    if out.is_dir() or not out.parent.is_dir():
        raise ConfigError(f"--out {out} cannot be written: {'it is' if out.is_dir() else 'its parent is no'} folder")
    progress("read", 0.0)
    with closing(open_shop(config)) as store:
        people = read_people(config, store)
        row = None if people is None else next(people.filter(people["user_id"] == user_id).iter_rows(named=True), None)
        extract = open_extract(config.storage.path)
        told: dict[str, Any] = {**read_person(store, user_id), "shop": row, "events": []}
        while page := read_events(store, extract, user_id, skip=len(told["events"]), limit=_PAGE):
            told["events"] += page
    progress("read", 1.0)
    counts = {
        name: len(told[name]) for name in ("events", "memberships", "exports", "reviews", "requests", "visitor_ids")
    }
    if not (any(counts.values()) or row or told["attributes"] is not None or told["deleted_at"]):
        raise NotFoundError(f"nothing is known of the user {user_id!r}; is the id misspelled?")
    replace_text(out, json.dumps(told, ensure_ascii=False, indent=2, default=str) + "\n")
    words = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items())
    return Output({"user_id": user_id, **counts, "out": str(out)}, [f"{words}: written to {out}"])
