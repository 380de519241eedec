"""The keys of the API: random, shown once and stored as a digest. Revoked keys stay in the table."""

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from recsys.errors import NotFoundError, RefusedError
from recsys.store.database import Store, read_clock

SCOPES = ("recommend", "events", "account", "audience", "metrics", "admin")
RENAMED_SCOPES = {"page": "recommend"}  # stored keys may have the old name
_MAX_NAME = 200


@dataclass(frozen=True)
class Key:
    """A row of the keys. Times are microseconds UTC."""

    key_id: str
    name: str
    scopes: tuple[str, ...]
    digest: str  # sha256 of the key, in hex
    created_at: int
    revoked_at: int | None


def digest_of(key: str) -> str:
    """Hash a key for storage. It has 256 random bits, so one round of sha256 is enough."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def create_key(store: Store, name: str, scopes: tuple[str, ...]) -> tuple[str, str]:
    """Create a key; return its key_id and the key itself, which cannot be read again.

    Raises RefusedError for an unknown scope, for no scope, and for a name that is blank, too long or not printable.
    """
    unknown = [scope for scope in scopes if scope not in SCOPES]
    if unknown or not scopes:
        raise RefusedError(f"scopes {', '.join(unknown) or 'are missing'}; allowed are {', '.join(SCOPES)}")
    if not name.strip() or len(name) > _MAX_NAME or not name.isprintable():
        raise RefusedError(f"the name of a key is 1 to {_MAX_NAME} printable characters")
    key_id, key = secrets.token_hex(4), f"recsys_{secrets.token_urlsafe(32)}"
    kept = tuple(scope for scope in SCOPES if scope in scopes)
    with store.writing() as connection:
        row = {"key_id": key_id, "name": name, "scopes": " ".join(kept), "digest": digest_of(key)}
        connection.execute(store.tables.keys.insert().values(row | {"created_at": read_clock(connection)}))
    return key_id, key


def list_keys(store: Store) -> list[Key]:
    """List all keys, oldest first, revoked ones too."""
    keys = store.tables.keys
    with store.reading() as connection:
        rows = connection.execute(sa.select(keys).order_by(keys.c.created_at, keys.c.key_id)).mappings().all()
    return [Key(**{**row, "scopes": current_scopes(row["scopes"].split())}) for row in rows]


def current_scopes(scopes: Sequence[str]) -> tuple[str, ...]:
    """Replace scopes by the names that they have today."""
    return tuple(RENAMED_SCOPES.get(scope, scope) for scope in scopes)


def revoke_key(store: Store, key_id: str) -> Key:
    """Revoke a key for good. A second call changes nothing. Raises NotFoundError when there is no such key."""
    keys = store.tables.keys
    with store.writing() as connection:
        valid = (keys.c.key_id == key_id) & keys.c.revoked_at.is_(None)
        connection.execute(keys.update().where(valid).values(revoked_at=read_clock(connection)))
    for key in list_keys(store):
        if key.key_id == key_id:
            return key
    raise NotFoundError(f"there is no key {key_id!r}; `recsys key list` shows them")
