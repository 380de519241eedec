"""`recsys …`: the only place that knows all commands. What they do is named by dotted strings, loaded when called."""

import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from recsys.errors import BusyError, ConfigError, RecsysError, RefusedError
from recsys.imports import resolve

app = typer.Typer(
    help="A recommendation engine that a shop can trust. "
    "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 refused, 4 another run is under way.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"recsys {resolve('importlib.metadata:version')('recsys')}")
        raise typer.Exit


@app.callback()
def recsys(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Options of the command line as a whole."""


source = typer.Typer(help="Look at the shop's database.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(source, name="source")
key = typer.Typer(help="The keys that the service asks for.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(key, name="key")
placements = typer.Typer(help="The places on the shop's pages.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(placements, name="placements")
reviews = typer.Typer(help="What customers say of items.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(reviews, name="reviews")
campaign = typer.Typer(
    help="Mailings: to whom, approved by whom, and did they help.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(campaign, name="campaign")
people = typer.Typer(help="What is known of a user.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(people, name="user")
runs = typer.Typer(invoke_without_command=True, rich_markup_mode=None)
app.add_typer(runs, name="runs")
bundles = typer.Typer(invoke_without_command=True, rich_markup_mode=None)
app.add_typer(bundles, name="bundles")
alerts = typer.Typer(help="The alerts of `recsys schedule`.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(alerts, name="alerts")
content = typer.Typer(help="Texts and pictures of the catalog as vectors.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(content, name="content")
scheduling = typer.Typer(invoke_without_command=True, rich_markup_mode=None)
app.add_typer(scheduling, name="schedule")

ConfigOption = Annotated[Path, typer.Option("--config", envvar="RECSYS_CONFIG", help="The configuration file.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
CONFIG = Path("recsys.toml")
_ENDINGS = (  # of an error: what the line begins with, and the exit code
    (BusyError, "busy", 4),
    (RefusedError, "refused", 3),
    (ConfigError, "configuration", 2),
    (RecsysError, "failed", 1),
)
_log = logging.getLogger("jobs.cli")
_INTERRUPTED = 130  # what typer makes of a KeyboardInterrupt


def main(command: Callable[[], Any] = app) -> None:
    """Run a command; an error becomes a line on the error stream and an exit code."""
    try:
        command()
    except Exception as error:
        found = error if isinstance(error, RecsysError) else resolve("recsys.store.database:explain")(error)
        if found is None:
            raise
        _fail(*next((what, found, code) for kind, what, code in _ENDINGS if isinstance(found, kind)))
    except SystemExit as end:
        if end.code == _INTERRUPTED:
            _fail("failed", "interrupted", 1)
        raise


def _fail(what: str, error: RecsysError | str, code: int) -> None:
    if resolve("jobs.logs:is_scheduled")():
        for line in f"{what}: {error}".splitlines():
            _log.error(line)
    else:
        sys.stderr.write(f"{what}: {error.in_full if isinstance(error, RecsysError) else error}\n")
    sys.exit(code)


def _ids(values: list[str] | None) -> list[str] | None:
    """Ids as they may be; a typer.BadParameter says why one may not."""
    for value in values or ():
        try:
            resolve("recsys.store.bulk:check_id")("an id", value)
        except RefusedError as error:
            raise typer.BadParameter(f"{value[:40]!a}: {error}") from None
    return values


def _id(value: str | None) -> str | None:
    """One id, as `_ids`."""
    _ids(None if value is None else [value])
    return value


FilterOption = Annotated[
    list[str] | None,
    typer.Option(
        "--filter",
        help="column:op:value with op eq, in, between, range, gt, ge, lt, le, prefix, contains or exists, or JSON; "
        "may come several times.",
    ),
]
ExcludeOption = Annotated[
    list[str] | None,
    typer.Option("--exclude", callback=_ids, help="The id of an item to leave out; may come several times."),
]
FieldsOption = Annotated[
    list[str] | None, typer.Option("--fields", help="Columns of the catalog to show, as brand,price.")
]
HistoryOption = Annotated[
    Path | None,
    typer.Option(
        "--history",
        help="Further events that count: JSON lines, a JSON array or CSV of item_id, kind, occurred_at.",
    ),
]
RulesOption = Annotated[
    str | None,
    typer.Option("--rules", help="Pins, boosts, caps and the like as JSON, or the name of a file of JSON."),
]
AsOfOption = Annotated[
    str | None, typer.Option("--as-of", help="As if it were then, as 2026-11-23T08:00Z; default: now.")
]


def _call(target: str, config: Path, as_json: bool, **arguments: Any) -> None:
    """Load the configuration, call `target(configuration, progress=…, **arguments)` and print its output."""
    settings = resolve("recsys.config.loading:load_config")(config)
    if resolve("jobs.logs:is_scheduled")():
        resolve("jobs.logs:begin_log")(settings.log.form)
    with resolve("jobs.output:progress")(quiet=as_json) as progress:
        output = resolve(target)(settings, progress=progress, **arguments)
    resolve("jobs.output:show")(output, as_json=as_json)
    if output.code:
        sys.exit(output.code)


@app.command()
def init(
    shop: Annotated[
        str | None,
        typer.Option("--shop", help="woocommerce, woocommerce-posts, magento, prestashop, shopware or odoo."),
    ] = None,
    prefix: Annotated[
        str | None, typer.Option("--prefix", help="Prefix of the shop's tables, where it is not the system's own.")
    ] = None,
    config: ConfigOption = CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Write a commented recsys.toml, if there is none, and create the service's tables.

    With --shop the file has the queries of that shop system.

    Example: recsys init --shop woocommerce --prefix wp_ --config woocommerce.toml
    """
    is_new = resolve("jobs.init_file:write")(config, shop=shop, prefix=prefix)
    _call("jobs.commands:init", config, as_json, path=config, is_new=is_new, shop=shop)


@source.command("check")
def source_check(config: ConfigOption = CONFIG, as_json: JsonOption = False) -> None:
    """Show what maps to what, counts, times, kinds and every finding. Exit code 3 when training would be refused.

    Example: recsys source check --json
    """
    _call("jobs.reading:source_check", config, as_json)


@reviews.command("report")
def reviews_report(
    out: Annotated[
        Path | None, typer.Option("--out", help="File to write: .html is a report, .csv holds a row for each item.")
    ] = None,
    config: ConfigOption = CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Show the items whose reviews fall, the words behind it, and how well complaints are told from other reviews.

    Example: recsys reviews report --out reviews.html
    """
    _call("jobs.reviews:report", config, as_json, out=out)


@app.command("import")
def import_(
    files: Annotated[
        list[Path],
        typer.Argument(help="CSV, TSV, JSON, JSON lines, Parquet or XLSX, also in .gz and .zip; patterns too."),
    ],
    what: Annotated[
        str | None, typer.Option("--what", help="events (unless the preset reads others), items, users or reviews.")
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            "--preset", help="online-retail, retailrocket, shopify, woocommerce, merchant-feed, ga4 or matomo."
        ),
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(
            "--column",
            help="NAME=COLUMN of the file, as user_id=CustomerID, or NAME=1, its place without a header.",
        ),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Show the first rows as understood and what was recognized; write nothing.")
    ] = False,
    config: ConfigOption = CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Read files into the service's own tables; importing them again adds nothing.

    Example: recsys import online_retail.csv.gz --preset online-retail
    """
    target = "jobs.reading:check_files" if check else "jobs.reading:import_files"
    _call(target, config, as_json, paths=files, what=what, preset=preset, columns=_columns(column))


def _columns(pairs: list[str] | None) -> dict[str, str]:
    """Split `ours=theirs`; a typer.BadParameter says what is wrong."""
    split = [pair.partition("=") for pair in pairs or ()]
    for ours, _, theirs in split:
        if not ours.strip() or not theirs.strip():
            raise typer.BadParameter(f"{ours!r} is no NAME=COLUMN, as user_id=CustomerID", param_hint="--column")
    return {ours.strip(): theirs.strip() for ours, _, theirs in split}


@app.command()
def sample(
    folder: Annotated[Path, typer.Argument(help="A new folder for the shop's database and its configuration.")],
    users: Annotated[int, typer.Option(min=10)] = 20_000,
    items: Annotated[int, typer.Option(min=20)] = 3_000,
    events: Annotated[int, typer.Option(min=100)] = 500_000,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    config: Annotated[Path, typer.Option("--config", help="Name of the configuration in that folder.")] = CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Generate a sample shop: a year of views, carts and purchases in SQLite, and a configuration that reads it.

    Example: recsys sample demo --users 2000 --items 500 --events 40000
    """
    with resolve("jobs.output:progress")(quiet=as_json) as progress:
        output = resolve("jobs.init_file:sample")(
            folder, users=users, items=items, events=events, seed=seed, config=config, progress=progress
        )
    resolve("jobs.output:show")(output, as_json=as_json)


@app.command()
def train(
    force: Annotated[
        str | None,
        typer.Option("--force", metavar="REASON", help="Publish whatever guards and gate say; the ledger keeps why."),
    ] = None,
    scheduled: Annotated[
        bool,
        typer.Option("--scheduled", help="Judge it as a nightly run, where guards refuse; for cron and the like."),
    ] = False,
    full: Annotated[
        bool, typer.Option("--full", help="Read everything, and train whatever is new; else only what is new is read.")
    ] = False,
    config: ConfigOption = CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Read, check, fit, evaluate and, when guards and gate agree, publish a bundle. Exit code 3 when refused.

    Example: recsys train --config shop.toml
    """
    if force is not None and not force.strip():
        raise typer.BadParameter("is empty; the ledger keeps the reason", param_hint="--force")
    _call("jobs.train:train", config, as_json, force=force, scheduled=scheduled, full=full)


@app.command()
def evaluate(
    holdout: Annotated[
        Path | None, typer.Option(help="CSV of user_id, item_id that is in no event; default: the last days.")
    ] = None,
    box: Annotated[
        str | None, typer.Option("--box", help="Evaluate this box of `recsys box` beside the plain boxes of its kind.")
    ] = None,
    config: ConfigOption = CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Evaluate every configured model beside popularity, or a box; nothing is saved or published.

    Example: recsys evaluate --holdout test_purchases.csv
    """
    if box is not None:
        if holdout is not None:
            raise typer.BadParameter("--box is evaluated on the last days; --holdout is for models")
        _call("jobs.evaluate_box:evaluate", config, as_json, box=box)
        return
    _call("jobs.evaluate:evaluate", config, as_json, holdout=holdout)


@app.command()
def tune(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="mf, two_tower or sequence.")],
    trials: Annotated[int, typer.Option("--trials", min=1, help="How many in all, with those of earlier calls.")] = 50,
    minutes: Annotated[
        float | None,
        typer.Option("--minutes", min=0, help="End so long after the first trial, which takes as long as a night."),
    ] = None,
    config: ConfigOption = CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Search a model's settings wider than the nights do, and print what to configure. Asked again, it goes on.

    Example: recsys tune mf --trials 20 --minutes 30
    """
    resolve("recsys.training.libraries:check_installed")()  # before the import, which would fail without optuna
    _call("jobs.tune:tune", config, as_json, model=model, trials=trials, minutes=minutes)


@app.command()
def recommend(
    users: Annotated[
        list[str] | None,
        typer.Argument(metavar="[USER...]", callback=_ids, help="Ids; unknown ones get popular items."),
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, max=500, help="How many items.")] = 20,
    visitor: Annotated[
        str | None,
        typer.Option("--visitor", callback=_id, help="A visitor_id: its events count too. For one user."),
    ] = None,
    history: HistoryOption = None,
    filters: FilterOption = None,
    exclude: ExcludeOption = None,
    fields: FieldsOption = None,
    as_of: AsOfOption = None,
    rules: RulesOption = None,
    config: ConfigOption = CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Show a user's latest events and what the live bundle recommends; several users, one after the other.

    Example: recsys recommend 1001 1002 -k 5 --filter price:between:5,20
    """
    if not users and visitor is None and history is None:
        raise typer.BadParameter("nobody is named: give a USER, --visitor or --history")
    if len(users or ()) > 1 and (visitor is not None or history is not None):
        raise typer.BadParameter("--visitor and --history belong to one user; several are named")
    _call(
        "jobs.answers:recommend",
        config,
        as_json,
        user_ids=users or [],
        k=k,
        visitor=visitor,
        history=history,
        filters=filters or [],
        exclude=exclude or [],
        fields=fields or [],
        rules=rules,
        as_of=as_of,
    )


@app.command()
def similar(
    items: Annotated[list[str], typer.Argument(metavar="ITEM...", callback=_ids, help="Ids of items.")],
    k: Annotated[int, typer.Option("-k", min=1, max=500, help="How many items.")] = 20,
    filters: FilterOption = None,
    exclude: ExcludeOption = None,
    fields: FieldsOption = None,
    rules: RulesOption = None,
    config: ConfigOption = CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Show the items most similar to one; to several, one after the other.

    Example: recsys similar P00012 -k 5 --filter category:eq:Toys
    """
    _call(
        "jobs.answers:similar",
        config,
        as_json,
        item_ids=items,
        k=k,
        filters=filters or [],
        exclude=exclude or [],
        fields=fields or [],
        rules=rules,
    )


@app.command()
def box(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="for_you, similar, bought_together, viewed_together, cart, buy_again, popular, trending, bestsellers, "
            "new_arrivals, price_drops, recently_viewed, rerank or looks_like.",
        ),
    ],
    user: Annotated[str | None, typer.Option("--user", callback=_id, help="A user_id.")] = None,
    visitor: Annotated[str | None, typer.Option("--visitor", callback=_id, help="A visitor_id.")] = None,
    items: Annotated[
        list[str] | None,
        typer.Option("--item", callback=_ids, help="An item that the box is about; may come several times."),
    ] = None,
    history: HistoryOption = None,
    k: Annotated[
        int | None, typer.Option("-k", min=1, max=500, help="How many items; default: 20, of rerank all.")
    ] = None,
    filters: FilterOption = None,
    exclude: ExcludeOption = None,
    fields: FieldsOption = None,
    window_days: Annotated[
        int | None, typer.Option("--window-days", min=1, max=3650, help="Days that the box looks back.")
    ] = None,
    category: Annotated[
        str | None, typer.Option("--category", help="Only this category and those below it, as Food.")
    ] = None,
    as_of: AsOfOption = None,
    rules: RulesOption = None,
    cursor: Annotated[
        str | None, typer.Option("--cursor", help="next_cursor of an earlier --json: the items behind those.")
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Say what made each item come.")] = False,
    config: ConfigOption = CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Show what a box of the shop's pages lists. `docs/http.md` says what each box is.

    Example: recsys box trending -k 5 --window-days 28
    """
    _call(
        "jobs.answers:box",
        config,
        as_json,
        name=name,
        user=user,
        visitor=visitor,
        items=items or [],
        history=history,
        k=k,
        filters=filters or [],
        exclude=exclude or [],
        fields=fields or [],
        rules=rules,
        window_days=window_days,
        category=category,
        as_of=as_of,
        cursor=cursor,
        explain=explain,
    )


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on, instead of [api] host.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Instead of [api] port.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, max=256, help="Instead of [api] workers.")] = None,
    config: ConfigOption = CONFIG,
) -> None:
    """Answer over HTTP until it is told to stop. Without a key only on loopback; else exit code 2.

    Example: recsys serve --port 8080 --workers 4
    """
    for name, value in (("HOST", host), ("PORT", port), ("WORKERS", workers)):
        if value is not None:
            os.environ[f"RECSYS_API__{name}"] = str(value)  # so that every worker reads the same
    resolve("jobs.serve:serve")(resolve("recsys.config.loading:load_config")(config), path=config)


@key.command("create")
def key_create(
    name: Annotated[str, typer.Argument(help='What it is for, as "product page".')],
    scope: Annotated[
        list[str], typer.Option(help="recommend, events, account, audience, metrics or admin; may come several times.")
    ],
    config: ConfigOption = CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Make a key and show it this once. From the first key on, every request needs one.

    Example: recsys key create "product page" --scope recommend --scope events
    """
    _call("jobs.serve:key_create", config, as_json, name=name, scopes=scope)


@key.command("list")
def key_list(config: ConfigOption = CONFIG, as_json: JsonOption = False) -> None:
    """List the keys with their scopes; none of them can be read again.

    Example: recsys key list
    """
    _call("jobs.serve:key_list", config, as_json)


@key.command("revoke")
def key_revoke(
    key_id: Annotated[str, typer.Argument(help="As `recsys key list` shows it.")],
    config: ConfigOption = CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Revoke a key for good.

    Example: recsys key revoke 1a2b3c4d
    """
    _call("jobs.serve:key_revoke", config, as_json, key_id=key_id)


@placements.command("list")
def placements_list(config: ConfigOption = CONFIG, as_json: JsonOption = False) -> None:
    """List the placements of the configuration and those that are stored.

    Example: recsys placements list
    """
    _call("jobs.placements:show_all", config, as_json)


@placements.command("put")
def placements_put(
    name: Annotated[str, typer.Argument(help="Its name: small letters, digits, - and _.")],
    definition: Annotated[str, typer.Argument(help="JSON, or the name of a file of JSON; see docs/http.md.")],
    config: ConfigOption = CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Make a placement, or change what it is. A service that runs knows within seconds.

    Example: recsys placements put home '{"box": "for_you", "k": 8, "rules": {"max_per": {"brand": 2}}}'
    """
    _call("jobs.placements:put", config, as_json, name=name, definition=definition)


@placements.command("history")
def placements_history(
    name: Annotated[str, typer.Argument(help="The name of a placement.")],
    config: ConfigOption = CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Show who changed a stored placement when, and to what.

    Example: recsys placements history home
    """
    _call("jobs.placements:history", config, as_json, name=name)


@placements.command("preview")
def placements_preview(
    name: Annotated[str, typer.Argument(help="The name of a placement, active or not.")],
    user: Annotated[str | None, typer.Option("--user", callback=_id, help="A user_id.")] = None,
    visitor: Annotated[str | None, typer.Option("--visitor", callback=_id, help="A visitor_id.")] = None,
    items: Annotated[
        list[str] | None,
        typer.Option("--item", callback=_ids, help="An item of the page or the basket; may come several times."),
    ] = None,
    history: HistoryOption = None,
    k: Annotated[int | None, typer.Option("-k", min=1, max=500, help="How many items.")] = None,
    as_of: AsOfOption = None,
    config: ConfigOption = CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Show what a placement lists for a user, a visitor or a basket.

    Example: recsys placements preview home --user 1001
    """
    _call(
        "jobs.answers:preview",
        config,
        as_json,
        name=name,
        user=user,
        visitor=visitor,
        items=items or [],
        history=history,
        k=k,
        as_of=as_of,
    )


@placements.command("delete")
def placements_delete(
    name: Annotated[str, typer.Argument(help="As `recsys placements list` shows it.")],
    config: ConfigOption = CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Delete a stored placement. Its history stays, and one of the configuration takes its place.

    Example: recsys placements delete home
    """
    _call("jobs.placements:delete", config, as_json, name=name)


@scheduling.callback()
def schedule(
    context: typer.Context,
    show: Annotated[bool, typer.Option("--show", help="Only print what is due when, and stop.")] = False,
    config: ConfigOption = CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Run what [schedule] names when it is due, until SIGTERM or Ctrl-C; a run that was missed is made up for.

    Example: recsys schedule --config shop.toml
    """
    if context.invoked_subcommand is not None:
        return
    settings = resolve("recsys.config.loading:load_config")(config)
    if show:
        resolve("jobs.output:show")(resolve("jobs.schedule.entries:show")(settings, config), as_json=as_json)
    else:
        resolve("jobs.schedule.scheduler:schedule")(settings, config)


JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="As `recsys schedule --show` lists it.")]


@scheduling.command("pause")
def schedule_pause(job: JobArgument, config: ConfigOption = CONFIG, as_json: JsonOption = False) -> None:
    """Start no further run of a job until it is resumed. One that is under way goes on.

    Example: recsys schedule pause train --config shop.toml
    """
    _call("jobs.schedule.entries:pause", config, as_json, path=config, job=job)


@scheduling.command("resume")
def schedule_resume(job: JobArgument, config: ConfigOption = CONFIG, as_json: JsonOption = False) -> None:
    """Let a paused job run again, from its next due time on.

    Example: recsys schedule resume train --config shop.toml
    """
    _call("jobs.schedule.entries:resume", config, as_json, path=config, job=job)


@alerts.command("test")
def alerts_test(config: ConfigOption = CONFIG, as_json: JsonOption = False) -> None:
    """Send a test alert to every channel of [alerts]. Exit code 1 when one does not take it.

    Example: recsys alerts test --config shop.toml
    """
    _call("jobs.schedule.alert_test:send_test", config, as_json)


@app.command()
def audience(
    size: Annotated[
        str,
        typer.Option(
            "--size",
            help="How many users at most: 500, 10% of the eligible, buyers:50 that are expected, or profit:VALUE:COST "
            "of a buyer and of a mail.",
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", help="The file: .parquet, .jsonl, else CSV; one that is there is replaced.")
    ],
    items: Annotated[
        list[str] | None, typer.Option("--items", callback=_ids, help="An item's id; more ids may follow it.")
    ] = None,
    filters: FilterOption = None,
    more_items: Annotated[list[str] | None, typer.Argument(metavar="ID", callback=_ids, help="Further items.")] = None,
    anything: Annotated[
        bool, typer.Option("--anything", help="The mailing is about no items: who buys at all?")
    ] = False,
    as_of: Annotated[
        str | None, typer.Option("--as-of", help="The moment, as 2026-11-23T08:00Z; default: the newest event.")
    ] = None,
    strategy: Annotated[
        str,
        typer.Option(
            "--strategy",
            help="affinity, likely_buyers, win_back, churn_risk, high_value, repurchase_due, abandoned_cart, "
            "viewed_not_bought, price_drop, back_in_stock, cross_sell, newcomers, lookalikes, past_buyers, "
            "most_active, rfm, recency_frequency or random.",
        ),
    ] = "affinity",
    exclude_past_buyers: Annotated[
        bool, typer.Option("--exclude-past-buyers", help="Leave out who ever bought one of the items.")
    ] = False,
    bought_within_days: Annotated[
        float | None, typer.Option(min=0, help="Leave out who bought one of the items within so many days.")
    ] = None,
    min_purchases: Annotated[int, typer.Option(min=0, help="Leave out who has made fewer purchases.")] = 0,
    min_events: Annotated[int, typer.Option(min=0, help="Leave out who has fewer events of any kind.")] = 0,
    recent_days: Annotated[
        float,
        typer.Option(
            min=0, help="How long ago a strategy's occasion may lie: a cart, a look, a lower price, a first event."
        ),
    ] = 30.0,
    owned: Annotated[
        list[str] | None, typer.Option("--bought", help="For cross_sell: an item that members bought; may be repeated.")
    ] = None,
    seeds: Annotated[
        Path | None,
        typer.Option("--seeds", help="For lookalikes: a file of users, as --suppress, whom members are like."),
    ] = None,
    user_filters: Annotated[
        list[str] | None,
        typer.Option(
            "--user-filter", help="As --filter, over the columns of [source] users, as country:eq:DE; may be repeated."
        ),
    ] = None,
    suppress: Annotated[
        list[Path] | None,
        typer.Option(
            "--suppress",
            help="File of ids or e-mail addresses not to mail: one a line, or a CSV with user_id or email; may be "
            "repeated, and all count.",
        ),
    ] = None,
    allow_empty_suppression: Annotated[
        bool, typer.Option("--allow-empty-suppression", help="A suppression file without entries is right.")
    ] = False,
    max_contacts: Annotated[
        int | None, typer.Option(min=1, help="Leave out who had so many mails; default: [audience] max_contacts.")
    ] = None,
    contact_days: Annotated[
        float | None, typer.Option(min=0, help="Within how many days; default: [audience] contact_days.")
    ] = None,
    contacts: Annotated[
        list[Path] | None,
        typer.Option("--contacts", help="CSV of mails sent: user_id or email, and timestamp; may be repeated."),
    ] = None,
    refill: Annotated[
        bool, typer.Option("--refill", help="Fill up the places of members who left since the list was frozen.")
    ] = False,
    where: Annotated[
        list[str] | None,
        typer.Option("--where", help="Only users of whom this is expected, as churn_risk_90>=0.7; may be repeated."),
    ] = None,
    config: ConfigOption = CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Rank the users who may be mailed by how likely they buy one of the items; freeze the list. Exit code 3: nobody.

    Example: recsys audience --items P00001 P00002 --size 200 --out audience.csv
    """
    _call(
        "jobs.audience:audience",
        config,
        as_json,
        items=[*(items or ()), *(more_items or ())],
        filters=filters or (),
        bought_within_days=bought_within_days,
        anything=anything,
        min_purchases=min_purchases,
        min_events=min_events,
        recent_days=recent_days,
        owned=owned or (),
        seeds=seeds,
        user_filters=user_filters or (),
        size=size,
        out=out,
        as_of=as_of,
        strategy=strategy,
        exclude_past_buyers=exclude_past_buyers,
        suppress=suppress or (),
        allow_empty_suppression=allow_empty_suppression,
        max_contacts=max_contacts,
        contact_days=contact_days,
        contacts=contacts or (),
        refill=refill,
        where=where or (),
    )


@campaign.command("backtest")
def campaign_backtest(
    items: Annotated[
        list[str] | None, typer.Option("--items", callback=_ids, help="An item's id; more ids may follow it.")
    ] = None,
    filters: FilterOption = None,
    more_items: Annotated[list[str] | None, typer.Argument(metavar="ID", callback=_ids, help="Further items.")] = None,
    weeks: Annotated[int, typer.Option(min=1, max=104, help="How many past weeks.")] = 8,
    days: Annotated[float, typer.Option(min=1, help="Within how many days a purchase counts.")] = 7.0,
    size: Annotated[int | None, typer.Option(min=1, help="The first so many users of each week; default: all.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="An SVG file for the calibration plot.")] = None,
    config: ConfigOption = CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Compare expected with actual buyers over past weeks of the shop's own data. Exit code 3: too little of it.

    Without items it is about buying anything.

    Example: recsys campaign backtest --items P00001 --out backtest.svg
    """
    _call(
        "jobs.backtest:backtest",
        config,
        as_json,
        items=[*(items or ()), *(more_items or ())],
        filters=filters or (),
        weeks=weeks,
        days=days,
        size=size,
        out=out,
    )


EncoderArgument = Annotated[str, typer.Option("--encoder", help="words, text or pictures, or a dotted name.")]


@content.command("encode")
def content_encode(
    encoder: Annotated[
        list[str] | None,
        typer.Option(
            "--encoder", help="words, text, pictures or a dotted name; may come several times. Default: all configured."
        ),
    ] = None,
    config: ConfigOption = CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Encode the live catalog, and show how many items have a vector and why others have none.

    What text and picture networks encode is kept for later nights.

    Example: recsys content encode --encoder words
    """
    _call("jobs.content:encode", config, as_json, encoders=encoder or [])


@content.command("similar")
def content_similar(
    item: Annotated[str, typer.Argument(metavar="ITEM", callback=_id)],
    encoder: EncoderArgument = "words",
    k: Annotated[int, typer.Option("-k", min=1, max=500, help="How many items.")] = 10,
    config: ConfigOption = CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Show the items that an encoder finds most like one, whoever bought them.

    Example: recsys content similar P00001 --encoder words
    """
    _call("jobs.content:similar", config, as_json, item=item, encoder=encoder, k=k)


@content.command("doctor")
def content_doctor(config: ConfigOption = CONFIG, as_json: JsonOption = False) -> None:
    """Show the libraries of the encoders, and whether configured networks work. Exit code 1 when one does not.

    Example: recsys content doctor
    """
    _call("jobs.content:doctor", config, as_json)


CampaignArgument = Annotated[str, typer.Argument(metavar="NAME", help="As `recsys campaign list` shows it.")]
ByOption = Annotated[
    str | None, typer.Option("--by", help="Who does it, for the log; default: the account of this process.")
]


@campaign.command("create")
def campaign_create(
    file: Annotated[Path, typer.Argument(help="TOML, or JSON; - reads the standard input.")],
    by: ByOption = None,
    config: ConfigOption = CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Draw and freeze the members that a file asks for, as a draft. The same file again changes nothing.

    Example: recsys campaign create lamps.toml
    """
    _call("jobs.campaign:create", config, as_json, source=file, by=by)


@campaign.command("list")
def campaign_list(config: ConfigOption = CONFIG, as_json: JsonOption = False) -> None:
    """List the campaigns with their states, and when their members are to be deleted.

    Example: recsys campaign list
    """
    _call("jobs.campaign:show_all", config, as_json)


@campaign.command("show")
def campaign_show(name: CampaignArgument, config: ConfigOption = CONFIG, as_json: JsonOption = False) -> None:
    """Show who is in a campaign, what effect it could find, who changed it when, its exports, and its lift.

    Example: recsys campaign show lamps
    """
    _call("jobs.campaign:show", config, as_json, name=name)


@campaign.command("diff")
def campaign_diff(
    first: Annotated[str, typer.Argument(metavar="A", help="A campaign.")],
    second: Annotated[str, typer.Argument(metavar="B", help="Another one.")],
    config: ConfigOption = CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Show what differs between two campaigns, and how many members both have.

    Example: recsys campaign diff lamps lamps
    """
    _call("jobs.campaign:diff", config, as_json, first=first, second=second)


@campaign.command("approve")
def campaign_approve(
    name: CampaignArgument, by: ByOption = None, config: ConfigOption = CONFIG, as_json: JsonOption = False
) -> None:
    """Approve a draft, so that it may be exported.

    Example: recsys campaign approve lamps --by "Marketing"
    """
    _call("jobs.campaign:approve", config, as_json, name=name, by=by)


@campaign.command("export")
def campaign_export(
    name: CampaignArgument,
    out: Annotated[Path, typer.Option("--out", help="The CSV file; one that is there is replaced.")],
    destination: Annotated[
        str | None, typer.Option("--destination", help="Where the list goes to, for the register; default: the file.")
    ] = None,
    by: ByOption = None,
    config: ConfigOption = CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Write the members who are mailed, without those held back and those who may no longer be mailed.

    Example: recsys campaign export lamps --out lamps.csv
    """
    _call("jobs.campaign:export", config, as_json, name=name, out=out, destination=destination, by=by)


@campaign.command("measure")
def campaign_measure(
    name: CampaignArgument,
    sent_at: Annotated[
        str | None,
        typer.Option("--sent-at", help="When the mails went out, as 2026-11-23T08:00Z; default: the first export."),
    ] = None,
    by: ByOption = None,
    config: ConfigOption = CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Compare the mailed with those held back, as far as the last training has read what they bought.

    Example: recsys campaign measure lamps
    """
    _call("jobs.campaign:measure", config, as_json, name=name, sent_at=sent_at, by=by)


@campaign.command("lift")
def campaign_lift(
    since: Annotated[str, typer.Option("--since", help="From when on purchases count, as 2026-09-01.")],
    until: Annotated[str | None, typer.Option("--until", help="Until when; default: the last training.")] = None,
    config: ConfigOption = CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Compare all who may be mailed with those held back from every mailing ([audience] control_share).

    Example: recsys campaign lift --since 2026-03-01 --config shop.toml
    """
    _call("jobs.campaign:lift", config, as_json, since=since, until=until)


@campaign.command("report")
def campaign_report(
    name: CampaignArgument,
    out: Annotated[Path, typer.Option("--out", help="The HTML file; one that is there is replaced.")],
    config: ConfigOption = CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Write the report of a campaign as one HTML file that needs no other.

    Example: recsys campaign report lamps --out lamps.html
    """
    _call("jobs.campaign:report", config, as_json, name=name, out=out)


@campaign.command("cancel")
def campaign_cancel(
    name: CampaignArgument, by: ByOption = None, config: ConfigOption = CONFIG, as_json: JsonOption = False
) -> None:
    """Cancel a campaign that is not sent.

    Example: recsys campaign cancel lamps
    """
    _call("jobs.campaign:cancel", config, as_json, name=name, by=by)


@campaign.command("delete")
def campaign_delete(
    name: CampaignArgument, by: ByOption = None, config: ConfigOption = CONFIG, as_json: JsonOption = False
) -> None:
    """Delete a draft, cancelled or measured campaign with its members; its log stays.

    Example: recsys campaign delete lamps
    """
    _call("jobs.campaign:delete", config, as_json, name=name, by=by)


@people.command("report")
def user_report(
    user: Annotated[str, typer.Argument(metavar="USER", callback=_id, help="A user_id.")],
    out: Annotated[Path, typer.Option("--out", help="The JSON file; one that is there is replaced.")],
    config: ConfigOption = CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Write everything that is known of a user: events, attributes, consent, audiences, exports, kept requests.

    Example: recsys user report 1001 --out user-1001.json
    """
    _call("jobs.user_report:report", config, as_json, user_id=user, out=out)


@app.command()
def picks(
    out: Annotated[
        Path, typer.Option("--out", help="The file: .csv, .parquet or .jsonl; one that is there is replaced.")
    ],
    k: Annotated[int, typer.Option("-k", "--k", min=1, max=100, help="How many items for each recipient.")] = 6,
    members: Annotated[
        str | None, typer.Option("--members", help="The id of an audience: its members who may still be mailed.")
    ] = None,
    all_subscribers: Annotated[
        bool, typer.Option("--all-subscribers", help="Everybody who consented to mail, also without any event.")
    ] = False,
    filters: FilterOption = None,
    exclude: ExcludeOption = None,
    caps: Annotated[
        list[str] | None,
        typer.Option("--cap", help="COLUMN:NUMBER, as category:2: at most so many of a list share a value."),
    ] = None,
    fields: Annotated[
        list[str] | None, typer.Option("--fields", help="Further columns of the catalog in the file, as brand,color.")
    ] = None,
    link: Annotated[
        str | None, typer.Option("--link", help="Address of an item's page, as https://shop.example/p/{item_id}.")
    ] = None,
    not_in: Annotated[
        list[Path] | None,
        typer.Option("--not-in", help="An earlier file of picks: nobody gets what it offered; may be repeated."),
    ] = None,
    suppress: Annotated[
        list[Path] | None,
        typer.Option("--suppress", help="With --all-subscribers: a file of whom not to mail, as for an audience."),
    ] = None,
    allow_empty_suppression: Annotated[
        bool, typer.Option("--allow-empty-suppression", help="A suppression file without entries is right.")
    ] = False,
    allow_repurchase: Annotated[
        bool | None,
        typer.Option(
            "--allow-repurchase/--no-repurchase", help="Whether what was bought may come; default: as configured."
        ),
    ] = None,
    as_of: AsOfOption = None,
    config: ConfigOption = CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Write the best items for each member of an audience or each subscriber. Killed, it goes on when started again.

    Example: recsys picks --all-subscribers --k 6 --cap category:2 --out newsletter.csv
    """
    if all_subscribers == (members is not None):
        raise typer.BadParameter("say who: --members AUDIENCE or --all-subscribers")
    if members is not None and suppress:
        raise typer.BadParameter("--suppress belongs to --all-subscribers; an audience is drawn with its own")
    _call(
        "jobs.picks:picks",
        config,
        as_json,
        out=out,
        k=k,
        members=members,
        filters=filters or (),
        exclude=exclude or (),
        caps=caps or (),
        fields=fields or (),
        link=link,
        not_in=not_in or (),
        suppress=suppress or (),
        allow_empty_suppression=allow_empty_suppression,
        allow_repurchase=allow_repurchase,
        as_of=as_of,
    )


@app.command()
def allocate(
    plan: Annotated[Path, typer.Argument(help="TOML: per_user, and for each campaign its audience, value and sizes.")],
    out_folder: Annotated[Path, typer.Option("--out-folder", help="Where a file for each campaign is written.")],
    ending: Annotated[str, typer.Option("--format", help="csv, parquet or jsonl.")] = "csv",
    config: ConfigOption = CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Decide who gets which of several campaigns, so that the total expected value is largest. Exit code 3: no way."""
    _call("jobs.allocate:allocation", config, as_json, plan_file=plan, folder=out_folder, ending=ending)


@app.command()
def deliver(
    file: Annotated[Path, typer.Argument(help="What `recsys audience` or `recsys picks` wrote.")],
    to: Annotated[str | None, typer.Option("--to", help="Address of a webhook, which begins with https://.")] = None,
    shape: Annotated[
        str, typer.Option("--shape", help="What the pages look like: plain, klaviyo, braze or mailchimp.")
    ] = "plain",
    list_id: Annotated[str, typer.Option("--list-id", help="Id of the list at the mailing service.")] = "",
    secret_file: Annotated[
        Path | None,
        typer.Option("--secret-file", help="What pages are signed with; default: RECSYS_WEBHOOK_SECRET."),
    ] = None,
    headers_file: Annotated[
        Path | None, typer.Option("--headers-file", help="Further headers, one Name: value on each line.")
    ] = None,
    allow_private: Annotated[
        bool, typer.Option("--allow-private", help="Allow loopback and private addresses, and http.")
    ] = False,
    again: Annotated[bool, typer.Option("--again", help="Send also what was delivered there before.")] = False,
    table: Annotated[
        str | None, typer.Option("--table", help="In place of --to: a table, whose rows are replaced.")
    ] = None,
    database_file: Annotated[
        Path | None,
        typer.Option("--database-file", help="File with the URL of the table's database; default: the service's own."),
    ] = None,
    config: ConfigOption = CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Send a file to a webhook or a mailing service, or into a table. Consent is checked once more."""
    _call(
        "jobs.deliver:deliver",
        config,
        as_json,
        file=file,
        to=to,
        shape=shape,
        list_id=list_id,
        secret_file=secret_file,
        headers_file=headers_file,
        allow_private=allow_private,
        again=again,
        table=table,
        database_file=database_file,
    )


@app.command()
def propensity(
    out: Annotated[Path, typer.Option("--out", help="The CSV file; one that is there is replaced.")],
    config: ConfigOption = CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Write how likely each customer buys again or is lost, and for how much. Exit code 3: nothing was learned.

    Example: recsys propensity --out propensity.csv
    """
    _call("jobs.propensity:propensity", config, as_json, out=out)


@runs.callback()
def runs_list(
    context: typer.Context,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="The newest so many.")] = 20,
    failed: Annotated[bool, typer.Option("--failed", help="Only those that failed or were refused.")] = False,
    config: ConfigOption = CONFIG,
    as_json: JsonOption = False,
) -> None:
    """List the runs, one line each: status, time, NDCG@20, and what came of it.

    Example: recsys runs --limit 5 --json
    """
    if context.invoked_subcommand is None:
        _call("jobs.runs:list_all", config, as_json, limit=limit, failed=failed)


@runs.command("show")
def runs_show(
    run: Annotated[int | None, typer.Argument(metavar="[RUN]", help="Its number; default: the newest.")] = None,
    config: ConfigOption = CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Show everything that the ledger keeps of a run: who started it, steps, findings, guards, figures, settings.

    Example: recsys runs show
    """
    _call("jobs.runs:show", config, as_json, run_id=run)


@runs.command("diff")
def runs_diff(
    first: Annotated[
        int | None, typer.Argument(metavar="[A]", help="A run; default: the one of the same job before B.")
    ] = None,
    second: Annotated[int | None, typer.Argument(metavar="[B]", help="Another run; default: the newest.")] = None,
    config: ConfigOption = CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Show what differs between two runs: settings, versions, figures, findings, seconds, memory.

    Example: recsys runs diff 1 2
    """
    _call("jobs.runs:diff", config, as_json, first=first, second=second)


@bundles.callback()
def bundles_list(
    context: typer.Context,
    config: ConfigOption = CONFIG,
    as_json: JsonOption = False,
) -> None:
    """List the bundles: which is live, which is pinned, their figures and sizes.

    Example: recsys bundles
    """
    if context.invoked_subcommand is None:
        _call("jobs.commands:bundles", config, as_json)


@bundles.command("prune")
def bundles_prune(config: ConfigOption = CONFIG, as_json: JsonOption = False) -> None:
    """Delete published bundles beyond [storage] keep_bundles, and bundles of runs that were not published.

    Example: recsys bundles prune
    """
    _call("jobs.commands:prune", config, as_json)


@bundles.command("claim")
def bundles_claim(config: ConfigOption = CONFIG, as_json: JsonOption = False) -> None:
    """Make the data folder this configuration's: for a shop whose database has moved or whose tables are new.

    Example: recsys bundles claim
    """
    _call("jobs.commands:claim", config, as_json)


@app.command()
def publish(
    version: Annotated[str, typer.Argument(help="A version that `recsys bundles` lists.")],
    config: ConfigOption = CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Make a bundle the live one and let the coming nights publish again.

    Example: recsys publish 20261123T020000Z-mf-1a2b3c4d
    """
    _call("jobs.commands:publish", config, as_json, version=version)


@app.command()
def rollback(config: ConfigOption = CONFIG, as_json: JsonOption = False) -> None:
    """Go back to the bundle that was live before, and pin it, so that tonight does not undo it.

    Example: recsys rollback
    """
    _call("jobs.commands:rollback", config, as_json)


@app.command("install-lock")
def install_lock(
    name: Annotated[str, typer.Argument(metavar="LOCK", help="serve to answer and read; cpu or cuda to train, too.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="Where to; default: requirements-LOCK.lock in the current folder.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write the list of exact versions that belongs to this one, for pip install --no-deps -r.

    Example: recsys install-lock cpu
    """
    resolve("jobs.output:show")(resolve("jobs.install_lock:install_lock")(name, out), as_json=as_json)


@app.command()
def doctor(config: ConfigOption = CONFIG, as_json: JsonOption = False) -> None:
    """Check the installation, the databases, the folder and the live bundle. Exit code 1 when something is wrong.

    Example: recsys doctor --json
    """
    with resolve("jobs.output:progress")(quiet=as_json) as progress:
        ok, output = resolve("jobs.doctor.report:doctor")(config, progress=progress)
    resolve("jobs.output:show")(output, as_json=as_json)
    if not ok:
        sys.exit(1)


if __name__ == "__main__":
    main()
