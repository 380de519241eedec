"""`recsys picks`: the best items for each member of an audience, or for every subscriber, as a file for a mailing tool.

The file is complete or absent. A run that was killed goes on where it stopped when it is started again with the same
arguments; what it has done lies beside the file until that is written.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from jobs import ledger
from jobs.commands import open_shop
from jobs.output import Output, Table
from recsys.audience.eligible import describe_changes, describe_left_out
from recsys.audience.files import check_file, writing
from recsys.audience.inputs import Inputs, Rules, newest_moment, open_inputs
from recsys.audience.picks import Earlier, Shown, pick
from recsys.audience.recipients import members_of, subscribers
from recsys.audience.suppression import read_suppression
from recsys.audience.unfinished import Unfinished
from recsys.config.settings import Config
from recsys.data.folder import failpoint
from recsys.data.times import parse_time, rfc3339
from recsys.errors import ConfigError
from recsys.progress import Progress
from recsys.serving.bulk import BulkAnswers, BulkQuery
from recsys.serving.snapshot import Snapshot, items_after, load

LEASE = "picks"
_SHOWN = 5


def picks(
    config: Config,
    *,
    out: Path,
    k: int,
    members: str | None = None,
    filters: Sequence[str] = (),
    exclude: Sequence[str] = (),
    caps: Sequence[str] = (),
    fields: Sequence[str] = (),
    link: str | None = None,
    not_in: Sequence[Path] = (),
    suppress: Sequence[Path] = (),
    allow_empty_suppression: bool = False,
    allow_repurchase: bool | None = None,
    as_of: str | None = None,
    progress: Progress,
) -> Output:
    """Write the k best items of each recipient, and record the run in the ledger.

    members: the id of a frozen audience; None: every subscriber with consent. caps: as "category:2", at most so many
    items of a list may share a value. fields: further columns of the catalog. link: the address of an item's page, with
    {item_id} in it. not_in: earlier files of picks; what they offered to a recipient is left out for that one.
    Raises ConfigError for an option that is wrong, RefusedError when nobody may be mailed.
    """
    check_file(out)
    limits = _caps(caps)
    rules = Rules(tuple(map(read_suppression, suppress)) or None, allow_empty_suppression)
    with closing(open_shop(config)) as store, ledger.run(store, LEASE, config) as run:
        progress("load", 0.0)
        with run.step("load") as counts:
            inputs = open_inputs(config, store)
            snapshot = load(config, partial(items_after, store), bundle=inputs.bundle, extract=inputs.extract)
            names = [name.strip() for text in fields for name in text.split(",") if name.strip()]
            shown = Shown(snapshot.view, names, link, k)
            warnings: list[str] = []
            if members is not None:
                table, left_out = members_of(inputs, members)
                recipients = table["user_id"].to_pylist()
            else:
                recipients, left_out, warnings = subscribers(inputs, rules)
            recipients = sorted(recipients)
            counts.update(recipients=len(recipients), left_out=left_out)
        progress("load", 1.0)
        moment = newest_moment(inputs) if as_of is None else _moment(as_of)
        asked = {
            "k": k,
            "filters": list(filters),
            "exclude": sorted(exclude),
            "caps": limits,
            "members": members,
            "as_of": as_of,
            "not_in": [_digest(path.read_bytes()) for path in not_in if path.is_file()],
            "allow_repurchase": allow_repurchase,
        }
        question = _digest([asked, _state(inputs)])
        work = Unfinished(out)
        facts, goes_on = work.open(question, {"as_of": moment})
        query = BulkQuery(k, facts["as_of"], filters, exclude, limits, allow_repurchase)
        answers = BulkAnswers(config, snapshot, inputs.fresh, query)
        with run.step("pick") as counts:
            earlier = Earlier(not_in, snapshot.view) if not_in else None
            done = _pick(work, answers, snapshot, recipients, earlier, progress)
            counts.update(resumed_at=done)
        with run.step("write") as counts:
            found = _write(out, work, shown, recipients if done else None)
            counts.update(rows=found.rows, picks=found.picks)
        work.remove()
        failpoint("after file")
        run.bundle = inputs.bundle.version
        data = {
            "as_of": rfc3339(facts["as_of"]),
            "bundle": inputs.bundle.version,
            "k": k,
            "recipients": found.rows,
            "picks": found.picks,
            "short": found.short,
            "eligible_items": answers.eligible,
            "left_out": left_out,
            "resumed_at": done if goes_on else None,
            "consent": "assumed" if config.audience.consent == "assumed" else "given",
            "warnings": [*warnings, *_warnings(config, answers, found, shown)],
            "out": str(out),
        }
        run.metrics = {name: data[name] for name in ("as_of", "k", "recipients", "picks", "short", "consent")}
    return Output(data, _parts(data, found.first, members))


@dataclass
class _Written:
    """What was written."""

    rows: int = 0
    picks: int = 0
    short: int = 0  # recipients with fewer than k
    guarded: int = 0
    first: tuple[tuple[str, str], ...] = ()  # recipients and their items


def _pick(
    work: Unfinished,
    answers: BulkAnswers,
    snapshot: Snapshot,
    recipients: Sequence[str],
    earlier: Earlier | None,
    progress: Progress,
) -> int:
    """Pick for everybody for whom a former process has not; return how many these were."""
    known = {user for block in work.blocks() for user in block.column("user_id").to_pylist()}
    rest = [user for user in recipients if user not in known] if known else recipients
    progress("pick", 1 - len(rest) / max(1, len(recipients)))
    left = len(rest)
    for block in pick(answers, snapshot.view, rest, earlier):
        work.append(block)
        left -= block.num_rows
        progress("pick", 1 - left / len(recipients))
    progress("pick", 1.0)
    return len(known)


def _write(out: Path, work: Unfinished, shown: Shown, recipients: Sequence[str] | None) -> _Written:
    """Write the file. recipients: only those of the blocks who are among them; None: all."""
    written, among = _Written(), None if recipients is None else pa.array(recipients, pa.string())
    with writing(out, shown.schema) as writer:
        for block in _kept(work.blocks(), among):
            rows = shown.rows(block)
            writer.write(rows)
            lengths = pc.list_value_length(rows.column("picks"))
            written.rows += rows.num_rows
            written.picks += pc.sum(lengths).as_py() or 0
            written.short += pc.sum(pc.less(lengths, shown.k)).as_py() or 0
            if not written.first:
                head = rows.slice(0, _SHOWN).to_pylist()
                written.first = tuple((row["user_id"], ", ".join(p["item_id"] for p in row["picks"])) for row in head)
    written.guarded = writer.guarded
    return written


def _kept(blocks: Iterator[pa.Table], among: pa.Array | None) -> Iterator[pa.Table]:
    """The blocks without whoever may no longer be mailed since a former process picked for them."""
    for block in blocks:
        yield block if among is None else block.filter(pc.is_in(block.column("user_id"), value_set=among))


def _caps(texts: Sequence[str]) -> dict[str, int]:
    """The caps of --cap. Raises ConfigError."""
    found: dict[str, int] = {}
    for text in texts:
        column, _, limit = text.rpartition(":")
        if not column or not limit.isdecimal() or int(limit) < 1:
            raise ConfigError(f"--cap {text!r}: expected COLUMN:NUMBER, as category:2")
        found[column] = min(int(limit), found.get(column, int(limit)))
    return found


def _moment(text: str) -> int:
    try:
        return parse_time(text, default_utc=True)
    except (ValueError, OverflowError):
        raise ConfigError(f"--as-of {text!r} is no time; allowed is ISO 8601 as 2026-11-23T08:00Z") from None


def _state(inputs: Inputs) -> Mapping[str, Any]:
    """What else decides about picks: after a training everything is picked anew."""
    config = inputs.config
    return {
        "bundle": inputs.bundle.version,
        "extract": inputs.extract.as_of,
        "recommendations": config.recommendations.model_dump(mode="json"),
        "history_length": config.events.history_length,
    }


def _digest(value: Any) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value, sort_keys=True).encode()
    return hashlib.blake2b(data, digest_size=8).hexdigest()


def _warnings(config: Config, answers: BulkAnswers, found: _Written, shown: Shown) -> list[str]:
    warnings = []
    if found.short:
        warnings.append(
            f"{found.short} recipients have fewer than {shown.k} picks: {answers.eligible} items are eligible before "
            "what each of them bought and the caps"
        )
    if shown.missing:
        warnings.append(
            f"the catalog has no {', '.join(shown.missing)}, so the file has none; --link makes addresses of item ids"
        )
    if config.audience.consent == "assumed":
        warnings.append('consent is assumed, not known: [audience] consent = "assumed"')
    if found.guarded:
        warnings.append(f"{found.guarded} cells begin as a formula would; in the file an apostrophe stands before them")
    return warnings


def _parts(data: dict[str, Any], first: Sequence[tuple[str, str]], members: str | None) -> list[Table | str]:
    who = "subscribers" if members is None else f"members of {members}"
    describe = describe_left_out if members is None else describe_changes
    lines: list[Table | str] = [
        Table(f"Picks of {data['recipients']} {who}", ("user_id", "items"), first),
        f"as of {data['as_of']}, from {data['bundle']}; {data['picks']} picks, {data['eligible_items']} items eligible",
        f"left out: {describe(data['left_out'])}",
        *(f"warning: {warning}" for warning in data["warnings"]),
        f"written to {data['out']}",
    ]
    if data["resumed_at"]:
        lines.insert(1, f"a run that was killed had picked for {data['resumed_at']} of them; this one went on")
    return lines
