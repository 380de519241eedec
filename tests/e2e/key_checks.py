"""What a configuration comes to: outcomes that `test_config_keys.py` compares before and after a key is changed."""

import gzip
import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any
from unittest import mock

import anyio
import anyio.to_thread
import numpy as np
import pyarrow as pa
from road import configured
from serving import ServiceHere
from tiny import quiet

from api.app import create_app
from jobs import answers, commands, reading, serve
from jobs.schedule.scheduler import planned
from jobs.train import train
from recsys.bundle import bundle as bundles
from recsys.bundle import versions
from recsys.config.settings import Config
from recsys.errors import RecsysError
from recsys.models.budget import Budget
from recsys.models.vectors import Vectors
from recsys.sample.shop import END
from recsys.source import dataset as source
from recsys.store.events import insert_events
from recsys.store.keys import create_key
from recsys.store.migrate import open_store
from recsys.store.requests import KeptRequest, insert_requests
from recsys.training import gate, pipeline
from recsys.training.evaluation import evaluate
from recsys.training.pipeline import TrainingRun

MINUTE = 60_000_000
# One value each, so that training chooses nothing and takes no validation.
SINGLE = {
    "RECSYS_EVENTS__HALF_LIFE_DAYS": "[365.0]",
    "RECSYS_MODELS__POPULARITY__HALF_LIFE_DAYS": "[28.0]",
    "RECSYS_MODELS__MF__N_FACTORS": "[8]",
    "RECSYS_MODELS__MF__RECENCY_EXPONENTS": "[0.3]",
    "RECSYS_MODELS__TWO_TOWER__TEMPERATURES": "[0.1]",
    "RECSYS_MODELS__TWO_TOWER__NORMALIZE_ITEMS": "[true]",
    "RECSYS_MODELS__TWO_TOWER__DIM": "8",
    "RECSYS_MODELS__TWO_TOWER__EPOCHS": "1",
}
USERS = [str(number) for number in range(1001, 1101)]


def changed(folder: Path, key: str, value: str, **others: str) -> Config:
    """The shop's configuration with one key set as by the environment."""
    table, _, name = key.rpartition(".")
    variable = f"RECSYS_{table.replace('.', '__')}__{name}".upper()
    return configured(folder, **{**others, variable: value})


def loaded(config: Config) -> source.Dataset:
    with closing(open_store(config.store.url, config.store.table_prefix)) as store:
        return source.load(config, store, now=END, progress=quiet)


def fit(config: Config, model: str, score: Callable[[Vectors], float] | None = None) -> Vectors:
    """A model trained on everything before the holdout."""
    run = TrainingRun(config, loaded(config), progress=quiet)
    data = pipeline.training_data(run, run.splits.known, run.splits.holdout_start)
    vectors = pipeline.tune(run, model, data, score or (lambda _: 0.0), Budget(config.training.choice_seconds))
    assert vectors is not None
    return vectors


def differ(first: Vectors, second: Vectors) -> bool:
    return first.item_vectors.shape != second.item_vectors.shape or not np.allclose(
        first.item_vectors, second.item_vectors, rtol=1e-3
    )


def recommended(config: Config, k: int = 20) -> list[list[str]]:
    data = answers.recommend(config, user_ids=USERS, k=k, progress=quiet).data
    return [[hit["item_id"] for hit in answer["hits"]] for answer in data]


def post_view(config: Config, *, minutes_later: float, kind: str = "view") -> None:
    """The first view of the shop once more, posted to the service some minutes later."""
    with closing(sqlite3.connect(str(config.source.url).removeprefix("sqlite:///"))) as shop:
        user, item, at = shop.execute("SELECT customer_id, sku, unixepoch(viewed_at) FROM page_views").fetchone()
    moment = at * 1_000_000 + round(minutes_later * MINUTE)
    event = {"event_id": "e1", "user_id": str(user), "item_id": item, "kind": kind, "occurred_at": moment}
    with closing(open_store(config.store.url, config.store.table_prefix)) as store:
        insert_events(store, pa.Table.from_pylist([{**event, "received_at": moment}]))


def own_tables(config: Config) -> dict[str, set[str]]:
    """The own tables that `recsys init` leaves in each database of the shop's folder."""
    commands.init(config, path=Path("recsys.toml"), is_new=False, progress=quiet)
    found = {}
    for path in Path(config.storage.path).parent.glob("*.db"):
        with closing(sqlite3.connect(path)) as database:
            names = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        found[path.name] = {name for name in names if name.endswith("_events") and name != "cart_events"}
    return found


