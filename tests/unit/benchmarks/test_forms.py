"""The benchmark sets are split from their training data alone."""

import gzip

import numpy as np
import pytest

from benchmarks import forms
from recsys.config.settings import Config


def test_one_purchase_of_each_user_validates_where_the_test_is_one_purchase_of_each(tmp_path):
    rows = [(1, 10, "view", 5), (1, 10, "buy", 6), (1, 11, "buy", 7), (2, 10, "view", 8), (2, 12, "buy", 9)]
    lines = ["user_id,item_id,event,timestamp", *(",".join(map(str, row)) for row in rows)]
    with gzip.open(tmp_path / "events.csv.gz", "wt") as file:
        file.write("\n".join(lines) + "\n")
    (tmp_path / "test_purchases.csv").write_text("user_id,item_id\n1,12\n2,11\n")
    read = forms.read(tmp_path, config=Config(), seed=0)
    splits = read.splits
    assert len(read.known) == 5
    assert splits.validation.users.tolist() == [0, 1]
    assert np.unique(splits.validation.kinds).tolist() == [Config().events.codes["purchase"]]
    held = set(zip(splits.validation.users.tolist(), splits.validation.items.tolist(), strict=True))
    assert not held & set(zip(splits.fit.users.tolist(), splits.fit.items.tolist(), strict=True))
    assert splits.fit.times.max() < splits.validation_start, "histories are as of the end"
    assert read.repeats


def lists(tmp_path, lines):
    (tmp_path / "train.txt").write_text(
        "".join(f"{user} {' '.join(map(str, row))}\n" for user, row in enumerate(lines))
    )
    (tmp_path / "test.txt").write_text("0 1\n")
    return forms.read(tmp_path, config=Config(), seed=0)


@pytest.mark.parametrize("order", ["sorted", "as bought"])
def test_a_random_tenth_of_the_lines_validates(tmp_path, order):
    random = np.random.default_rng(1)
    read = lists(tmp_path, [[*range(30)] if order == "sorted" else random.permutation(30).tolist() for _ in range(200)])
    share = np.bincount(read.splits.validation.items, minlength=30) / 200
    assert share.min() > 0.02
    assert share.max() < 0.25
    assert len(read.splits.validation) + len(read.splits.fit) == len(read.known)


def test_the_ends_of_lines_validate_where_items_are_numbered_as_the_lines_name_them(tmp_path):
    random = np.random.default_rng(1)
    lines = [random.permutation(300)[:30] for _ in range(40)]
    named = list(dict.fromkeys(np.concatenate(lines).tolist()))
    lines = [[named.index(item) for item in line] for line in lines]
    read = lists(tmp_path, lines)
    ids = np.array([int(i) for i in read.catalog.ids])
    for user, line in enumerate(lines):
        start, stop = read.splits.validation.offsets[user : user + 2]
        assert ids[read.splits.validation.items[start:stop]].tolist() == line[-3:]
    assert len(read.splits.fit) == 40 * 27


def test_short_lines_give_their_share_on_average(tmp_path):
    read = lists(tmp_path, [np.random.default_rng(user).permutation(5).tolist() for user in range(400)])
    assert 0.06 < len(read.splits.validation) / len(read.known) < 0.14
