"""Profile a training loop: where its time goes, and which limit of the machine binds.

    python -m benchmarks.loops --data DIR --model mf|two_tower|sequence [--steps 40]

`mf`: the parts of one iteration at D = 512, with the memory traffic of its look-ups and the arithmetic of its matrix
products, next to the rates of a plain copy and a large product on this machine. The others: torch's profiler over
`--steps` steps at the default sizes, by operator; then the sampled softmax, in blocks and with all scores at once.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile

from benchmarks.accuracy import data_of
from benchmarks.forms import Benchmark, read
from benchmarks.scale import SETTINGS
from recsys.config.settings import Config, SequenceSettings, TwoTowerSettings
from recsys.models import losses
from recsys.models.budget import Budget
from recsys.models.contract import ALL_TIME_DAYS, fit
from recsys.models.mf import svd as parts
from recsys.models.mf.model import Spectral
from recsys.models.mf.sparse_rows import SparseRows

RANK, CARRIED = 512, 52  # dimensions of an iteration, and those carried along
_COPIED, _SIDE = 2**27, 4096  # float32 numbers of a copy, side of a product
_TOLD = 14  # operators
_SOFTMAX_USERS, _SOFTMAX_DIM = 2048, 128
_SIZES = {"dim", "negatives", "full_softmax_items"}


def main() -> None:
    """Read the set and look into one loop."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the set")
    parser.add_argument("--model", choices=SETTINGS, required=True)
    parser.add_argument("--steps", type=int, default=40, help="of two_tower and sequence")
    arguments = parser.parse_args()
    config = Config()
    benchmark = read(arguments.data, config=config, seed=0)
    product, copy = _product_rate(), _copy_rate()
    print(f"{torch.get_num_threads()} threads: products {product / 1e9:.0f} GFLOP/s, copies {copy / 1e9:.0f} GB/s")
    if arguments.model == "mf":
        _mf(benchmark, config, product, copy)
    else:
        _steps(benchmark, config, arguments.model, arguments.steps, product)


def _seconds(work: Callable[[], object]) -> float:
    """The median of five, after one that does not count."""
    found = []
    for _ in range(6):
        started = time.perf_counter()
        work()
        found.append(time.perf_counter() - started)
    return statistics.median(found[1:])


def _product_rate() -> float:
    """FLOP a second of a large product of float32."""
    one = torch.randn(_SIDE, _SIDE)
    return 2 * _SIDE**3 / _seconds(lambda: one @ one)


def _copy_rate() -> float:
    """Bytes read and written a second."""
    source, target = torch.ones(_COPIED), torch.empty(_COPIED)
    return 2 * 4 * _COPIED / _seconds(lambda: target.copy_(source))


def _mf(benchmark: Benchmark, config: Config, product: float, copy: float) -> None:
    """An iteration's two sparse products and its basis."""
    data = data_of(benchmark, benchmark.known, benchmark.splits.holdout_start, config)
    weights = Spectral(replace(data, device="cpu")).history_weights(36500.0)
    rows = SparseRows.from_scipy(weights, torch.device("cpu"))
    turned = SparseRows.from_scipy(weights.T.tocsr(), torch.device("cpu"))
    items, wide = torch.randn(weights.shape[1], RANK + CARRIED), RANK + CARRIED
    users = rows @ items
    look_ups = _seconds(lambda: rows @ items) + _seconds(lambda: turned @ users)
    moved = 4 * wide * (2 * weights.nnz + sum(weights.shape))  # rows gathered, and rows written
    basis = _seconds(lambda: parts._orthonormal(items))
    gram = _seconds(lambda: items.T @ items) + _seconds(lambda: items @ torch.randn(wide, wide))
    arithmetic = 2 * 2 * len(items) * wide**2
    print(f"{weights.nnz:,} pairs of {weights.shape[0]:,} users and {weights.shape[1]:,} items, D = {RANK} + {CARRIED}")
    rate = moved / look_ups
    print(f"sparse products {look_ups:.3f} s, {rate / 1e9:.1f} GB/s, {rate / copy:.0%} of a copy")
    print(f"orthonormal basis {basis:.3f} s, of which dense products {gram:.3f} s")
    print(f"dense products {arithmetic / gram / 1e9:.0f} GFLOP/s, {arithmetic / gram / product:.0%} of a large product")


