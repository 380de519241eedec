"""What `recsys init --shop` writes for a shop system: the three queries, and what its owner has to know."""

import re
from dataclasses import dataclass
from typing import Any

from recsys.errors import ConfigError
from recsys.imports import resolve

# the name for --shop -> a Shop, as a dotted name
SHOPS: dict[str, str] = {
    "woocommerce": "recsys.source.shops.woocommerce:WOOCOMMERCE",
    "woocommerce-posts": "recsys.source.shops.woocommerce:WOOCOMMERCE_POSTS",
    "magento": "recsys.source.shops.magento:MAGENTO",
    "prestashop": "recsys.source.shops.prestashop:PRESTASHOP",
    "shopware": "recsys.source.shops.shopware:SHOPWARE",
    "odoo": "recsys.source.shops.odoo:ODOO",
}

PREFIX = "{prefix}"  # stands in the queries where the prefix of the tables' names belongs


@dataclass(frozen=True)
class Shop:
    """A shop system: a value of SHOPS, or of a dotted name.

    - `url`: an example of its database's URL.
    - `interactions`, `items`, `users`: the queries, as in `[source]`. `return` is an event that takes a purchase back.
    - `prefix`: of the tables' names where nobody chose another; None: the system has none.
    - `guest_ids`: ids that stand for guests in the system's tables, as in `[source]`. The queries give each guest an
      id of their own; tables that somebody adds to them may not.
    - `timezone`: of times without a zone; None: the shop's own, which only its owner knows, or times have one.
    - `notes`: what the owner may have to change, one sentence a line.
    """

    url: str
    interactions: str
    items: str
    users: str
    prefix: str | None = None
    guest_ids: tuple[str, ...] = ()
    timezone: str | None = None
    notes: tuple[str, ...] = ()


def find_shop(name: str) -> Shop:
    """The shop system behind a key of SHOPS or a dotted name `package.module:NAME`.

    Raises ConfigError when there is none, or when it is no Shop.
    """
    found = resolve(name, SHOPS)
    if not isinstance(found, Shop):
        raise ConfigError(f"{name!r} is no recsys.source.shops.contract.Shop")
    return found


def source_of(name: str, prefix: str | None = None) -> dict[str, Any]:
    """Values of `[source]` that read a shop system. prefix: of the tables' names; None: the system's own.

    Raises ConfigError for an unknown system, for a prefix where there is none, and for one that is no part of a name.
    """
    shop = find_shop(name)
    if prefix is not None and shop.prefix is None:
        raise ConfigError(f"--prefix {prefix!r}: the tables of {name} have no prefix")
    if prefix is not None and not re.fullmatch(r"\w*", prefix, re.ASCII):
        raise ConfigError(f"--prefix {prefix!r}: allowed are letters, digits and _")
    chosen = prefix if prefix is not None else shop.prefix or ""
    queries = {"interactions": shop.interactions, "items": shop.items, "users": shop.users}
    written = {what: query.replace(PREFIX, chosen).strip("\n") for what, query in queries.items()}
    known = {"timezone": shop.timezone, "guest_ids": shop.guest_ids}
    return {"url": shop.url, **written, **{key: value for key, value in known.items() if value}}


def guest_in_mysql(email: str) -> str:
    """SQL of a guest's id: the same for each order with that email address, which it does not tell."""
    return f"CONCAT('guest-', SHA2(LOWER(TRIM({email})), 256))"
