"""What the check doubted is said again where it matters: after a training, and when the gate refuses."""

from pathlib import Path

import pytest
from shops import DAY, NOW, Shop
from tiny import quiet

from jobs.train import train
from recsys.config.settings import Config
from recsys.errors import RefusedError
from recsys.training import pipeline
from recsys.training.gate import GateResult

NEW = 29  # an item that user 3 has not bought before


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """A shop of 90 days, and one order of a known user half a year later."""
    shop = Shop(tmp_path)
    late = (NOW - DAY) // 1_000_000
    first = late - 270 * 86_400
    rows = [
        (f"u{at % 40}", f"i{(at * at + at // 40) % NEW}", "purchase", first + at * 7_776, 1.0) for at in range(1000)
    ]
    others = [(f"u{at}", f"i{NEW}", "view", first + 50 * 86_400 + at, 1.0) for at in range(10, 20)]
    shop.add("events", [*rows, *others, ("u3", f"i{NEW}", "purchase", late, 1.0)])
    values = shop.config().model_dump(by_alias=True)
    values |= {"store": {"url": f"sqlite:///{tmp_path / 'own.db'}"}, "storage": {"path": tmp_path / "data"}}
    return Config.model_validate(values | {"training": {"models": ["popularity"]}})


def test_a_training_shows_the_warnings_of_the_check(config: Config) -> None:
    notes = [part for part in train(config, progress=quiet, now=NOW).parts if isinstance(part, str)]
    [few] = [note for note in notes if note.startswith("warning: few users to judge by: 1 of 40 rows")]
    assert "a gap of 180 days from 2019-07-04 to 2019-12-31" in few
    assert any(note.startswith("warning: gap in time: all kinds") for note in notes)


def test_the_refusal_of_the_gate_repeats_what_the_check_doubted(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "compare", lambda *_: GateResult(("it is worse",), {}))
    with pytest.raises(RefusedError, match="it is worse") as error:
        train(config, progress=quiet, now=NOW)
    assert "the check of the source: few users to judge by: 1 of 40 rows" in str(error.value)
    assert "[evaluation] holdout_days" in str(error.value)
    assert "u3" not in str(error.value)
