"""How large an audience is to be: a number, a share of the eligible, expected buyers, or what pays.

Shapes: U users, in the order of the strategy.
"""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from recsys.audience.features import Float64
from recsys.errors import ConfigError, RefusedError

_NUMBER = r"(\d+(?:\.\d+)?)"
_FORMS = {  # kind -> how it is written
    "number": re.compile(r"(\d+)"),
    "share": re.compile(_NUMBER + "%"),
    "buyers": re.compile("buyers:" + _NUMBER),
    "profit": re.compile(f"profit:{_NUMBER}:{_NUMBER}"),
}
_ALLOWED = "500, 10% of the eligible, buyers:50 that are expected, or profit:VALUE:COST of a buyer and of a mail"


@dataclass(frozen=True)
class Size:
    """What was asked for."""

    kind: str  # a key of _FORMS
    amount: float  # members, per cent of the eligible, expected buyers, or the value of a buyer
    cost: float = 0.0  # of a mail, in the money of the value

    @property
    def number(self) -> int:
        """The members asked for; 0: that depends on the eligible."""
        return int(self.amount) if self.kind == "number" else 0

    def __str__(self) -> str:
        texts = {"share": f"{self.amount:g}%", "profit": f"profit:{self.amount:g}:{self.cost:g}"}
        return texts.get(self.kind, str(self.number) if self.number else f"buyers:{self.amount:g}")


def parse_size(text: str | int) -> Size:
    """Read a size. Raises ConfigError that says what is allowed."""
    for kind, form in _FORMS.items():
        found = form.fullmatch(str(text).strip())
        if found and float(found[1]) > 0 and not (kind == "share" and float(found[1]) > 100):
            return Size(kind, *map(float, found.groups()))
    raise ConfigError(f"--size {text} is no size; allowed is {_ALLOWED}")


def choose_size(size: Size, probability: Float64) -> tuple[int, dict[str, Any]]:
    """How many of the users [U] are members, and what that promises.

    Raises RefusedError when so many buyers are not expected, and when no mail pays.
    """
    if size.kind == "number":
        return size.number, {}
    if size.kind == "share":
        return max(1, round(size.amount / 100 * len(probability))), {}
    if size.kind == "buyers":
        expected = np.cumsum(probability)
        if expected[-1] < size.amount:
            raise RefusedError(
                f"--size {size}: of all {len(probability)} eligible users {expected[-1]:.1f} are expected to buy"
            )
        return int(np.searchsorted(expected, size.amount)) + 1, {}
    profit = np.cumsum(probability * size.amount - size.cost)
    best = int(np.argmax(profit))
    if profit[best] <= 0:
        raise RefusedError(
            f"--size {size}: no mail pays; the likeliest of {len(probability)} eligible users buys with a probability "
            f"of {probability.max():.4f}, which is worth {probability.max() * size.amount:.2f}"
        )
    return best + 1, {"profit": round(float(profit[best]), 2)}
