"""The picture of a backtest: expected and actual buyers by week, and the calibration plot, as one SVG file."""

import math
from typing import Any

_WIDTH, _HEIGHT, _PAD, _SIDE = 820, 380, 50, 300
_EXPECTED, _ACTUAL, _LINE = "#3b6fb5", "#d9822b", "#777"


def draw_svg(data: dict[str, Any]) -> str:
    """Draw the output of a backtest. Nothing of it is text of the shop."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        'font-family="sans-serif" font-size="12">',
        "<title>Expected and actual buyers of past weeks, and calibration</title>",
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        *_weeks(data["weeks"]),
        *_calibration(data["calibration"]),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _text(x: float, y: float, text: str, anchor: str = "middle", fill: str = "#222") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{fill}">{text}</text>'


def _weeks(weeks: list[dict[str, Any]]) -> list[str]:
    """Two bars for each week."""
    highest = max(1.0, *(max(week["expected"], week["actual"]) for week in weeks))
    width, bottom = _SIDE / len(weeks), _PAD + _SIDE
    parts = [
        _text(_PAD, 25, "buyers expected", "start", _EXPECTED),
        _text(_PAD + 110, 25, "and actual, by week", "start", _ACTUAL),
        f'<path d="M{_PAD} {_PAD}V{bottom}H{_PAD + _SIDE}" fill="none" stroke="{_LINE}"/>',
        _text(_PAD - 5, _PAD + 5, f"{highest:.0f}", "end"),
        _text(_PAD - 5, bottom, "0", "end"),
    ]
    for at, week in enumerate(weeks):
        for bar, (name, color) in enumerate((("expected", _EXPECTED), ("actual", _ACTUAL))):
            height = _SIDE * week[name] / highest
            x = _PAD + at * width + (0.1 + 0.4 * bar) * width
            parts.append(
                f'<rect x="{x:.1f}" y="{bottom - height:.1f}" width="{0.4 * width:.1f}" height="{height:.1f}" '
                f'fill="{color}"><title>{week["as_of"][:10]}: {week[name]:g} {name}</title></rect>'
            )
        parts.append(_text(_PAD + (at + 0.5) * width, bottom + 16, week["as_of"][5:10]))
    return parts


def _calibration(bins: list[dict[str, Any]]) -> list[str]:
    """The share who bought over the mean probability, on logarithmic axes; the diagonal is perfect."""
    left, bottom = _PAD + _SIDE + 110, _PAD + _SIDE
    seen = [value for one in bins for value in (one["mean"], one["bought"]) if value > 0] or [0.1]
    low = math.floor(math.log10(min(seen)))
    scale = _SIDE / max(1, -low)

    def place(value: float) -> float:
        return (math.log10(max(value, 10.0**low)) - low) * scale

    parts = [
        _text(left + _SIDE / 2, 25, "share who bought, by mean probability"),
        f'<path d="M{left} {_PAD}V{bottom}H{left + _SIDE}" fill="none" stroke="{_LINE}"/>',
        f'<path d="M{left} {bottom}L{left + _SIDE} {_PAD}" stroke="{_LINE}" stroke-dasharray="4"/>',
    ]
    for power in range(low, 1):
        at = (power - low) * scale
        parts += [
            _text(left + at, bottom + 16, f"{10.0**power:g}"),
            _text(left - 6, bottom - at + 4, f"{10.0**power:g}", "end"),
        ]
    largest = max((one["users"] for one in bins), default=1)
    for one in bins:
        x, y = left + place(one["mean"]), bottom - place(one["bought"])
        told = f"{one['users']} users, mean probability {one['mean']:.4f}, {one['bought']:.4f} bought"
        radius = 3 + 7 * math.sqrt(one["users"] / largest)
        parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" fill="{_EXPECTED}" fill-opacity=".7">'
            f"<title>{told}</title></circle>"
        )
    return parts
