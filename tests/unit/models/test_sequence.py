"""The sequence model learns from the order, foresees each event once, and counts kinds as configured."""

import model_contracts as contracts
import numpy as np
import pytest
import torch
from scipy import sparse

from recsys.config.settings import MfSettings, SequenceSettings
from recsys.data.interactions import Interactions
from recsys.models.sequence.batches import batches, windows
from recsys.models.sequence.tower import drop
from recsys.models.sequence.trainer import SequenceParams, Trainer, TrainingSet

CPU = torch.device("cpu")
GROUP = 4  # items that follow each other in a ring, of which a user goes round one
RINGS = 6
MINUTE = 60_000_000


FIXED = {"dim", "length", "blocks", "dropout", "max_events_per_epoch", "batch_size", "full_softmax_items", "negatives"}


def params(epochs=1, **settings):
    fixed = SequenceSettings(**settings).model_dump(include=FIXED)
    return SequenceParams(**fixed, temperature=0.1, trend_weight=0.0, recency_half_life_days=10.0, epochs=epochs)


def rings(users=300, length=9, seed=0):
    """Everybody goes round one ring, from anywhere: who is where tells what comes next, who likes what does not."""
    random = np.random.default_rng(seed)
    ring, first = random.integers(0, RINGS, users), random.integers(0, GROUP, users)
    steps = np.arange(length)
    items = ring[:, None] * GROUP + (first[:, None] + steps) % GROUP
    times = contracts.NOW - (length - steps) * MINUTE * 600 + np.zeros((users, 1), np.int64)
    owners = np.repeat(np.arange(users, dtype=np.int32), length)
    return contracts.training_data(owners, items.ravel().astype(np.int32), times.ravel(), users)


def next_is_first(vectors, data):
    """How often the item that comes next in the ring has the best score of all."""
    found = []
    for item in range(RINGS * GROUP):
        start = item // GROUP * GROUP
        before = [start + (item - start + 1 + step) % GROUP for step in range(GROUP)]  # ends with item
        following = start + (item - start + 1) % GROUP
        found.append(np.argmax(contracts.scores(vectors, *before)) == following)
    return np.mean(found)


def test_where_order_decides_it_is_far_ahead_of_a_model_without():
    data = rings()
    shape = contracts.SETTINGS.sequence.model_dump(
        include={"dim", "length", "dropout"}
    )  # as elsewhere: it is exported once
    ours = contracts.fitted("sequence", data, params(**shape, batch_size=32, epochs=16).model_dump())
    exponents = {
        "item_exponents": (0.4,),
        "user_exponents": (0.5,),
        "popularity_exponents": (0.2,),
        "recency_exponents": (0.0,),
    }
    plain = contracts.tuned("mf", data, MfSettings(n_factors=(16,), recency_half_life_days=(20.0,), **exponents))
    assert next_is_first(ours, data) > 0.95
    assert next_is_first(plain, data) < 0.5


def interactions(*counts, items=50):
    random = np.random.default_rng(0)
    users = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    total = len(users)
    times = random.permutation(total) * MINUTE
    values = np.full(total, np.nan, np.float32)
    rows, kinds = random.integers(0, items, total).astype(np.int32), random.integers(0, 3, total).astype(np.int8)
    return Interactions.from_rows(users, rows, kinds, times, values, user_count=len(counts), item_count=items)


def test_every_event_but_a_user_s_first_is_foreseen_once_in_its_context():
    events = interactions(0, 1, 2, 5, 6, 7, 40)
    seen = []
    for batch, _ in batches(events, *windows(events, 5), 12, 1000, np.random.default_rng(1)):
        assert batch.mask[:, -1].all(), "padded in front"
        for row, column in zip(*np.nonzero(batch.mask), strict=True):
            age, kind = batch.ages_days[row, column], batch.kinds[row, column]
            seen.append((batch.items[row, column], kind, batch.next_items[row, column], batch.next_kinds[row, column]))
            assert age > 0
    expected = [
        (events.items[at], events.kinds[at], events.items[at + 1], events.kinds[at + 1])
        for user in range(events.user_count)
        for at in range(events.offsets[user], events.offsets[user + 1] - 1)
    ]
    assert sorted(seen) == sorted(expected)


