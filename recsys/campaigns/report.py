"""The report of a campaign as one HTML file that needs no other: who is in it, and whether it helped.

Everything that came from data is escaped, and a policy in the file forbids scripts and requests.
"""

import base64
import hashlib
from typing import Any

import numpy as np

from recsys.bundle.bundle import Bundle
from recsys.campaigns.html import Chart, Markup, bars, element, inside, table
from recsys.campaigns.members import held_back, members_of
from recsys.campaigns.shown import describe_campaign
from recsys.data.arrays import Float64
from recsys.store.campaigns import find_campaign
from recsys.store.database import Store

_EXAMPLES = 5
_POINTS = 100  # of the curve
_STYLE = """
:root { color-scheme: light dark; --ground: #f6f7f9; --sheet: #fff; --ink: #1b2430; --soft: #55606e; --line: #d9dee5;
  --first: #1d5fa8; --second: #b35900; }
@media (prefers-color-scheme: dark) { :root { --ground: #11161d; --sheet: #1a212b; --ink: #e6ebf2; --soft: #a3afbd;
  --line: #323d4b; --first: #86bbf2; --second: #f2a65a; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 70rem; padding: 1rem; background: var(--ground); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.4rem; margin: 0; } h2 { font-size: 1.1rem; margin: 0 0 .6rem; } h3 { font-size: 1rem; }
section { margin: 1rem 0; padding: 1rem; background: var(--sheet); border: 1px solid var(--line);
  border-radius: .6rem; }
.quiet { color: var(--soft); } .verdict { font-weight: 600; }
.charts { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)); }
figure { margin: 0; } svg { width: 100%; height: auto; } text { font-size: 11px; fill: var(--soft); }
.grid { stroke: var(--line); } .line { fill: none; stroke-width: 2; stroke: var(--soft); }
.line.first { stroke: var(--first); } circle.first, rect.first { fill: var(--first); }
circle.second, rect.second { fill: var(--second); }
.line.diagonal { stroke-dasharray: 4 4; }
.key::before { content: "■ "; } .key.first::before { color: var(--first); }
.key.second::before { color: var(--second); }
.scroll { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .3rem .7rem .3rem 0; border-bottom: 1px solid var(--line); vertical-align: top;
  overflow-wrap: break-word; }
th { color: var(--soft); } td.number { text-align: right; white-space: nowrap; }
.bars { list-style: none; margin: 0; padding: 0; }
.bars li { display: grid; grid-template-columns: minmax(0, 14rem) 1fr 5rem; gap: .7rem; align-items: center;
  margin: .25rem 0; }
.bars .track { background: var(--ground); height: 1rem; } .bars .count { text-align: right; }
.track rect { fill: var(--first); }
@media (max-width: 36rem) { .bars li { grid-template-columns: 1fr 4.5rem; } .bars .label { grid-column: 1 / -1; } }
"""
STYLE_HASH = f"'sha256-{base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()}'"
POLICY = f"default-src 'none'; style-src {STYLE_HASH}"


def gather(store: Store, name: str, bundle: Bundle | None) -> dict[str, Any]:
    """Read what the report of a campaign shows. bundle: for the titles of items. Raises NotFoundError."""
    campaign = find_campaign(store, name)
    members = members_of(store, campaign)
    back = held_back(name, campaign.control_share, members["user_id"].to_pylist())
    first = members.slice(0, _EXAMPLES).to_pylist()
    titles = _titles(bundle, [one["best_item"] for one in first if one["best_item"]])
    return {
        **describe_campaign(store, campaign),
        "probability": members["probability"].to_numpy(),
        "examples": [
            {**one, "held_back": bool(is_back), "title": titles.get(one["best_item"] or "")}
            for one, is_back in zip(first, back, strict=False)
        ],
    }


