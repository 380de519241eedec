"""A verdict: what one guard found, beside its bound and what the last good nights found."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

Outcome = Literal["ok", "warn", "refuse"]


@dataclass(frozen=True)
class Verdict:
    """The finding of one guard."""

    guard: str
    outcome: Outcome
    figure: float
    bound: float
    text: str  # one sentence with figure and bound, in their units
    remedy: str  # what to do, where it deviates
    earlier: tuple[float, ...] = ()  # the figure of the last good nights, newest first
    compares: bool = True  # with earlier nights

    @property
    def deviates(self) -> bool:
        """Whether the figure is beyond its bound."""
        return self.outcome != "ok"

    def __str__(self) -> str:
        beside = f"; the last good nights: {', '.join(f'{value:g}' for value in self.earlier[:3])}"
        text = f"{self.guard}: {self.text}{beside if self.earlier else ''}"
        return f"{text} ({self.remedy})" if self.deviates else text

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the ledger."""
        return {**asdict(self), "earlier": list(self.earlier)}


def at_most(guard: str, figure: float, bound: float, text: str, remedy: str, *, compares: bool = True) -> Verdict:
    """A verdict that refuses above a bound."""
    outcome: Outcome = "refuse" if figure > bound else "ok"
    return Verdict(guard, outcome, round(figure, 4), round(bound, 4), text, remedy, compares=compares)


def at_least(guard: str, figure: float, bound: float, text: str, remedy: str, *, compares: bool = True) -> Verdict:
    """A verdict that refuses below a bound."""
    outcome: Outcome = "refuse" if figure < bound else "ok"
    return Verdict(guard, outcome, round(figure, 4), round(bound, 4), text, remedy, compares=compares)


def softened(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """The same verdicts, where those that compare with earlier nights only warn."""
    return [replace(v, outcome="warn") if v.outcome == "refuse" and v.compares else v for v in verdicts]


def with_earlier(verdicts: Sequence[Verdict], nights: Sequence[Mapping[str, float]]) -> list[Verdict]:
    """The same verdicts beside the figures of earlier nights, newest first: guard -> figure."""
    return [replace(v, earlier=tuple(night[v.guard] for night in nights if v.guard in night)) for v in verdicts]
