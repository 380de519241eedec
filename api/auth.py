"""Keys and scopes. A key comes as `Authorization: Bearer KEY` or `X-API-Key: KEY` and is compared in constant time.

While no key exists, the service is bound to loopback and answers every request from there. It refuses a `Host` header
with any other name: a web page could point its own name at 127.0.0.1.
"""

import hmac
import ipaddress
from collections.abc import Awaitable, Callable, Sequence

from fastapi import Request

from api.problems import RETRY_SECONDS, ProblemError
from recsys.store.keys import Key, digest_of

ADMIN = "admin"
NOBODY = "without a key"


def is_loopback(host: str) -> bool:
    """Whether an address or a name in a `Host` header is the loopback."""
    name = host.strip("[]").lower()
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


class KeyAuth:
    """The keys as last read, and the check of a request against them."""

    def __init__(self, host: str) -> None:
        """host: the address that the service listens on."""
        self._is_private = is_loopback(host)
        self._keys: tuple[Key, ...] | None = None  # None: never read yet

    def learn(self, keys: Sequence[Key]) -> None:
        """Replace the keys by those just read, revoked ones included."""
        self._keys = tuple(keys)

    def keys(self) -> tuple[Key, ...]:
        """All keys, revoked ones included. Raises ProblemError 503 until they have been read once."""
        if self._keys is None:
            headers = {"Retry-After": str(RETRY_SECONDS)}
            raise ProblemError(503, "database_away", "The keys cannot be read: the database does not answer.", headers)
        return self._keys

    def check(self, request: Request, scope: str) -> None:
        """Raises ProblemError: 401 without a valid key, 403 without the scope, 503 until keys have been read once."""
        keys = self.keys()
        if not keys and self._is_private:
            _check_host(request)
            return
        key = _find(keys, _credential(request))
        request.state.actor = f"{key.name} ({key.key_id})"
        if scope not in key.scopes and ADMIN not in key.scopes:
            needed = " or ".join(dict.fromkeys((scope, ADMIN)))
            raise ProblemError(403, "wrong_scope", f"This key may not do that; it takes the scope {needed}.")


def needs(scope: str) -> Callable[[Request], Awaitable[None]]:
    """Create the dependency of a route that needs a key with this scope."""

    async def check(request: Request) -> None:
        request.app.state.auth.check(request, scope)

    return check


def actor_of(request: Request) -> str:
    """Who asks: the name and the id of the key. While there are no keys, everybody on this machine."""
    return str(getattr(request.state, "actor", NOBODY))


def _find(keys: Sequence[Key], key: str) -> Key:
    digest, found = digest_of(key), None
    for known in keys:  # always all of them, so that the time does not reveal which one fits
        if hmac.compare_digest(known.digest, digest) and known.revoked_at is None:
            found = known
    if found is None:
        raise _unauthorized("This key is unknown or revoked.")
    return found


def _credential(request: Request) -> str:
    if (header := request.headers.get("authorization")) is not None:
        kind, _, key = header.partition(" ")
        if kind.lower() == "bearer" and key.strip():
            return key.strip()
        raise _unauthorized("The Authorization header has to be: Bearer KEY.")
    if key := request.headers.get("x-api-key", ""):
        return key
    raise _unauthorized("A key is needed, as Authorization: Bearer KEY or as X-API-Key: KEY.")


def _check_host(request: Request) -> None:
    host = request.headers.get("host", "")
    name = host if host.endswith("]") else host.rsplit(":", 1)[0]
    if not is_loopback(name):
        raise ProblemError(
            403, "wrong_host", "Without a key the service answers only to 127.0.0.1, [::1] and localhost."
        )


def _unauthorized(detail: str) -> ProblemError:
    return ProblemError(401, "no_valid_key", detail, {"WWW-Authenticate": "Bearer"})
