"""Several questions at once: the boxes of a page, which share no item, and a batch for many users.

Both read the service's own tables once for all questions, or twice. A question that cannot be answered has its error in
place of its answer, and the others are answered.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from recsys.config.settings import Config
from recsys.data.catalog import ChangedItem
from recsys.errors import NotFoundError, RefusedError
from recsys.serving.answer import SKEW_MICROSECONDS, Answer, Query, RequestContext, answer, visitor_of
from recsys.serving.snapshot import ITEMS_AT_ONCE, Snapshot
from recsys.store.changes import Changes, NewEvents, read_changes
from recsys.store.database import Store

Outcome = Answer | RefusedError | NotFoundError


def answer_page(config: Config, context: RequestContext, queries: Sequence[Query]) -> list[Outcome]:
    """Answer the boxes of a page in their order; what one lists no later one does."""
    outcomes, listed = list[Outcome](), list[str]()
    for query in queries:
        outcome = _outcome(config, context, replace(query, exclude=[*query.exclude, *listed]))
        outcomes.append(outcome)
        if isinstance(outcome, Answer):
            listed += [hit["item_id"] for hit in outcome.hits]
    return outcomes


def answer_batch(config: Config, contexts: Sequence[RequestContext], queries: Sequence[Query]) -> list[Outcome]:
    """Answer each query from its own context."""
    return [_outcome(config, context, query) for context, query in zip(contexts, queries, strict=True)]


def gather_contexts(
    config: Config,
    snapshot: Snapshot,
    queries: Sequence[Query],
    *,
    now: int,
    read: Callable[[Callable[[Store], Changes]], Changes],
    grow: Callable[[Snapshot, Sequence[ChangedItem]], Snapshot],
) -> list[RequestContext]:
    """As answer.gather_context for many queries, in one reading, or two where some ask for a visitor alone.

    What a visitor who was merged with a user did belongs to the user where both may be asked for. Raises what `read`
    raises.
    """
    moments = [now + SKEW_MICROSECONDS if query.as_of is None else query.as_of for query in queries]
    before = max(moments, default=now)

    def changes_of(some: Sequence[Query], item_limit: int) -> Changes:
        users = dict.fromkeys(query.user_id for query in some if query.user_id is not None)
        visitors = dict.fromkeys(visitor for query in some if (visitor := visitor_of(config, query)) is not None)
        return read(
            lambda store: read_changes(
                store,
                list(users),
                list(visitors),
                received_after=snapshot.log.extract.complete_until,
                known=snapshot.log.extract.recent or (),
                occurred_before=before,
                revision=snapshot.revision,
                length=config.events.history_length,
                item_limit=item_limit,
            )
        )

    with_user = [query for query in queries if query.user_id is not None]
    alone = [query for query in queries if query.user_id is None and visitor_of(config, query) is not None]
    first = changes_of(with_user or alone, ITEMS_AT_ONCE)
    of_visitors = changes_of(alone, 0).events if with_user and alone else first.events
    grown = grow(snapshot, first.items)
    return [
        _context(config, grown, query, of_visitors if query.user_id is None else first.events, now=now)
        for query in queries
    ]


def _context(config: Config, snapshot: Snapshot, query: Query, events: NewEvents, *, now: int) -> RequestContext:
    visitor_id = visitor_of(config, query)
    own = [
        time
        for owner, is_visitor, time in zip(events.owners, events.visitors, events.times, strict=True)
        if owner == (visitor_id if is_visitor else query.user_id)
    ]
    as_of = max(now, max(own, default=0) + 1) if query.as_of is None else query.as_of
    return RequestContext(snapshot, events, as_of)


def _outcome(config: Config, context: RequestContext, query: Query) -> Outcome:
    try:
        return answer(config, context, query)
    except (RefusedError, NotFoundError) as error:
        return error
