"""`recsys deliver`: send a written audience or file of picks to a webhook or a mailing service, or into a table.

Consent is checked once more, row by row. A run that was killed goes on with the page that it stopped at; the receiver
knows a page that comes twice by its key.
"""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from jobs import ledger
from jobs.commands import open_shop
from jobs.output import Output
from recsys.audience.delivery import Recipients, Row, chunks, digest_of, read_headers, read_rows
from recsys.audience.eligible import check_people, describe_changes
from recsys.audience.inputs import Rules, open_inputs
from recsys.audience.shapes import SHAPES, Shape, pages
from recsys.audience.webhook import Webhook, check_url, send
from recsys.config.settings import Config
from recsys.data.folder import failpoint, read_text, replace_text
from recsys.errors import ConfigError, NotFoundError
from recsys.progress import Progress
from recsys.store.list_table import replace_rows

LEASE = "deliver"
SECRET = "RECSYS_WEBHOOK_SECRET"  # noqa: S105  the name of an environment variable
_TABLE_ROWS = 1_000  # that are inserted at once


def deliver(
    config: Config,
    *,
    file: Path,
    to: str | None = None,
    shape: str = "plain",
    list_id: str = "",
    secret_file: Path | None = None,
    headers_file: Path | None = None,
    allow_private: bool = False,
    again: bool = False,
    table: str | None = None,
    database_file: Path | None = None,
    progress: Progress,
) -> Output:
    """Deliver the rows of a file of those who may be mailed now, and record the run in the ledger.

    to: the address of a webhook; table: the name of a table, in the service's own database or in that whose URL
    database_file holds. secret_file: what pages are signed with; else the environment says it. again: also what was
    delivered before. Raises ConfigError for an option that is wrong, RefusedError for an address that is not public.
    """
    if not file.is_file():
        raise NotFoundError(f"there is no file {file}")
    if (to is None) == (table is None):
        raise ConfigError("say where to: --to ADDRESS or --table NAME")
    with closing(open_shop(config)) as store, ledger.run(store, LEASE, config) as run:
        if to is not None:
            wanted = _shape(shape, list_id)
            webhook = Webhook(to, _secret(secret_file), read_headers(headers_file), allow_private)
            check_url(to, allow_private=allow_private)
        inputs = open_inputs(config, store)
        mailable = Recipients(check_people(inputs, Rules()), inputs.people)
        with run.step("deliver") as counts:
            if to is not None:
                data = _send(file, webhook, wanted, shape, list_id, mailable, progress, again=again)
            else:
                data = _store(file, str(table), _database(config, database_file), mailable, progress)
            counts.update(delivered=data["delivered"], left_out=mailable.left_out)
        data["left_out"] = mailable.left_out
        run.metrics = {"file": file.name, "delivered": data["delivered"], "left_out": mailable.left_out}
    return Output(data, _parts(data))


def _send(
    file: Path,
    webhook: Webhook,
    shape: Shape,
    name: str,
    list_id: str,
    mailable: Recipients,
    progress: Progress,
    *,
    again: bool,
) -> dict[str, Any]:
    """Send page after page, and remember after each how many rows of the file are done."""
    place, digest = file.with_name(f".{file.name}.delivered"), digest_of(file)
    question = [digest, webhook.url, name, list_id]
    done = 0 if again else _done(place, question)
    delivered, sent, start = 0, 0, 0
    for chunk in chunks(read_rows(file), shape.rows):
        stop = start + len(chunk)
        if stop > done:
            kept = mailable.keep(chunk, needs_email=shape.needs_email)
            # Named by the rows of the file, so that a page keeps its key when somebody withdraws in between.
            for part, body in enumerate(pages(iter(kept), shape, list_id)):
                send(webhook, body, f"{digest}-{start}-{part}")
                sent += 1
                failpoint("after page")
            delivered += len(kept)
            replace_text(place, json.dumps({"question": question, "rows": stop}) + "\n")
        start = stop
        progress("deliver", 0.5)
    progress("deliver", 1.0)
    return {
        "file": str(file),
        "to": webhook.url.partition("?")[0],
        "rows": start,
        "before": done,
        "delivered": delivered,
        "pages": sent,
    }


def _store(file: Path, table: str, url: str, mailable: Recipients, progress: Progress) -> dict[str, Any]:
    """Replace the rows of a table."""

    def kept() -> Iterator[Sequence[Row]]:
        for chunk in chunks(read_rows(file), _TABLE_ROWS):
            if rows := mailable.keep(chunk, needs_email=False):
                yield rows

    progress("deliver", 0.0)
    delivered = replace_rows(url, table, kept())
    progress("deliver", 1.0)
    rows = delivered + sum(mailable.left_out.values())
    return {"file": str(file), "to": f"table {table}", "rows": rows, "before": 0, "delivered": delivered, "pages": None}


def _done(place: Path, question: list[str]) -> int:
    """How many rows of this file an earlier run has delivered to this address."""
    try:
        found = json.loads(read_text(place) or "{}")
        return int(found["rows"]) if found.get("question") == question else 0
    except (ValueError, KeyError, TypeError, AttributeError):
        return 0


def _shape(name: str, list_id: str) -> Shape:
    if name not in SHAPES:
        raise ConfigError(f"--shape: there is no {name!r}; allowed are {', '.join(SHAPES)}")
    if SHAPES[name].needs_list and not list_id:
        raise ConfigError(f"--shape {name} needs --list-id, the id of the list at the service")
    return SHAPES[name]


def _secret(path: Path | None) -> bytes:
    """What pages are signed with. Raises ConfigError when nothing says it."""
    try:
        text = os.environ.get(SECRET, "") if path is None else path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--secret-file {path} cannot be read: {error}") from None
    if not text.strip():
        raise ConfigError(f"pages are signed: give --secret-file, or set {SECRET}")
    return text.strip().encode()


def _database(config: Config, path: Path | None) -> str:
    """The URL of the database that holds the table."""
    if path is None:
        return config.store.url
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--database-file {path} cannot be read: {error}") from None


def _parts(data: dict[str, Any]) -> list[str]:
    told = f"{data['delivered']} of {data['rows']} rows of {data['file']} went to {data['to']}"
    lines = [told if data["pages"] is None else f"{told} in {data['pages']} pages"]
    if data["before"]:
        lines.append(f"{data['before']} rows had been delivered before; --again sends them too")
    if data["left_out"]:
        lines.append(f"left out: {describe_changes(data['left_out'])}")
    return lines