def refusal(config: Config, act: Callable[[Config], Any]) -> str:
    """Why it cannot be done; nothing when it can."""
    try:
        act(config)
    except RecsysError as error:
        return str(error)
    return ""


def kept_bundles(config: Config) -> int:
    for _ in range(3):
        train(config, progress=quiet, full=True)
    return len(versions.list_versions(config.storage.path))


def imported(config: Config) -> str:
    """How many rows of a file with a column of the shop's name are imported, or why none is."""
    file = config.storage.path / "orders.csv"
    file.parent.mkdir(exist_ok=True)
    file.write_text("Customer,item_id,event,timestamp\nanna,P1,view,2026-05-01\n", encoding="utf-8")
    try:
        done = reading.import_files(config, paths=[file], what=None, preset=None, columns={}, progress=quiet).data
    except RecsysError as error:
        return str(error)
    return f"{done['inserted']} of {done['rows']}"


def imported_compressed(config: Config) -> str:
    """How many rows of a compressed file of 2 MiB are imported, or why none is."""
    file = config.storage.path / "orders.csv.gz"
    file.parent.mkdir(exist_ok=True)
    row = f"anna,P1,view,2026-05-01,{'x' * 2**20}\n"
    file.write_bytes(gzip.compress(f"user_id,item_id,event,timestamp,note\n{row * 2}".encode()))
    try:
        done = reading.import_files(config, paths=[file], what=None, preset=None, columns={}, progress=quiet).data
    except RecsysError as error:
        return str(error)
    return f"{done['inserted']} of {done['rows']}"


def events_with_own(minutes_later: float, kind: str = "view") -> Callable[[Config], int]:
    """How many events are read when the service has the first view of the shop too, some minutes later."""

    def count_events(config: Config) -> int:
        post_view(config, minutes_later=minutes_later, kind=kind)
        return len(loaded(config).events)

    return count_events


def visits(config: Config) -> int:
    """How many events of visitors are read."""
    return len(loaded(config).visits)


def longest_history(config: Config) -> int:
    """Of what was not bought: that belongs to a history however long it is."""
    found = [answer["history"] for answer in answers.recommend(config, user_ids=USERS, k=1, progress=quiet).data]
    return max(sum(event["event"] != "purchase" for event in history) for history in found)


def split_days(config: Config) -> tuple[int, int]:
    """The days of validation and of holdout."""
    splits = TrainingRun(config, loaded(config)).splits
    whole = splits.holdout_start - splits.validation_start, END - splits.holdout_start
    return whole[0] // (24 * 60 * MINUTE), whole[1] // (24 * 60 * MINUTE)


def judged_users(config: Config) -> float:
    run, vectors = TrainingRun(config, loaded(config)), fit(config, "popularity")
    return evaluate(pipeline.with_popularity(run, vectors, vectors), run.splits, config).rows["all"]["users"]


def recommended_again(query: str) -> Callable[[Config], int]:
    """How often somebody is recommended an item that a query of the shop pairs them with."""

    def count_pairs(config: Config) -> int:
        with closing(sqlite3.connect(str(config.source.url).removeprefix("sqlite:///"))) as database:
            pairs = {(str(user), item) for user, item in database.execute(query)}
        hits = recommended(config)
        return sum((user, item) in pairs for user, items in zip(USERS, hits, strict=True) for item in items)

    return count_pairs


bought_and_recommended = recommended_again(
    "SELECT customer_id, sku FROM orders JOIN order_lines ON order_id = id WHERE status = 'paid'"
)
viewed_and_recommended = recommended_again("SELECT customer_id, sku FROM page_views")


def sold_out_and_recommended(config: Config) -> int:
    with closing(sqlite3.connect(str(config.source.url).removeprefix("sqlite:///"))) as database:
        sold_out = {sku for (sku,) in database.execute("SELECT sku FROM products WHERE stock = 0")}
    return len(sold_out & set().union(*recommended(config, k=100)))


def deleted_and_recommended(config: Config) -> int:
    """How many products are recommended that the query of items leaves out."""
    train(config, progress=quiet)
    return sum(item.endswith("0") for item in set().union(*recommended(config)))


def published_model(config: Config) -> str:
    train(config, progress=quiet)
    return bundles.load(config.storage.path).vectors.model


def published_when(*, worse_by: float) -> Callable[[Config], bool]:
    """Whether the gate publishes a candidate that is so much worse than the live bundle."""

    def publishes(config: Config) -> bool:
        live = np.full(100, 0.5, np.float32)
        mine = live * np.float32(1 - worse_by)
        both = (mine, live)
        return gate.decide(mine, None, both, settings=config.gate, seed=0).publish

    return publishes


