"""Leave-one-out as the benchmark reads it: what is trained on, what validates, what is known when the test comes."""

from benchmarks.forms import read
from recsys.config.settings import Config


def of_user(events, user):
    return events.items[events.offsets[user] : events.offsets[user + 1]].tolist()


def test_the_last_item_tests_the_one_before_validates_and_then_belongs_to_the_history(tmp_path):
    (tmp_path / "sequences.txt").write_text("7 10 30 20 40\n3 20 10 40\n")
    found = read(tmp_path, config=Config(), seed=0)
    row = {int(name): number for number, name in enumerate(found.catalog.ids)}
    first, second = found.rows[found.users == 7][0], found.rows[found.users == 3][0]
    splits = found.splits
    assert of_user(splits.fit, first) == [row[10], row[30]]
    assert of_user(splits.validation, first) == [row[20]]
    assert of_user(splits.fit, second) == [row[20]]
    assert of_user(found.known, first) == [row[10], row[30], row[20]], "the test item is known to nobody"
    validating = splits.fit.histories(found.rows, splits.validation_start, 50)
    testing = found.known.histories(found.rows, splits.holdout_start, 50)
    for histories in (validating, testing):  # the same question at both times: what comes a day after the newest
        assert histories.ages_days[histories.offsets[1:] - 1].tolist() == [1, 1]
    assert testing.items.tolist() == [row[20], row[10], row[10], row[30], row[20]]
    assert len(splits.holdout) == 0