def test_batches_hold_little_padding_and_about_as_many_events_as_asked():
    events = interactions(*np.random.default_rng(3).integers(2, 60, 2000))
    found = [batch.mask for batch, _ in batches(events, *windows(events, 50), 500, 10**6, np.random.default_rng(1))]
    assert sum(mask.sum() for mask in found) / sum(mask.size for mask in found) > 0.9
    assert max(mask.sum() for mask in found) <= 550


def test_a_pass_takes_about_so_many_events_and_each_pass_others():
    events = interactions(*[9] * 500)
    passes = []
    for seed in range(2):
        found = [batch for batch, _ in batches(events, *windows(events, 5), 50, 400, np.random.default_rng(seed))]
        assert 400 <= sum(batch.mask.sum() for batch in found) <= 405
        passes.append({user for batch in found for user in batch.users})
    assert len(passes[0] - passes[1]) > len(passes[0]) / 2


def learner(events, weights=(1.0, 1.0, 1.0), **settings):
    start = np.random.default_rng(0).standard_normal((events.item_count, 8)).astype(np.float32)
    features = sparse.csr_array((events.item_count, 0), dtype=np.float32)
    training_set = TrainingSet(events, features, np.array(weights, np.float32))
    return Trainer(training_set, start, params(dim=8, length=5, **settings), CPU, 0, torch.float32)


@pytest.mark.parametrize("full", [0, 1000])
def test_the_loss_falls_with_all_items_and_with_a_sample_of_them(full):
    one = learner(rings().events, full_softmax_items=full, negatives=16, batch_size=200)
    losses = [one.train_epoch(epoch, lambda _: True) for epoch in range(1, 9)]
    assert losses[-1] < losses[0] * 0.7
    assert np.isfinite(one.item_vectors).all()


@pytest.mark.parametrize(("drawn", "tolerance"), [(50, 1e-5), (20_000, 0.01)])
def test_the_sample_estimates_the_whole_and_is_it_where_all_are_taken(drawn, tolerance):
    events = interactions(*[20] * 40)
    with torch.random.fork_rng():
        batch = next(iter(batches(events, *windows(events, 5), 400, 1000, np.random.default_rng(0))))[0]
        weight = np.ones(int(batch.mask.sum()), np.float32)
        found = []
        for settings in ({"full_softmax_items": 1000}, {"full_softmax_items": 0, "negatives": drawn}):
            one = learner(events, dropout=0.0, **settings)
            one.tower.eval()
            if drawn > events.item_count:  # else they would all be taken, which is no sample
                one._negatives._all = np.arange(drawn + 1)
            found.append(float(one._loss(batch, weight, np.random.default_rng(5)).detach()))
    assert found[1] == pytest.approx(found[0], rel=tolerance)


def test_a_kind_that_counts_nothing_is_not_foreseen():
    events = interactions(*[20] * 40)
    nothing = Interactions(
        events.offsets, events.items, np.zeros_like(events.kinds), events.times, events.values, events.item_count
    )
    one = learner(nothing, weights=(0.0, 1.0, 1.0))
    before = one.item_vectors
    assert one.train_epoch(1, lambda _: True) == 0
    np.testing.assert_array_equal(one.item_vectors, before)


def test_training_leaves_torch_s_own_chance_alone():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    learner(interactions(*[5] * 10)).train_epoch(1, lambda _: True)
    assert torch.equal(torch.rand(2), expected)


@pytest.mark.parametrize(("rate", "share"), [(0.0, 1.0), (0.001, 1.0), (0.25, 0.75), (0.999, 1 / 256)])
def test_dropout_sets_a_share_to_zero_and_keeps_the_mean(rate, share):
    values = torch.ones(500, 400)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        found = drop(values, rate, training=True)
    assert float((found > 0).float().mean()) == pytest.approx(share, rel=0.05)
    assert float(found.mean()) == pytest.approx(1.0, rel=0.05)
    assert torch.equal(drop(values, rate, training=False), values)