def due_hour(config: Config) -> int:
    """The hour, UTC, at which the training is due in July."""
    (entry,) = planned(config, Path("recsys.toml"), {})
    return entry.next_due(END) // (60 * MINUTE) % 24


def always_better() -> Callable[[Vectors], float]:
    """A score that finds whatever comes later better."""
    numbers = count()
    return lambda _: float(next(numbers))


def epochs_until_given_up(model: str) -> Callable[[Config], int]:
    """The epochs that a model trains for a score that only falls."""

    def epochs(config: Config) -> int:
        scores: list[float] = []

        def worse(_: Vectors) -> float:
            scores.append(1 / (1 + len(scores)))
            return scores[-1]

        fit(config, model, worse)
        return len(scores)

    return epochs


def compared(config: Config) -> set[str]:
    """What auto has chosen from."""
    return set(fit(config, "auto", always_better()).settings["comparison"])


def listens(config: Config) -> dict[str, Any]:
    """How `recsys serve` asks uvicorn to listen, or why it does not."""
    asked: dict[str, Any] = {}
    with (
        mock.patch.dict(os.environ),
        mock.patch("jobs.serve.uvicorn.run", lambda _app, **options: asked.update(options)),
    ):
        why = refusal(config, lambda config: serve.serve(config, path=Path("recsys.toml")))
    return {name: asked.get(name) for name in ("host", "port", "workers")} | {"refused": why}


def threads(config: Config) -> float:
    """How many requests a worker answers at the same time."""

    async def limit() -> float:
        app = create_app(config)
        async with app.router.lifespan_context(app):
            return anyio.to_thread.current_default_thread_limiter().total_tokens

    return anyio.run(limit)


def asked(question: Callable[[ServiceHere, Config], Any]) -> Callable[[Config], Any]:
    """What the service answers that is started for it."""

    def outcome(config: Config) -> Any:
        service = ServiceHere(config)
        try:
            service.wait()
            return question(service, config)
        finally:
            service.kill()

    return outcome


def status_of_a_long_body(service: ServiceHere, _config: Config) -> int:
    return service.http.post("/v1/recommendations", json={"exclude": ["x" * 100] * 20}).status_code


def status_of_a_fresh_item(service: ServiceHere, _config: Config) -> int:
    service.post("/v1/items", {"item_id": "fresh", "title": "Fresh"})
    return service.http.get("/v1/items/fresh/similar").status_code


def status_soon(service: ServiceHere, path: str, wanted: int, seconds: float) -> int:
    """The status of an address, as soon as it is the one that is wanted and at the latest after so many seconds."""
    end = time.monotonic() + seconds
    while (status := service.http.get(path).status_code) != wanted and time.monotonic() < end:
        time.sleep(0.05)
    return status


def status_of_a_kept_request(service: ServiceHere, config: Config) -> int:
    service.http.get("/v1/boxes/popular", headers={"X-Request-ID": "asked"}).raise_for_status()
    return status_soon(service, "/v1/requests/asked", 200, seconds=30 if config.requests.share else 1)


def status_of_an_old_request(service: ServiceHere, config: Config) -> int:
    """What becomes of a request of forty days ago when a service starts."""
    with closing(open_store(config.store.url, config.store.table_prefix)) as store:
        at = store.now() - 40 * 24 * 60 * MINUTE
        texts = {"bundle": "b", "question": "{}", "answer": '{"hits": []}'}
        insert_requests(store, [KeptRequest("old", None, None, asked_at=at, as_of=at, revision=0, **texts)])
    other = ServiceHere(config)
    other.wait()
    status = status_soon(service, "/v1/requests/old", 404, seconds=30 if config.requests.days < 40 else 1)
    other.kill()
    return status


def status_after_the_first_key(service: ServiceHere, config: Config) -> int:
    """What a request without a key gets soon after somebody has made the first key."""
    with closing(open_store(config.store.url, config.store.table_prefix)) as store:
        create_key(store, "first", ("events",))
    seconds = 30 if config.api.poll_seconds < 1 else 0.5
    return status_soon(service, "/v1/users/u/recommendations", 401, seconds)


def seconds_without_the_database(service: ServiceHere, config: Config) -> float:
    """How long an event waits for a database that somebody has locked."""
    with closing(sqlite3.connect(str(config.store.url).removeprefix("sqlite:///"), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        begin = time.monotonic()
        event = {"event_id": "e", "user_id": "u", "kind": "view", "item_id": "i"}
        assert service.http.post("/v1/events", json=event).status_code == 503
        return time.monotonic() - begin
