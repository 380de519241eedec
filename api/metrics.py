"""The metrics for Prometheus, of one process or of all workers: requests, latency, bundles, swaps, reasons."""

import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from prometheus_client import (
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
    generate_latest,
    multiprocess,
)
from prometheus_client.core import GaugeMetricFamily

# `recsys serve` sets it for several workers: each writes its metrics there, and the worker that is asked adds them up.
_SHARED = "PROMETHEUS_MULTIPROC_DIR"
_CREATED = "recsys_bundle_created_timestamp_seconds"
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

REQUESTS = Counter("recsys_http_requests", "Requests answered", ["route", "method", "status"])
LATENCY = Histogram("recsys_http_request_seconds", "From the first byte to the last", ["route"], buckets=_BUCKETS)
HITS = Counter("recsys_hits", "Items that were recommended, by reason", ["reason"])
SHORT = Counter("recsys_short_answers", "Answers with fewer items than asked for")
EVENTS = Counter("recsys_events", "Events posted, by what became of them", ["outcome"])
KEPT = Counter("recsys_kept_requests", "Requests to be kept, by what became of them", ["outcome"])
SWAPS = Counter("recsys_bundle_swaps", "Bundles that were loaded, by what became of them", ["outcome"])
AWAY = Counter("recsys_database_away_answers", "Answers given without the database")
LIVE = Gauge("recsys_bundle_live", "1 for the bundle that a worker serves", ["version"], multiprocess_mode="liveall")
CREATED = Gauge(_CREATED, "When the bundle of a worker was made", multiprocess_mode="liveall")
NEW_ITEMS = Gauge("recsys_new_items", "Items newer than the bundle, by worker", multiprocess_mode="liveall")
READY = Gauge("recsys_ready", "1 when a worker answers", multiprocess_mode="liveall")


class _Ages:
    """Collect the age of every worker's bundle, computed from its creation time."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        ages = GaugeMetricFamily("recsys_bundle_age_seconds", "Age of the bundle of a worker", labels=["pid"])
        for metric in self._registry.collect():
            for sample in metric.samples:
                if sample.name == _CREATED and sample.value > 0:
                    ages.add_metric([sample.labels.get("pid", str(os.getpid()))], time.time() - sample.value)
        yield ages


def render() -> bytes:
    """Render all metrics in the text format of Prometheus."""
    registry: CollectorRegistry = REGISTRY
    if folder := os.environ.get(_SHARED):
        _forget_dead(Path(folder))
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    ages = CollectorRegistry(auto_describe=False)
    ages.register(_Ages(registry))
    return bytes(generate_latest(registry) + generate_latest(ages))


def _forget_dead(folder: Path) -> None:
    """Remove the gauges of workers that ended. Their counters stay."""
    for pid in _pids(folder):
        if not Path(f"/proc/{pid}").exists():
            multiprocess.mark_process_dead(pid, str(folder))  # type: ignore[no-untyped-call]


def _pids(folder: Path) -> Iterable[int]:
    stems = {path.stem.rsplit("_", 1)[-1] for path in folder.glob("gauge_live*.db")}
    return [int(stem) for stem in stems if stem.isdecimal()]
