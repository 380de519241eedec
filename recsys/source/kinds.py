"""Kinds of events that were posted to the service and that the configuration does not name."""

from recsys.config.settings import MAX_KINDS, Config
from recsys.source.findings import UNKNOWN_KIND, Finding
from recsys.source.rows import EventStream
from recsys.store.database import Store
from recsys.store.events import count_kinds

MAX_NEW_KINDS = 20  # so that a sender that invents kinds cannot take all the codes


def posted_kinds(config: Config, store: Store) -> tuple[dict[str, float], list[Finding]]:
    """The posted kinds that have no weight of their own, each with the one it gets, and a finding for each of them.

    Those with the most events, at most MAX_NEW_KINDS; none where their weight is 0 or `own_kinds` names what counts.
    """
    events = config.events
    weight = events.weight_of_new_kinds
    if not weight or events.own_kinds is not None:
        return {}, []
    counts = count_kinds(store)
    new = sorted(counts.keys() - events.words.keys(), key=lambda kind: (-counts[kind], kind))
    taken = sorted(new[: min(MAX_NEW_KINDS, MAX_KINDS - len(events.weights))])
    advice = f"it counts with weight {weight:g}; name it in [events.weights], or map it in [events.aliases]"
    findings = [
        Finding("warning", f"posted kind without a weight: {kind}", counts[kind], sum(counts.values()), (), advice)
        for kind in taken
    ]
    return dict.fromkeys(taken, weight), findings


def not_taken(own: EventStream) -> list[Finding]:
    """The note about posted events of kinds that do not count, which are no fault of the source; it is told once."""
    count = own.reasons.pop(UNKNOWN_KIND, 0)
    if not count:
        return []
    advice = f"taken are {', '.join(own.kinds) or 'none'}; see [events] weights, own_kinds and new_kind_weight"
    return [Finding("note", "own event of a kind that is not taken", count, own.read, (), advice, left_out=True)]
