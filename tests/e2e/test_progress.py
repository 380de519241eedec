"""Whoever waits is steps: what takes long reports that it has begun and that it has ended."""

from pathlib import Path

from road import configured

from jobs.evaluate import evaluate
from jobs.train import train


def test_the_steps_of_a_night_report_their_begin_and_their_end(shop: Path) -> None:
    steps: list[tuple[str, float]] = []
    train(configured(shop), progress=lambda step, share: steps.append((step, share)))
    for step in ("evaluate popularity", "evaluate mf", "index", "save", "publish"):
        assert [share for name, share in steps if name == step] == [0.0, 1.0], step


def test_judging_by_a_file_reports_too(shop: Path) -> None:
    (shop / "held.csv").write_text("user_id,item_id\n1001,P00001\n")
    steps: list[tuple[str, float]] = []
    evaluate(configured(shop), holdout=shop / "held.csv", progress=lambda step, share: steps.append((step, share)))
    assert [share for name, share in steps if name == "evaluate mf"] == [0.0, 1.0]


def test_init_says_whether_it_wrote_the_configuration_or_found_one(tmp_path: Path, recsys) -> None:
    settings = tmp_path / "recsys.toml"
    first = recsys("init", "--config", settings)
    assert (first.returncode, first.stdout.splitlines()[0]) == (
        0,
        f"{settings} was written: every key with its default",
    )
    again = recsys("init", "--config", settings)
    assert again.returncode == 0, again.stderr
    assert again.stdout.splitlines()[0] == f"{settings} exists and was not changed"