def render(told: dict[str, Any]) -> str:
    """The report of what `gather` returned."""
    body = [
        element("h1", {}, f"Campaign {told['name']}"),
        element("p", {}, told["purpose"]),
        *(section for section in (part(told) for part in _SECTIONS) if section is not None),
    ]
    policy = Markup(f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">')
    meta = Markup('<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">')
    style = Markup(f"<style>{_STYLE}</style>")
    head = element("head", {}, meta, policy, element("title", {}, f"Campaign {told['name']}"), style)
    return f"<!doctype html>\n{element('html', {'lang': 'en'}, head, element('body', {}, inside(body)))}\n"


def _overview(told: dict[str, Any]) -> Markup:
    definition = told["definition"]
    facts = [
        ("State", f"{told['state']}, by {told['changed_by']}"),
        ("Members", f"{told['members']:,}: {told['mailed']:,} to be mailed, {told['held_back']:,} held back"),
        ("Expected buyers among the mailed", f"{told['expected_buyers']:,.1f}"),
        ("As of", told["as_of"]),
        ("Bundle", told["bundle"]),
        ("Legal basis", definition["legal_basis"]),
        ("Members are to be deleted", told["delete_after"] or f"{definition['retention_days']} days after the export"),
    ]
    warnings = (told["audience"] or {}).get("warnings", [])
    notes = [element("p", {"class": "quiet"}, f"Note: {warning}") for warning in warnings]
    return _section("Overview", table(("", ""), facts), *notes)


def _funnel(told: dict[str, Any]) -> Markup | None:
    audience = told["audience"]
    if audience is None:
        return None
    left_out = {reason: count for reason, count in audience["left_out"].items() if count}
    everybody = sum(left_out.values()) + audience["eligible"]
    steps = [("all users", everybody), *((f"without: {reason}", -count) for reason, count in left_out.items())]
    steps += [("eligible", audience["eligible"]), ("members", told["members"])]
    steps += [("held back", -told["held_back"]), ("to be mailed", told["mailed"])]
    rows = [(name, abs(count), f"{count:,}") for name, count in steps]
    return _section("From all users to the mailed", bars(rows, everybody))


def _sizes(told: dict[str, Any]) -> Markup | None:
    probability: Float64 = told["probability"]
    if not len(probability):
        return None
    expected = np.cumsum(probability)
    at = np.unique(np.linspace(0, len(expected) - 1, min(_POINTS, len(expected))).astype(int))
    chart = Chart(
        "Expected buyers by the number of members",
        "members, in their order",
        "buyers",
        len(expected),
        float(expected[-1]),
        percent=False,
    )
    chart.line([(0, 0), *((place + 1, float(expected[place])) for place in at)], "first")
    curve = (told["audience"] or {}).get("curve") or {}
    sizes = curve.get("sizes", {})
    rows = [[share, size] for share, size in sizes.items()]
    note = "Users who reach a share of the buyers that are expected among all eligible ones:"
    below = [element("p", {}, note), table(("share", "users"), rows)] if rows else []
    ticks = [(0, "0"), (len(expected) / 2, f"{len(expected) // 2:,}"), (len(expected) * 0.95, f"{len(expected):,}")]
    return _section("Size", element("div", {"class": "charts"}, chart.drawn(ticks), element("div", {}, *below)))


def _lift(told: dict[str, Any]) -> Markup | None:
    found = told["measurement"]
    if found is None:
        rows = [
            [
                f"{one['control_share']:.0%}" + " (this campaign)" * one["chosen"],
                one["held_back"],
                f"{one['smallest']:.2%}",
            ]
            for one in told["could_find"]
        ]
        text = (
            "The smallest rise of conversion that would be found in nine of ten such campaigns, by the share held back:"
        )
        columns = ("share held back", "people held back", "smallest rise")
        return _section("What could be found", element("p", {}, text), table(columns, rows))
    rows = [_effect("conversion", found["conversion"], "{:.2%}")]
    if found["spend"] is not None:
        rows.append(_effect("spend for each person", found["spend"], "{:,.2f}"))
    names = ("", "mailed", "held back", "difference", "95 % interval")
    people = (
        f"{found['mailed']:,} mailed and {found['held_back']:,} held back, from {found['sent_at']} to {found['until']}"
    )
    return _section(
        "Measured lift",
        element("p", {"class": "verdict"}, found["text"]),
        table(names, rows),
        element("p", {"class": "quiet"}, people),
    )


def _effect(name: str, effect: dict[str, float], form: str) -> list[str]:
    interval = f"{form.format(effect['low'])} to {form.format(effect['high'])}"
    return [name, *(form.format(effect[part]) for part in ("mailed", "held_back", "difference")), interval]


def _tenths(told: dict[str, Any]) -> Markup | None:
    if told["measurement"] is None:
        return _expected_tenths(told)
    tenths = told["measurement"]["tenths"]
    shares = [one[name] or 0.0 for one in tenths for name in ("mailed_converted", "held_back_converted")]
    expected = [one["expected"] for one in tenths]
    by = Chart(
        "Conversion by tenth of the members",
        "tenth, the likeliest first",
        "conversion",
        len(tenths),
        max(shares),
        percent=True,
    )
    calibration = Chart(
        "Expected beside actual, of those held back",
        "expected probability",
        "conversion",
        max(expected),
        max(*shares, *expected),
        percent=True,
    )
    calibration.line([(0, 0), (max(expected), max(expected))], "diagonal")
    for at, one in enumerate(tenths):
        for number, (name, kind) in enumerate((("mailed", "first"), ("held_back", "second"))):
            share = one[f"{name}_converted"]
            if share is not None:
                words = f"{name.replace('_', ' ')}: {share:.2%} of {one[name]}"
                by.column(at + 0.12 + 0.38 * number, 0.36, share, kind, words)
        if one["held_back_converted"] is not None:
            words = f"expected {one['expected']:.2%}, came {one['held_back_converted']:.2%}"
            calibration.point(one["expected"], one["held_back_converted"], "second", words)
    key = element(
        "p",
        {},
        element("span", {"class": "key first"}, "mailed "),
        element("span", {"class": "key second"}, "held back"),
    )
    ticks = [(at + 0.5, str(at + 1)) for at in range(len(tenths))]
    most = max(expected)
    charts = [
        by.drawn(ticks),
        calibration.drawn([(most * part, f"{100 * most * part:.2g} %") for part in (0, 0.5, 0.95)]),
    ]
    return _section("Lift by tenth, and calibration", key, element("div", {"class": "charts"}, *charts))


def _expected_tenths(told: dict[str, Any]) -> Markup | None:
    probability: Float64 = np.sort(told["probability"])[::-1]
    if not len(probability):
        return None
    means = [float(part.mean()) for part in np.array_split(probability, min(10, len(probability)))]
    average = float(probability.mean())
    chart = Chart(
        "Expected conversion by tenth of the members",
        "tenth, the likeliest first",
        "conversion",
        len(means),
        max(means),
        percent=True,
    )
    for at, mean in enumerate(means):
        chart.column(
            at + 0.15, 0.7, mean, "first", f"{mean:.2%}, {mean / average if average else 0:.2f} times the average"
        )
    chart.line([(0, average), (len(means), average)], "diagonal")
    ticks = [(at + 0.5, str(at + 1)) for at in range(len(means))]
    return _section("Expected lift by tenth", element("div", {"class": "charts"}, chart.drawn(ticks)))


def _segments(told: dict[str, Any]) -> Markup:
    parts = []
    for column, counts in told["segments"].items():
        rows = [(value, count, f"{count:,}") for value, count in counts.items()]
        parts.append(element("div", {}, element("h3", {}, column), bars(rows, max(counts.values(), default=1))))
    return _section("Members by segment", element("div", {"class": "charts"}, *parts))


def _examples(told: dict[str, Any]) -> Markup | None:
    if not told["examples"]:
        return None
    rows = [
        [
            one["rank"],
            one["user_id"],
            one["probability"],
            one["reason"],
            one["title"] or one["best_item"],
            "held back" * one["held_back"],
        ]
        for one in told["examples"]
    ]
    return _section("The first members", table(("rank", "user", "probability", "reason", "best item", ""), rows))


def _life(told: dict[str, Any]) -> Markup:
    changes = table(("at", "action", "by"), [list(one.values()) for one in told["changes"]])
    if not told["exports"]:
        return _section("Life", changes)
    columns = ("number", "began", "finished", "to", "members", "by")
    exports = table(columns, [list(one.values()) for one in told["exports"]])
    return _section("Life", changes, element("h3", {}, "Exports"), exports)


_SECTIONS = (_overview, _lift, _funnel, _sizes, _tenths, _segments, _examples, _life)


def _section(title: str, *children: object) -> Markup:
    return element("section", {}, element("h2", {}, title), *children)


def _titles(bundle: Bundle | None, items: list[str]) -> dict[str, str]:
    if bundle is None or "title" not in bundle.catalog.columns.column_names:
        return {}
    rows = bundle.catalog.ids.rows_of(items)
    titles = bundle.catalog.columns.column("title")
    found = {item: titles[int(row)].as_py() for item, row in zip(items, rows, strict=True) if row >= 0}
    return {item: title for item, title in found.items() if title}
