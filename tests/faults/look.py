"""What a process sees that was not there before: look.py FOLDER USER…, which prints a State as JSON."""

import json
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import sqlalchemy as sa

import recsys
from recsys.config.settings import Config
from recsys.data.extract import open_extract
from recsys.data.folder import current
from recsys.errors import RecsysError
from recsys.source.readings import open_last
from recsys.store.database import Store, read_clock
from recsys.store.runs import list_runs


def look(config: Config, users: list[str]) -> dict[str, Any]:
    folder = config.storage.path
    with closing(recsys.open_store(config)) as store:
        rows = list_runs(store, 10_000)
        newest = rows[0] if rows else None
        return {
            "bundle": current(folder / "bundles"),
            "ledger": f"{newest.status}: {newest.error or ''}".rstrip(": ") if newest else "",
            "steps": [step["name"] for step in newest.steps] if newest else [],
            "running": sum(row.status == "running" for row in rows),
            "temporary": [str(path.relative_to(folder)) for path in sorted(folder.rglob(".*")) if is_leftover(path)],
            "reading": open_last(folder) is not None,
            **counts(store),
            **answers(config, store, users),
        }


def is_leftover(path: Path) -> bool:
    return path.name.startswith(".tmp-") or path.name.endswith(".new")


def counts(store: Store) -> dict[str, Any]:
    leases, events = store.tables.leases, store.tables.events
    with store.reading() as connection:
        held = sa.select(leases.c.name).where(leases.c.expires_at > read_clock(connection))
        return {
            "held": list(connection.execute(held).scalars()),
            "own_events": connection.execute(sa.select(sa.func.count()).select_from(events)).scalar(),
        }


def answers(config: Config, store: Store, users: list[str]) -> dict[str, Any]:
    try:
        snapshot = recsys.open_snapshot(config, store)
        asked = [recsys.recommend(config, store, snapshot, recsys.Query(user_id=user, k=10)) for user in users]
        return {
            "answers": [[hit["item_id"] for hit in answer.hits] for answer in asked],
            "extract": open_extract(config.storage.path).as_of,
        }
    except RecsysError as error:
        return {"answers": [], "refusal": str(error)}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(look(recsys.load_config(Path(sys.argv[1]) / "recsys.toml"), sys.argv[2:])))
