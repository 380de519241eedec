"""The exported tower answers as the trained one does, for any batch, and lives in a bundle."""

import tempfile
import threading
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch

from recsys.bundle import bundle as bundles
from recsys.config.settings import IndexSettings
from recsys.data.interactions import Histories
from recsys.errors import BundleError
from recsys.models import onnx_encoder
from recsys.models.onnx_encoder import OnnxEncoder
from recsys.models.sequence.export import export
from recsys.models.sequence.tower import SequenceTower, TowerShape
from recsys.models.sequence.trainer import TorchEncoder
from recsys.models.vectors import Part, Vectors
from recsys.training.gate import align

ITEMS, DIM, LENGTH = 60, 16, 10
DIFFERENCE = 1e-5  # at most, between the trained tower and the exported one; 1e-7 was found


@pytest.fixture(scope="module")
def tower():
    """A tower whose every parameter counts."""
    torch.manual_seed(0)
    made = SequenceTower(TowerShape(DIM, blocks=2, heads=2, length=LENGTH, kinds=3, dropout=0.5))
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return made


@pytest.fixture(scope="module")
def encoder(tower):
    return OnnxEncoder(LENGTH, export(tower))


@pytest.fixture(scope="module")
def table():
    return np.random.default_rng(1).standard_normal((ITEMS, DIM)).astype(np.float32)


def histories(*counts, seed=2):
    random = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    total = int(offsets[-1])
    ages = [np.sort(random.exponential(40, count))[::-1] for count in counts]
    return Histories(
        offsets,
        random.integers(0, ITEMS, total).astype(np.int32),
        random.integers(0, 3, total).astype(np.int8),
        np.concatenate([*ages, []]).astype(np.float32),
    )


def test_the_exported_tower_is_the_trained_one(tower, encoder, table):
    asked = histories(*range(25))  # none, fewer than L, more than L
    exported, trained = encoder.encode(table, asked), TorchEncoder(tower).encode(table, asked)
    assert exported.dtype == np.float32
    assert np.abs(trained).max() > 0.1
    assert np.abs(exported - trained).max() < DIFFERENCE
    np.testing.assert_allclose(np.linalg.norm(exported[1:], axis=1), 1, atol=1e-5)


def test_the_graph_holds_no_path_of_the_machine_that_exported_it(encoder):
    assert b".py" not in encoder.graph
    assert b"stack_trace" not in encoder.graph


def test_an_empty_history_gives_zeros_and_so_does_one_of_unknown_items(encoder, table):
    assert encoder.encode(table, histories(0)).tolist() == [[0] * DIM]
    assert encoder.encode(table, histories()).shape == (0, DIM)
    assert encoder.encode(np.zeros_like(table), histories(3, 0)).tolist() == [[0] * DIM] * 2


def test_a_user_is_encoded_alone_as_among_others(encoder, table):
    asked = histories(3, 0, 40, 1, 10, 7)
    together = encoder.encode(table, asked)
    for user in range(len(asked)):
        alone = encoder.encode(table, asked.slice(user, user + 1))
        np.testing.assert_allclose(alone[0], together[user], atol=1e-6)


def test_many_histories_go_in_blocks_of_bounded_memory(encoder, table, monkeypatch):
    asked = histories(*np.random.default_rng(0).integers(0, 15, 3000))
    at_once = encoder.encode(table, asked)
    monkeypatch.setattr(onnx_encoder, "_BLOCK_NUMBERS", 20 * LENGTH * DIM)
    sizes = [block.vectors.size for block in onnx_encoder.padded(table, asked, LENGTH)]
    assert len(sizes) > 50
    assert max(sizes) <= 20 * LENGTH * DIM
    tracemalloc.start()
    in_blocks = encoder.encode(table, asked)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_allclose(in_blocks, at_once, atol=1e-6)
    assert peak < 3 * at_once.nbytes, "the answer and little else; padded at once, all would be ten times as much"


def test_an_item_without_a_vector_is_as_if_it_had_not_been(encoder, table):
    asked = histories(8)
    table = table.copy()
    table[asked.items[7]] = table[asked.items[3]] = 0
    left = asked.select(table[asked.items].any(axis=1))
    assert len(left.items) < 8
    np.testing.assert_allclose(encoder.encode(table, asked), encoder.encode(table, left), atol=1e-6)


