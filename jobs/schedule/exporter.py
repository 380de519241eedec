"""The metrics of the night for Prometheus, from a port of the scheduler.

They are read from the ledger when they are asked for. While the database is away, the last values go on, and
`recsys_store_up` is 0.
"""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from threading import Lock
from typing import Any

from prometheus_client import CollectorRegistry, Metric, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from recsys.config.settings import Config
from recsys.errors import RecsysError
from recsys.store.database import Store
from recsys.store.runs import OUTCOMES, Run
from recsys.store.schedule import Due, latest_runs, list_due, paused_jobs

CACHE_SECONDS = 5.0  # so that several scrapers do not each ask the database
_OUTCOMES = {"ok": 0, "warn": 1, "refuse": 2}  # of a guard
_NDCG = {"winner": "candidate", "popularity": "popularity", "live": "live"}  # our label -> name in the gate's metrics

# name -> what it says, and its labels beside `shop`
GAUGES: dict[str, tuple[str, tuple[str, ...]]] = {
    "recsys_store_up": ("1 while the service's database answers", ()),
    "recsys_run_last_success_timestamp_seconds": ("When the last successful run ended", ("recsys_job",)),
    "recsys_run_last_end_timestamp_seconds": ("When the last run ended", ("recsys_job",)),
    "recsys_run_last_status": ("1 for the outcome of the last run that ended", ("recsys_job", "status")),
    "recsys_run_last_duration_seconds": ("Duration of the last run that ended", ("recsys_job",)),
    "recsys_run_step_duration_seconds": ("Duration of each step of that run", ("recsys_job", "step")),
    "recsys_run_step_peak_memory_bytes": ("Peak memory of the process until the step's end", ("recsys_job", "step")),
    "recsys_run_under_way": ("1 while a run is under way", ("recsys_job",)),
    "recsys_source_events": ("Events that the last training read, by kind", ("kind",)),
    "recsys_source_newest_event_timestamp_seconds": ("Time of the newest event that the last training read", ()),
    "recsys_ndcg20": ("NDCG@20 on the last training's holdout, by model", ("model",)),
    "recsys_guard_outcome": ("Of the last training: 0 within its bound, 1 warned, 2 refused", ("guard",)),
    "recsys_guard_figure": ("What a guard measured", ("guard",)),
    "recsys_guard_bound": ("The bound of what it measured", ("guard",)),
    "recsys_schedule_due_timestamp_seconds": ("The next due time", ("recsys_job",)),
    "recsys_schedule_overdue": ("1 when [alerts] calls the job late or overdue", ("recsys_job",)),
    "recsys_schedule_paused": ("1 while the job is paused", ("recsys_job",)),
}
COUNTERS = {"recsys_alerts": ("Alerts, by channel and outcome", ("channel", "outcome"))}

Samples = dict[str, list[tuple[tuple[str, ...], float]]]  # name -> (values of the labels, value)

_log = logging.getLogger(__name__)


class NightMetrics:
    """Collects the metrics. Prometheus's client calls `collect` in threads of its own."""

    def __init__(
        self,
        config: Config,
        store: Callable[[], Store | None],
        jobs: Iterable[str],
        outcomes: Mapping[tuple[str, str], int],
    ) -> None:
        """store: returns None while it is not open. outcomes: of alerts, as `alerts.Sender` counts them."""
        self._config, self._store, self._jobs, self._outcomes = config, store, tuple(jobs), outcomes
        self._shop = config.alerts.shop or config.store.table_prefix.rstrip("_")
        self._known: Samples = {}
        self._read_at, self._lock = float("-inf"), Lock()

    def collect(self) -> Iterator[Metric]:
        """Every metric; one without a value has no sample."""
        samples = self._samples()
        for name, (text, labels) in GAUGES.items():
            gauge = GaugeMetricFamily(name, text, labels=["shop", *labels])
            for values, value in samples.get(name, ()):
                gauge.add_metric([self._shop, *values], value)
            yield gauge
        counter = CounterMetricFamily(
            "recsys_alerts", COUNTERS["recsys_alerts"][0], labels=["shop", "channel", "outcome"]
        )
        for (channel, outcome), count in list(self._outcomes.items()):
            counter.add_metric([self._shop, channel, outcome], count)
        yield counter

    def _samples(self) -> Samples:
        with self._lock:
            if time.monotonic() - self._read_at < CACHE_SECONDS:
                return self._known
            try:
                store = self._store()
                fresh = {} if store is None else read_samples(store, self._config, self._jobs)
                is_up = store is not None
            except Exception as error:  # the database is away
                _log.debug("metrics: %s", type(error).__name__, exc_info=True)
                fresh, is_up = {}, False
            self._known = {**(fresh if is_up else self._known), "recsys_store_up": [((), float(is_up))]}
            self._read_at = time.monotonic()
            return self._known


