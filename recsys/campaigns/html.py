"""HTML and SVG as text in which everything that came from data is escaped."""

from collections.abc import Iterable, Sequence
from html import escape

WIDTH, HEIGHT = 400, 230  # of a chart
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 12, 40
_STEPS = 4


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def element(tag: str, attributes: dict[str, object] | None = None, *children: object) -> Markup:
    """An element; children that are no Markup are escaped, and so are the values of attributes."""
    named = "".join(f' {name}="{escape(str(value))}"' for name, value in (attributes or {}).items())
    return Markup(f"<{tag}{named}>{inside(children)}</{tag}>")


def inside(children: Iterable[object]) -> Markup:
    """Children one after the other; None is left out."""
    return Markup("".join(c if isinstance(c, Markup) else escape(str(c)) for c in children if c is not None))


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Markup:
    """A table whose numbers stand on the right; it scrolls by itself where the page is narrow."""
    head = element("tr", {}, *(element("th", {}, name) for name in columns))
    body = (element("tr", {}, *map(_cell, row)) for row in rows)
    return element(
        "div", {"class": "scroll"}, element("table", {}, element("thead", {}, head), element("tbody", {}, *body))
    )


def bars(rows: Iterable[tuple[str, float, str]], most: float) -> Markup:
    """Rows of a label, a length and a text; `most` is the length of a whole line."""
    lines = []
    for label, length, text in rows:
        width = f"{100 * length / most if most > 0 else 0:.2f}"
        line = element("rect", {"width": width, "height": 1})
        track = element("svg", {"class": "track", "viewBox": "0 0 100 1", "preserveAspectRatio": "none"}, line)
        lines.append(
            element(
                "li",
                {},
                element("span", {"class": "label"}, label),
                track,
                element("span", {"class": "count"}, text),
            )
        )
    return element("ul", {"class": "bars"}, *lines)


class Chart:
    """A chart with axes from 0; marks are added in its own numbers."""

    def __init__(self, title: str, x_label: str, y_label: str, x_most: float, y_most: float, *, percent: bool) -> None:
        """percent: the numbers of the y axis are shares."""
        self._title, self._labels = title, (x_label, y_label)
        self._x_most, self._y_most = max(x_most, 1e-12), _ceiling(y_most)
        self._percent = percent
        self._marks: list[Markup] = []

    def line(self, points: Iterable[tuple[float, float]], kind: str) -> None:
        """A line through points."""
        text = " ".join(f"{self._x(x):.1f},{self._y(y):.1f}" for x, y in points)
        self._marks.append(element("polyline", {"class": f"line {kind}", "points": text}))

    def point(self, x: float, y: float, kind: str, title: str) -> None:
        """A dot, with a text for who points at it."""
        place: dict[str, object] = {"class": kind, "cx": f"{self._x(x):.1f}", "cy": f"{self._y(y):.1f}", "r": 4}
        self._marks.append(element("circle", place, element("title", {}, title)))

    def column(self, x: float, width: float, y: float, kind: str, title: str) -> None:
        """A bar that stands on the axis."""
        left, right, top = self._x(x), self._x(x + width), self._y(y)
        box: dict[str, object] = {"class": kind, "x": f"{left:.1f}", "y": f"{top:.1f}"}
        box |= {"width": f"{right - left:.1f}", "height": f"{max(0.0, self._y(0) - top):.1f}"}
        self._marks.append(element("rect", box, element("title", {}, title)))

    def drawn(self, x_ticks: Iterable[tuple[float, str]]) -> Markup:
        """The chart as SVG."""
        parts = []
        for step in range(_STEPS + 1):
            value = self._y_most * step / _STEPS
            y = f"{self._y(value):.1f}"
            parts.append(element("line", {"class": "grid", "x1": _LEFT, "x2": WIDTH - _RIGHT, "y1": y, "y2": y}))
            text = f"{100 * value:.3g} %" if self._percent else f"{value:.3g}"
            parts.append(
                element("text", {"x": _LEFT - 6, "y": f"{self._y(value) + 4:.1f}", "text-anchor": "end"}, text)
            )
        for x, text in x_ticks:
            place: dict[str, object] = {"x": f"{self._x(x):.1f}", "y": HEIGHT - _BOTTOM + 15, "text-anchor": "middle"}
            parts.append(element("text", place, text))
        axis: dict[str, object] = {"x": (WIDTH + _LEFT) / 2, "y": HEIGHT - 5, "text-anchor": "middle"}
        parts.append(element("text", axis, self._labels[0]))
        box: dict[str, object] = {"viewBox": f"0 0 {WIDTH} {HEIGHT}", "role": "img", "aria-label": self._title}
        figure = element("svg", box, *parts, *self._marks)
        caption = element("figcaption", {}, self._title, element("span", {"class": "quiet"}, f" ({self._labels[1]})"))
        return element("figure", {}, caption, figure)

    def _x(self, value: float) -> float:
        return _LEFT + (WIDTH - _LEFT - _RIGHT) * value / self._x_most

    def _y(self, value: float) -> float:
        return HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * value / self._y_most


def _cell(value: object) -> Markup:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    text = (
        "–" if value is None else f"{value:,.4g}" if isinstance(value, float) else f"{value:,}" if is_number else value
    )
    return element("td", {"class": "number"} if is_number else {}, text)


def _ceiling(most: float) -> float:
    """The next round number: the top of an axis."""
    if most <= 0:
        return 1.0
    size = 10.0 ** len(str(int(most))) if most >= 1 else 1.0
    while size / 10 >= most:
        size /= 10
    return next(size * part for part in (0.2, 0.25, 0.4, 0.5, 0.8, 1) if size * part >= most)