@pytest.mark.parametrize("what", ["order", "kinds", "ages"])
def test_order_kinds_and_ages_count(encoder, table, what):
    asked = histories(6)
    changed = {
        "order": Histories(asked.offsets, asked.items[::-1].copy(), asked.kinds, asked.ages_days),
        "kinds": Histories(asked.offsets, asked.items, (asked.kinds + 1) % 3, asked.ages_days),
        "ages": Histories(asked.offsets, asked.items, asked.kinds, asked.ages_days * 100),
    }[what]
    assert np.abs(encoder.encode(table, asked) - encoder.encode(table, changed)).max() > 0.01


def test_only_the_newest_events_are_read(encoder, table):
    asked = histories(LENGTH + 5)
    newest = asked.select(np.arange(LENGTH + 5) >= 5)
    np.testing.assert_allclose(encoder.encode(table, asked), encoder.encode(table, newest), atol=1e-6)


def test_every_position_looks_back_alone(tower, table):
    """Training takes all positions at once; each must see what serving will see, and nothing of what comes later."""
    asked = histories(LENGTH)
    block = next(onnx_encoder.padded(table, asked, LENGTH))
    tower.eval()
    inputs = [torch.from_numpy(getattr(block, name)) for name in onnx_encoder.INPUTS]
    with torch.no_grad():
        every = tower(*inputs, last=False)[0].numpy()
    for stop in range(1, LENGTH + 1):
        then = 0.0 if stop == LENGTH else asked.ages_days[stop]  # the moment of the next event
        upto = Histories(np.array([0, stop]), asked.items[:stop], asked.kinds[:stop], asked.ages_days[:stop] - then)
        np.testing.assert_allclose(TorchEncoder(tower).encode(table, upto)[0], every[stop - 1], atol=1e-5)


def test_threads_share_one_encoder(tower, table):
    fresh, asked = OnnxEncoder(LENGTH, export(tower)), histories(*range(12))
    expected, found = TorchEncoder(tower).encode(table, asked), {}

    def ask(number):
        found[number] = [fresh.encode(table, asked) for _ in range(5)]

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    for answer in (answer for answers in found.values() for answer in answers):
        np.testing.assert_allclose(answer, expected, atol=DIFFERENCE)


@pytest.fixture
def saved(encoder, table, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    vectors = Vectors("sequence", table, (Part(table, encoder),), None, {"epochs": 3})
    popularity, settings = np.arange(ITEMS, dtype=np.float32), IndexSettings()
    made = bundles.assemble(
        vectors, tiny.catalog(ITEMS), popularity, kinds=tiny.KINDS, index_settings=settings, evaluation=vectors
    )
    return vectors, bundles.save(made, tmp_path, facts={"config_hash": "0123abcd"})


def test_it_survives_a_bundle_and_its_file_is_checked(saved, tmp_path):
    vectors, version = saved
    opened, asked = bundles.load(tmp_path, version), histories(*range(12))
    assert opened.vectors.parts[0].encoder == vectors.parts[0].encoder
    np.testing.assert_array_equal(opened.vectors.encode(asked), vectors.encode(asked))
    np.testing.assert_array_equal(opened.evaluation.encode(asked), vectors.encode(asked))
    files = opened.manifest["files"]
    assert {"parts/0/encoder.onnx", "evaluation/parts/0/encoder.onnx"} <= set(files)
    graph = tmp_path / "bundles" / version / "parts/0/encoder.onnx"
    damaged = bytearray(graph.read_bytes())
    damaged[100] ^= 1
    graph.write_bytes(bytes(damaged))
    with pytest.raises(BundleError, match=r"encoder\.onnx is damaged"):
        bundles.load(tmp_path, version)


def test_it_survives_the_alignment_to_another_catalog(saved, encoder, table, tmp_path):
    opened, asked = bundles.load(tmp_path, saved[1]), histories(4, 9, 0)
    wanted = tiny.catalog(ITEMS + 5).ids
    rows = np.random.default_rng(0).permutation(ITEMS).astype(np.int32)
    shuffled = type(wanted).from_ids([f"i{row}" for row in rows] + ["new"])
    aligned = align(opened.evaluation, opened.catalog.ids, shuffled)
    moved = replace(asked, items=np.argsort(rows).astype(np.int32)[asked.items])
    np.testing.assert_allclose(aligned.encode(moved), encoder.encode(table, asked), atol=1e-6)