def _steps(benchmark: Benchmark, config: Config, model: str, steps: int, product: float) -> None:
    """Some steps of an epoch, the first left out: once for their time, once under the profiler."""
    defaults = TwoTowerSettings() if model == "two_tower" else SequenceSettings()
    chosen = {
        **SETTINGS[model],
        **defaults.model_dump(include=_SIZES),
        "max_events_per_epoch": (steps + 1) * defaults.batch_size,
    }
    if model == "two_tower":
        chosen["half_life_days"] = ALL_TIME_DAYS
    watch = _Watch(None)
    _run(benchmark, config, model, chosen, watch)
    profiler = profile(activities=[ProfilerActivity.CPU], with_flops=True)
    _run(benchmark, config, model, chosen, _Watch(profiler))
    table = profiler.key_averages()
    busy = sum(row.self_cpu_time_total for row in table)
    print(f"{watch.steps} steps of {watch.seconds / max(1, watch.steps):.4f} s; shares of the operators' own time:")
    for row in sorted(table, key=lambda row: -row.self_cpu_time_total)[:_TOLD]:
        print(f"{row.self_cpu_time_total / busy:6.1%}  {row.count:7,} x {row.key}")
    products = [row for row in table if row.flops > 0 and row.self_cpu_time_total > 0]
    rate = sum(row.flops for row in products) / (sum(row.self_cpu_time_total for row in products) / 1e6)
    share = sum(row.self_cpu_time_total for row in products) / busy
    print(f"products: {share:.0%} of the time, {rate / 1e9:.0f} GFLOP/s, {rate / product:.0%} of a large product")
    _sampled_softmax(_SOFTMAX_USERS, defaults.negatives, _SOFTMAX_DIM)


def _sampled_softmax(users: int, negatives: int, dim: int) -> None:
    """Forward and backward, in blocks and with all scores held."""
    user = torch.randn(users, dim).requires_grad_()
    positive, drawn = (torch.randn(rows, dim).requires_grad_() for rows in (users, negatives))
    wanted, others = (torch.randint(100 * negatives, (rows,)) for rows in (users, negatives))
    log_expected, weights = torch.randn(negatives), torch.ones(users)

    def held() -> None:
        scores = (user @ drawn.T - log_expected).masked_fill(wanted[:, None] == others, -torch.inf)
        own = (user * positive).sum(1, keepdim=True)
        functional.cross_entropy(torch.cat([own, scores], 1), torch.zeros(users, dtype=torch.int64)).backward()

    def in_blocks(precision: torch.dtype) -> None:
        rows = (user, positive, drawn, log_expected, (wanted, others), weights)
        losses.sampled_softmax(*rows, precision=precision).backward()

    plain = _seconds(held)
    print(
        f"sampled softmax, {users:,} users by {negatives:,} items, D = {dim}: {plain * 1e3:.0f} ms with all scores held"
    )
    for precision in (torch.float32, torch.bfloat16):
        found = _seconds(partial(in_blocks, precision))
        print(f"in blocks of {precision}: {found * 1e3:.0f} ms, {plain / found:.1f} times as fast")


class _Watch(Budget):
    """Measures from the end of an epoch's first step to the end of its last."""

    def __init__(self, profiler: profile | None) -> None:
        super().__init__()
        self.seconds, self.steps, self._profiler = 0.0, 0, profiler
        self._first: float | None = None

    def epoch(self, share: float, *, step: str, is_whole: bool = True) -> bool:
        """As that of a budget without an end."""
        if self._first is None:
            self._first = time.perf_counter()
            if self._profiler and share < 1:
                self._profiler.start()
        else:
            self.steps += 1
            self.seconds = time.perf_counter() - self._first
            if share >= 1 and self._profiler:
                self._profiler.stop()
        return super().epoch(share, step=step, is_whole=is_whole)


def _run(benchmark: Benchmark, config: Config, model: str, chosen: dict[str, object], watch: _Watch) -> None:
    fit(model, data_of(benchmark, benchmark.known, benchmark.splits.holdout_start, config), chosen, watch)


if __name__ == "__main__":
    main()
