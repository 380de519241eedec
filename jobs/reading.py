"""The commands that read the shop's database or files without training: each returns what is printed."""

import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

import polars as pl

from jobs.commands import open_configured
from jobs.output import Output, Table
from recsys.config.settings import Config
from recsys.data.times import readable
from recsys.progress import Progress
from recsys.source.dataset import check
from recsys.source.findings import Finding, SourceReport
from recsys.source.importer import Understood, What, kind_names, understand
from recsys.source.importer import import_files as import_into

_FIRST = 5  # rows that a check of files shows


def source_check(config: Config, *, progress: Progress) -> Output:
    """Show how the source is mapped and every finding; exit code 3 when training would be refused."""
    with closing(open_configured(config)) as store:
        found = check(config, store, now=time.time_ns() // 1000, progress=progress)
    return Output(found.to_dict(), _report_parts(found), code=3 if found.errors else 0)


def _report_parts(found: SourceReport) -> list[Table | str]:
    columns = [[query, column, role] for query, roles in found.mapping.items() for column, role in roles.items()]
    kinds = [[theirs, values["kind"] or "left out", values["rows"]] for theirs, values in found.kinds.items()]
    return [
        Table("What maps to what", ["query", "column", "becomes"], columns),
        Table("Counts", ["what", "rows"], list(found.counts.items())),
        Table("Kinds of events", ["the shop's word", "ours", "rows"], kinds),
        f"first event {readable(found.first)}, last {readable(found.last)} (UTC)",
        _findings(found.findings),
    ]


def _findings(found: Sequence[Finding]) -> Table:
    rows = [[f.severity, f.reason, f.rows, f.of, "\n".join(f.examples), f.advice] for f in found]
    return Table("Findings", ["severity", "reason", "rows", "of", "examples", "advice"], rows)


def import_files(
    config: Config,
    *,
    paths: Sequence[Path],
    what: What | None,
    preset: str | None,
    columns: Mapping[str, str],
    progress: Progress,
) -> Output:
    """Read files into the own tables. Importing them again adds nothing."""
    with closing(open_configured(config)) as store:
        done = import_into(config, store, paths, what=what, preset=preset, columns=columns, progress=progress)
    counts = [[name, value] for name, value in done.to_dict().items() if isinstance(value, int)]
    files = ", ".join(str(path) for path in paths)
    return Output(
        done.to_dict(),
        [
            _recognized(done.recognized),
            Table(f"Imported {files}", ["what", "rows"], counts),
            _left_out(done.left_out),
            _findings(done.findings),
        ],
    )


def check_files(
    config: Config,
    *,
    paths: Sequence[Path],
    what: What | None,
    preset: str | None,
    columns: Mapping[str, str],
    progress: Progress,
) -> Output:
    """Show what an import would read from files; write nothing. Exit code 3 when it would be refused."""
    now = time.time_ns() // 1000
    found = understand(config, paths, what=what, preset=preset, columns=columns, now=now, progress=progress)
    first = _first_rows(config, found)
    data = {
        "what": found.what,
        "rows": found.rows,
        "kept": found.table.height,
        "left_out": found.left_out,
        "recognized": found.recognized,
        "first": first.to_dicts(),
        "findings": [vars(finding) for finding in found.findings],
        "refused": found.refusal is not None,
    }
    parts: list[Table | str] = [
        _recognized(found.recognized),
        Table(f"First {found.what} as understood", first.columns, first.rows()),
        Table("Counts", ["what", "rows"], [["in the files", found.rows], ["to import", found.table.height]]),
        _left_out(found.left_out),
        _findings(found.findings),
        "the import would be refused" if found.refusal else "nothing was written; without --check these are imported",
    ]
    return Output(data, parts, code=3 if found.refusal else 0)


def _first_rows(config: Config, found: Understood) -> pl.DataFrame:
    """The first rows as they would be stored, with times as people read them."""
    rows = found.table.head(_FIRST)
    times = [name for name in ("time", "created_at") if name in rows.columns]
    rows = rows.with_columns(
        pl.from_epoch(name, time_unit="us").dt.to_string("%Y-%m-%d %H:%M:%S").alias(name) for name in times
    )
    if found.what != "events":
        return rows
    names = kind_names(config)
    return rows.select(
        "user_id", "item_id", pl.col("kind").replace_strict(names, return_dtype=pl.String), "time", "value"
    )


def _recognized(found: Mapping[str, Mapping[str, str]]) -> Table:
    rows = [[file, what, value] for file, values in found.items() for what, value in values.items()]
    return Table("Recognized", ["file", "what", "found"], rows)


def _left_out(reasons: Mapping[str, int]) -> Table:
    return Table("Left out", ["reason", "rows"], [[reason, rows] for reason, rows in reasons.items()])
