"""The benchmark sets are split from their training data alone."""

import gzip

import numpy as np

from benchmarks import forms
from recsys.config import Config


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
