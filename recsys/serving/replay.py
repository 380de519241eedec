"""An answer again: the question that was kept, answered from the bundle, the items and the moment of then."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic import TypeAdapter, ValidationError

from recsys.config.settings import Config
from recsys.data.catalog import ChangedItem
from recsys.errors import RefusedError
from recsys.serving.answer import Answer, Query, answer, find_box, gather_context
from recsys.serving.popular import WAYS
from recsys.serving.snapshot import Snapshot, load, read_posted
from recsys.store.database import Store
from recsys.store.requests import KeptRequest

_QUERY = TypeAdapter(Query)


def replay(
    config: Config,
    kept: KeptRequest,
    live: Snapshot,
    *,
    read: Callable[[Callable[[Store], Any]], Any],
    read_items: Callable[[int], list[ChangedItem]],
) -> Answer:
    """Answer a kept request again.

    live: the snapshot of the process, which is used where its bundle is the one of then. read, read_items: as for
    `gather_context` and `load`. Events that were received or deleted since, and items that changed again, make another
    answer. Raises BundleError or NotFoundError when the bundle is not kept, RefusedError when this version cannot read
    the question, and what `answer` raises.
    """
    try:
        query = _QUERY.validate_json(kept.question)
    except ValidationError:
        raise RefusedError("question: another version of the service has kept it, which asks otherwise") from None
    snapshot = _snapshot_of_then(config, kept, live, read_items)
    if snapshot.posted is None and WAYS.keys() & {query.box, *find_box(query).fallbacks, *(query.fallbacks or ())}:
        snapshot = replace(snapshot, posted=read_posted(snapshot, read))
    context = gather_context(
        config, snapshot, replace(query, as_of=kept.as_of), now=kept.as_of, read=read, grow=lambda same, _items: same
    )
    return answer(config, context, query)


def is_same(kept: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]]) -> bool:
    """Whether two lists have the same items in the same places, with the same scores but for rounding."""
    return len(kept) == len(now) and all(
        (one["item_id"], one["reason"]) == (other["item_id"], other["reason"])
        and (one["score"] == other["score"] or math.isclose(one["score"] or 0, other["score"] or 0, rel_tol=1e-5))
        for one, other in zip(kept, now, strict=True)
    )


def _snapshot_of_then(
    config: Config, kept: KeptRequest, live: Snapshot, read_items: Callable[[int], list[ChangedItem]]
) -> Snapshot:
    is_live = live.bundle.version == kept.bundle
    if is_live and live.revision == kept.revision:
        return live
    return load(
        config,
        lambda after: [item for item in read_items(after) if item.revision <= kept.revision],
        version=kept.bundle,
        bundle=live.bundle if is_live else None,
        extract=live.log.extract,
    )
