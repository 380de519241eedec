"""`recsys runs`: the ledger for people. One line a run, everything of one, and what differs between two."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

from jobs.commands import open_configured
from jobs.guarding import GUARDS
from jobs.ledger import STARTED
from jobs.output import Output, Table
from recsys.config.settings import Config
from recsys.data.times import MICROSECONDS_PER_DAY, readable
from recsys.errors import NotFoundError
from recsys.progress import Progress
from recsys.store.runs import Run, list_runs, read_run

WIDTH = 80
_FAILED = ("failed", "refused")
_MOVED = ("item", "live bundle", "this run")
_DAYS = 8  # of the events by kind and day that are shown
_FIGURES = ("events", "users", "items", "duplicates", "top_user", "top_item")


def list_all(config: Config, *, limit: int, failed: bool, progress: Progress) -> Output:
    """List the newest runs of the ledger, a line of 80 columns each. failed: only those that did not end well."""
    progress("ledger", 1.0)
    with closing(open_configured(config)) as store:
        found = list_runs(store, limit, statuses=_FAILED if failed else ())
    head = _line("run", "job", "status", "started (UTC)", "took", "ndcg@20", "what came of it")
    return Output([_data(run) for run in found], [head, *map(_line_of, found)])


def _data(run: Run) -> dict[str, Any]:
    times = {name: readable(getattr(run, name)) for name in ("started_at", "heartbeat_at", "finished_at", "due_at")}
    return {**vars(run), **times, "seconds": _seconds(run)}


def _seconds(run: Run) -> float | None:
    return None if run.finished_at is None else round((run.finished_at - run.started_at) / 1e6, 1)


def _line_of(run: Run) -> str:
    quality = run.metrics.get("gate", {}).get("candidate")
    shown = "" if quality is None else f"{quality:.4f}"
    return _line(run.run_id, run.job, run.status, readable(run.started_at)[:16], _took(run), shown, _came_of(run))


def _line(*cells: Any) -> str:
    run, job, status, started, took, quality, what = map(str, cells)
    line = f"{run:>5} {job:<8.8} {status:<7.7} {started:<16} {took:>6} {quality:>7} {what}"
    return line if len(line) <= WIDTH else f"{line[: WIDTH - 1]}…"


def _took(run: Run) -> str:
    seconds = _seconds(run)
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m" if hours else f"{minutes}m{rest:02}s" if minutes else f"{seconds:.1f}s"


def _came_of(run: Run) -> str:
    """What an operator wants to know first: the guards that refused, the cause, or what it published."""
    verdicts = run.metrics.get(GUARDS, {}).get("verdicts", ())
    if run.status == "refused":
        refusing = [verdict["guard"] for verdict in verdicts if verdict["outcome"] == "refuse"]
        reasons = run.metrics.get("gate", {}).get("reasons")
        return ", ".join(refusing) or (f"gate: {reasons[0]}" if reasons else _first_line(run.error))
    if run.status == "failed":
        return str(run.metrics.get("cause") or _first_line(run.error))
    forced = " forced" if run.metrics.get(STARTED, {}).get("forced") else ""
    warned = sum(verdict["outcome"] == "warn" for verdict in verdicts)
    model = run.metrics.get("winner") or ""
    return f"{model}{forced}{f', {warned} warnings' if warned else ''}".strip(", ")


def _first_line(text: str | None) -> str:
    return (text or "").partition("\n")[0]


def show(config: Config, *, run_id: int | None, progress: Progress) -> Output:
    """Show everything of one run, the newest by default. Raises NotFoundError when there is none."""
    progress("ledger", 1.0)
    with closing(open_configured(config)) as store:
        run = _newest(list_runs(store, 1)) if run_id is None else read_run(store, run_id)
    return Output(_data(run), list(_parts(run)))


def _newest(runs: Sequence[Run]) -> Run:
    if not runs:
        raise NotFoundError("the ledger has no run yet; `recsys train` makes the first")
    return runs[0]


def _parts(run: Run) -> Iterator[Table | str]:
    started = run.metrics.get(STARTED, {})
    yield f"run {run.run_id}: {run.job} {run.status}, {readable(run.started_at)} UTC, took {_took(run) or 'no end yet'}"
    yield f"started by {started.get('by', 'unknown')}, account {started.get('user')}, process {run.owner}"
    yield f"version {started.get('version')}, bundle {run.bundle or 'none'}"
    if forced := started.get("forced"):
        yield f"forced: {forced}"
    if cause := run.metrics.get("cause"):
        yield f"cause: {cause}"
    if run.error:
        yield run.error
    yield from _step_parts(run)
    if kept := run.metrics.get(GUARDS):
        yield from _guard_parts(kept)
    if gate := run.metrics.get("gate"):
        yield Table("Gate", ["what", "figure"], [[name, _plain(value)] for name, value in gate.items()])
    if settings := dict(_flat(started.get("settings", {}))):
        rows = [[key, _plain(value)] for key, value in settings.items()]
        yield Table("Settings that are not the default", ["key", "value"], rows)


def _step_parts(run: Run) -> Iterator[Table | str]:
    """The steps, and what they have kept: findings of the check, items that moved."""
    steps = [
        [step["name"], step["seconds"], step["counts"].get("peak_mb"), _brief(step["counts"])] for step in run.steps
    ]
    yield Table("Steps", ["step", "seconds", "peak MB", "counts"], steps)
    findings = [finding for step in run.steps for finding in step["counts"].get("findings", ())]
    if findings:
        rows = [[finding[name] for name in ("severity", "reason", "rows", "of")] for finding in findings]
        yield Table("Findings of the check", ["severity", "reason", "rows", "of"], rows)
    movers = [mover for step in run.steps for mover in step["counts"].get("movers", ())]
    if movers:
        rows = [[mover["item_id"], f"{mover['before']:.1%}", f"{mover['now']:.1%}"] for mover in movers]
        yield Table("Items that moved most: share of the sample's users whose ten best hold them", _MOVED, rows)


def _guard_parts(kept: Mapping[str, Any]) -> Iterator[Table | str]:
    rows = [
        [v["guard"], v["outcome"], v["figure"], v["bound"], ", ".join(f"{e:g}" for e in v["earlier"][:3]), v["text"]]
        for v in sorted(kept["verdicts"], key=lambda v: ("refuse", "warn", "ok").index(v["outcome"]))
    ]
    beside = ", ".join(map(str, kept.get("beside", ()))) or "none"
    yield Table(f"Guards, beside runs {beside}", ["guard", "outcome", "figure", "bound", "earlier", "which says"], rows)
    if unjudged := kept.get("unjudged"):
        yield f"note: {unjudged}"
    if "figures" not in kept:  # a night that brought nothing new
        return
    figures = kept["figures"]
    yield Table("Figures", ["what", "figure"], [[name, figures[name]] for name in _FIGURES])
    days = [readable((figures["last_day"] - back) * MICROSECONDS_PER_DAY)[5:10] for back in range(_DAYS)]
    rows = [[kind, *counts[:_DAYS]] for kind, counts in figures["days"].items()]
    yield Table("Events by kind and whole day (UTC)", ["kind", *days], rows)


def _brief(counts: Mapping[str, Any]) -> str:
    """The counts of a step that are numbers or short words."""
    return ", ".join(
        f"{name} {_plain(value)}"
        for name, value in counts.items()
        if name != "peak_mb" and isinstance(value, int | float | str)
    )


def _plain(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def diff(config: Config, *, first: int | None, second: int | None, progress: Progress) -> Output:
    """Show what differs between two runs. Without numbers: the newest run and the one of its job before it.

    Raises NotFoundError when one of them is not there.
    """
    progress("ledger", 1.0)
    with closing(open_configured(config)) as store:
        after = _newest(list_runs(store, 1)) if second is None else read_run(store, second)
        if first is not None:
            before = read_run(store, first)
        elif earlier := list_runs(store, 1, job=after.job, before=after.run_id):
            before = earlier[0]
        else:
            raise NotFoundError(f"there is no run of {after.job!r} before {after.run_id} to compare with")
    one, two = dict(_facts(before)), dict(_facts(after))
    changed = [key for key in dict.fromkeys([*one, *two]) if one.get(key) != two.get(key)]
    data = {key: [one.get(key), two.get(key)] for key in changed}
    rows = [[key, *(None if key not in facts else _plain(facts[key]) for facts in (one, two))] for key in changed]
    title = f"What differs between run {before.run_id} and run {after.run_id}"
    return Output({"runs": [before.run_id, after.run_id], "changed": data}, [_table(title, before, after, rows)])


def _table(title: str, before: Run, after: Run, rows: list[list[Any]]) -> Table:
    return Table(title, ["what", f"run {before.run_id}", f"run {after.run_id}"], rows)


def _facts(run: Run) -> Iterator[tuple[str, Any]]:
    """Everything of a run that can be compared with another, as flat names."""
    started = run.metrics.get(STARTED, {})
    yield "status", run.status
    yield from ((name, started.get(name)) for name in ("by", "user", "host", "version", "forced"))
    yield from ((f"setting {key}", value) for key, value in _flat(started.get("settings", {})))
    yield "cause", run.metrics.get("cause")
    for step in run.steps:
        yield f"seconds of {step['name']}", round(step["seconds"], 1)
        yield f"peak MB after {step['name']}", step["counts"].get("peak_mb")
        for finding in step["counts"].get("findings", ()):
            yield f"finding {finding['reason']}", f"{finding['severity']}, {finding['rows']} rows"
    kept = run.metrics.get(GUARDS, {})
    figures = kept.get("figures", {})
    yield from ((name, figures.get(name)) for name in _FIGURES)
    yield from ((f"catalog {name}", value) for name, value in figures.get("catalog", {}).items())
    for verdict in kept.get("verdicts", ()):
        yield f"guard {verdict['guard']}", f"{verdict['outcome']}, {verdict['figure']:g}"
    yield "winner", run.metrics.get("winner")
    for model, rows in run.metrics.get("models", {}).items():
        yield f"ndcg@20 of {model}", rows.get("all", {}).get("ndcg@20") if isinstance(rows, dict) else None


def _flat(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """A tree of settings as dotted keys."""
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value
