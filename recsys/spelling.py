"""Which right name a wrong one may mean, so that an error can say it."""

import difflib
from collections.abc import Iterable

MOST = 2_000  # names that are compared letter by letter: 20,000 categories would take half a second
ALIKE = 0.7  # from which two names may be one: `titel` and `title` have 0.8, `color` and `stock` 0.2

# What other services call the same thing -> our names; a name counts where it is allowed.
_ELSEWHERE: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("amount", "count", "limit", "n", "num", "page_size", "per_page", "size", "top"), ("k", "limit")),
    **dict.fromkeys(("attributes", "columns", "include", "select"), ("fields",)),
    **dict.fromkeys(("filters", "query", "where"), ("filter",)),
    **dict.fromkeys(("blacklist", "ignore", "without"), ("exclude",)),
    **dict.fromkeys(("after", "offset", "page", "page_token", "start"), ("cursor",)),
    **dict.fromkeys(("article", "article_id", "id", "item", "product", "product_id", "sku"), ("item_id", "user_id")),
    **dict.fromkeys(("account_id", "customer", "customer_id", "user"), ("user_id",)),
    **dict.fromkeys(("anonymous_id", "client_id", "guest_id", "session", "session_id", "visitor"), ("visitor_id",)),
    **dict.fromkeys(("action", "event", "event_type", "type"), ("kind",)),
    **dict.fromkeys(("created_at", "date", "time", "timestamp", "ts"), ("occurred_at", "as_of")),
    **dict.fromkeys(("basket", "cart_id", "invoice", "order", "transaction_id"), ("order_id",)),
    **dict.fromkeys(("amount", "revenue", "total"), ("value", "k")),
    **dict.fromkeys(("metadata", "params", "payload"), ("properties",)),
    **dict.fromkeys(("name", "label"), ("title",)),
    **dict.fromkeys(("qty", "pieces"), ("quantity",)),
}


def nearest(name: str, allowed: Iterable[str]) -> str | None:
    """The one of the allowed names that is most likely meant by a wrong one; None when none is near.

    Of more than MOST names only one that differs in case, or that other services use, is found.
    """
    names = list(dict.fromkeys(allowed))
    folded = {known.lower(): known for known in reversed(names)}
    for known in (name.lower(), *_ELSEWHERE.get(name.lower(), ())):
        if known in folded:
            return folded[known]
    found = difflib.get_close_matches(name.lower()[:100], folded, 1, ALIKE) if len(folded) <= MOST else []
    return folded[found[0]] if found else None


def meant(name: str, allowed: Iterable[str]) -> str:
    """The end of a message about a wrong name: `; is title meant?`, or nothing when none is near."""
    found = nearest(name, allowed)
    return f"; is {found} meant?" if found is not None else ""
