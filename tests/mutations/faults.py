"""Faults that the tests must find: a piece of code that stands in the tree once, what takes its place, and the test."""

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROOMS = ("recsys", "jobs", "api")


@dataclass(frozen=True)
class Fault:
    """One fault, and the test that fails with it."""

    old: str
    new: str
    test: str

    def file(self, root: Path = ROOT) -> Path:
        """The one file that has the code. Raises LookupError when there is none, or when it is there twice."""
        counts = {
            path: count
            for room in ROOMS
            for path in (root / room).rglob("*.py")
            if (count := path.read_text(encoding="utf-8").count(self.old))
        }
        if sum(counts.values()) != 1:
            raise LookupError(f"{self.old!r} has to stand in the code once, and is in {counts or 'no file'}")
        return next(iter(counts))


LOSSES, GATE, LEASES = "unit/models/test_losses.py", "unit/training/test_gate.py", "integration/store/test_leases.py"
INDEX, ANSWERS = "unit/index/test_index.py", "integration/api/test_api_answers.py"

FAULTS: dict[str, Fault] = {
    "what was bought is answered": Fault(
        "    return Ragged(bought.offsets, view.current_row(bought.items))\n",
        "    return Ragged(bought.offsets * 0, bought.items[:0])\n",
        f"{ANSWERS}::test_a_user_gets_personal_items_that_they_have_not_bought[sqlite]",
    ),
    "the logQ correction with the other sign": Fault(
        ".float().sub_(log_expected)", ".float().add_(log_expected)", LOSSES
    ),
    "no logQ correction": Fault(".float().sub_(log_expected)", ".float()", LOSSES),
    "a model that is no better than popularity": Fault(
        'if metrics["candidate"] <= metrics["popularity"]:', "if False:", GATE
    ),
    "a model that is worse than the live bundle": Fault(
        "if mean_or_zero(ours) < mean_or_zero(theirs) * (1 - settings.max_relative_drop) and upper < 0:",
        "if False:",
        GATE,
    ),
    "the gate scores vectors that have seen the holdout": Fault(
        "evaluation=winner.vectors,",
        "evaluation=bundle.vectors,",
        "integration/api/test_api_metric.py::"
        "test_the_published_figures_of_the_holdout_come_out_of_answers_over_http_to_the_last_digit",
    ),
    "a history that holds the item it is to foretell": Fault(
        'pooled["history"][run] - pooled["own"]', 'pooled["history"][run]', "unit/models/test_towers.py"
    ),
    "a fencing number that is given twice": Fault("        fencing += 1\n", "        fencing += 0\n", LEASES),
    "a lease that never expires": Fault("        if expires_at > now:\n", "        if expires_at > 0:\n", LEASES),
    "a lease that is held though it has expired": Fault("        if late >= 0:\n", "        if False:\n", LEASES),
    "the worst items first": Fault("np.lexsort((found, -exact, owners))", "np.lexsort((found, exact, owners))", INDEX),
    "a filter that the nearest items are not held to": Fault("kept &= allowed[rows[0]]", "pass", INDEX),
    "a filter that products are not held to": Fault("            products += penalty\n", "            pass\n", INDEX),
}
