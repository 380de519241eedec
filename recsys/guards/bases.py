"""With which earlier nights a night is compared: it passes when it agrees with some of them.

A bad night that no guard has noticed counts as good. If it were the only measure, it would block every good one after
it; so a night may also agree with the good nights before the newest, or with one that an operator has accepted since.
The number of events is not forgiven by older good nights: a shop that grows had fewer then, so rows cut off would pass.
"""

from collections.abc import Callable, Sequence

from recsys.config.settings import Config
from recsys.guards.comparison import Known, compare
from recsys.guards.figures import Figures, NightData
from recsys.guards.judge import Night, judge
from recsys.guards.verdicts import Verdict

_SKIPPED = 3  # so many of the newest good nights may be bad ones
_UNFORGIVEN = frozenset({"events"})  # guards that only the newest good night judges


def judge_beside(
    tonight: Figures,
    data: NightData,
    good: Sequence[Night],
    accepted: Sequence[Night],
    known: Callable[[Night], Known | None],
    config: Config,
) -> tuple[list[Verdict], list[Night]]:
    """The verdicts beside the first nights with which tonight agrees, else beside the newest; and those nights.

    good, accepted: newest first. known: the ids of a night, where they are still there. Guards that lack them, and
    that of the number of events, keep what they have found beside the newest good night.
    """
    first: list[Verdict] | None = None
    beside: list[Night] = []
    for nights in [*(good[skipped:] for skipped in range(_SKIPPED + 1)), accepted]:
        if not nights:
            continue
        comparison = compare(data, nights[0].figures, known(nights[0]))
        verdicts = judge(tonight, comparison, nights, config.guards, max_data_drop=config.gate.max_data_drop)
        if first is None:
            first, beside = verdicts, list(nights)
        elif nights is not accepted:
            found = {verdict.guard for verdict in verdicts} - _UNFORGIVEN
            verdicts = [verdict for verdict in verdicts if verdict.guard in found]
            verdicts += [verdict for verdict in first if verdict.guard not in found]
        if not any(verdict.deviates for verdict in verdicts):
            return verdicts, list(nights)
    return first or [], beside