@contextmanager
def serving_metrics(config: Config, metrics: NightMetrics) -> Iterator[None]:
    """Serve the metrics while the block runs. Raises RecsysError when the port cannot be listened at."""
    settings = config.schedule
    if settings.metrics_port is None:
        yield
        return
    registry = CollectorRegistry(auto_describe=False)
    registry.register(metrics)
    try:
        server, thread = start_http_server(settings.metrics_port, addr=settings.metrics_host, registry=registry)
    except OSError as error:
        where = f"{settings.metrics_host}:{settings.metrics_port}"
        raise RecsysError(
            f"the metrics cannot be served at {where}: {error.strerror}; metrics_host and metrics_port in [schedule] "
            "name another"
        ) from None
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def read_samples(store: Store, config: Config, jobs: Iterable[str]) -> Samples:
    """Read what the ledger and the due times say."""
    found: Samples = {name: [] for name in GAUGES}
    runs = latest_runs(store)
    for job, latest in runs.items():
        _add_runs(found, job, latest)
    _add_training(found, runs.get("train", []))
    now, paused = store.now(), paused_jobs(store)
    for due in list_due(store):
        if due.job in jobs:
            found["recsys_schedule_due_timestamp_seconds"].append(((due.job,), due.due_at / 1e6))
            is_paused = due.job in paused
            is_late = not is_paused and _is_late(config, due, runs.get(due.job, []), now)
            found["recsys_schedule_overdue"].append(((due.job,), float(is_late)))
            found["recsys_schedule_paused"].append(((due.job,), float(is_paused)))
    return found


def _add_runs(found: Samples, job: str, latest: list[Run]) -> None:
    found["recsys_run_under_way"].append(((job,), float(latest[-1].status == "running")))
    ended = [run for run in latest if run.finished_at is not None]
    if not ended:
        return
    last, succeeded = ended[-1], [run for run in ended if run.status == "done"]
    if succeeded:
        _add_time(found, "recsys_run_last_success_timestamp_seconds", (job,), succeeded[-1].finished_at)
    _add_time(found, "recsys_run_last_end_timestamp_seconds", (job,), last.finished_at)
    for status in OUTCOMES:
        found["recsys_run_last_status"].append(((job, status), float(last.status == status)))
    seconds = ((last.finished_at or 0) - last.started_at) / 1e6
    found["recsys_run_last_duration_seconds"].append(((job,), seconds))
    for name, step in {step["name"]: step for step in last.steps}.items():
        found["recsys_run_step_duration_seconds"].append(((job, name), float(step["seconds"])))
        if (megabytes := step["counts"].get("peak_mb")) is not None:
            found["recsys_run_step_peak_memory_bytes"].append(((job, name), megabytes * 1e6))


def _add_training(found: Samples, latest: list[Run]) -> None:
    """What the last training that ended has read and measured."""
    ended = [run for run in latest if run.finished_at is not None]
    if not ended:
        return
    run = ended[-1]
    for step in run.steps:
        for kind, rows in step["counts"].get("kinds", {}).items():
            found["recsys_source_events"].append(((kind,), float(rows)))
        newest = "recsys_source_newest_event_timestamp_seconds"
        _add_time(found, newest, (), step["counts"].get("newest_event_at"))
    gate = run.metrics.get("gate", {})
    for model, name in _NDCG.items():
        if isinstance(gate.get(name), int | float):
            found["recsys_ndcg20"].append(((model,), float(gate[name])))
    for verdict in _verdicts(run.metrics):
        labels = (str(verdict["guard"]),)
        found["recsys_guard_outcome"].append((labels, float(_OUTCOMES.get(verdict["outcome"], 2))))
        found["recsys_guard_figure"].append((labels, float(verdict["figure"])))
        found["recsys_guard_bound"].append((labels, float(verdict["bound"])))


def _verdicts(metrics: dict[str, Any]) -> list[dict[str, Any]]:
    return list(metrics.get("guards", {}).get("verdicts", []))


def _add_time(found: Samples, name: str, labels: tuple[str, ...], time_us: int | None) -> None:
    if time_us is not None:
        found[name].append((labels, time_us / 1e6))


def _is_late(config: Config, due: Due, latest: list[Run], now: int) -> bool:
    settings = config.alerts
    late = settings.late_minutes is not None and now - due.due_at >= settings.late_minutes * 60e6
    times = [run.finished_at for run in latest if run.status == "done" and run.finished_at is not None]
    age = settings.max_age_hours
    return late or (age is not None and bool(times) and now - max(times) >= age * 3600e6)
