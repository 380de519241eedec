"""Text networks from a folder: the graph gives what torch gives, and what is broken or hostile is refused."""

import json
import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_networks
import torch
from torch.nn import functional

from recsys.content import export
from recsys.content.bert import load_bert
from recsys.content.export import prepare_text
from recsys.content.gpu import gpu_runner, torch_runner
from recsys.content.text_folder import TextSettings, read_text_settings
from recsys.content.text_network import TextNetwork, graph_runner, open_text_network
from recsys.data.folder import read_manifest
from recsys.errors import ConfigError, RecsysError

TEXTS = ["Paper lantern", "red cup", "", "paper lantern " * 500, "赤い紙 🎄", "Paper lantern", "cafe\u0301 \u0000"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_networks.text_folder(tmp_path_factory.mktemp("weights") / "tiny")


@pytest.fixture(scope="module")
def prepared(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare_text(weights, tmp_path_factory.mktemp("prepared"), "tiny")


def by_torch(weights: Path, network: TextNetwork) -> TextNetwork:
    return replace(network, run=torch_runner(load_bert(weights)[0], torch.device("cpu")))


def test_the_graph_gives_what_torch_gives(weights: Path, prepared: Path) -> None:
    network = open_text_network(prepared)
    assert network.settings == TextSettings(length=10, pooling="mean", normalize=True)
    found = network.encode(TEXTS)
    assert np.abs(found - by_torch(weights, network).encode(TEXTS)).max() < 1e-5
    assert np.array_equal(found[0], found[5])
    assert np.allclose(np.linalg.norm(found, axis=1), [1, 1, 0, 1, 1, 1, 1])
    assert np.abs(found[:2] - np.concatenate([network.encode([text]) for text in TEXTS[:2]])).max() < 1e-6
    assert network.encode([]).shape == (0, 8)
    assert network.encode([""]).shape == (1, 8)


def test_attention_is_that_of_the_paper(weights: Path) -> None:
    """One layer, by hand: softmax(QK'/√d)V in two heads, with residuals."""
    bert, _ = load_bert(weights)
    layer = bert.encoder["layer"][0]
    hidden, mask = torch.randn(1, 4, 8), torch.tensor([[1, 1, 1, 0]]) > 0
    query, key, value = (layer.attention["self"][name](hidden)[0] for name in ("query", "key", "value"))
    heads = []
    for part in (slice(0, 4), slice(4, 8)):
        scores = query[:, part] @ key[:, part].T / 2
        heads.append(torch.softmax(scores.masked_fill(~mask[0], -1e9), 1) @ value[:, part])
    output = layer.attention["output"]
    seen = output["LayerNorm"](output["dense"](torch.cat(heads, 1)) + hidden[0])
    wide = functional.gelu(layer.intermediate["dense"](seen))
    expected = layer.output["LayerNorm"](layer.output["dense"](wide) + seen)
    assert torch.allclose(layer(hidden, mask[:, None, None])[0], expected, atol=1e-5)


def test_a_gpu_is_used_where_there_is_one_and_weights_are(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu_runner(weights) is None
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    asked = []
    monkeypatch.setattr("recsys.content.gpu.torch_runner", lambda *given: asked.append(given))
    gpu_runner(weights)
    assert [str(device) for _, device in asked] == ["cuda"]


def test_what_is_prepared_says_where_it_comes_from(weights: Path, prepared: Path) -> None:
    said = read_manifest(prepared)
    assert said["weights"]["license"] == "Apache-2.0"
    assert said["weights"]["sha256"] == export.sha256_of(weights / "model.safetensors")
    (prepared.parent / "copy").mkdir()
    shutil.copytree(prepared, prepared.parent / "copy" / "tiny")
    graph = prepared.parent / "copy" / "tiny" / "model.onnx"
    graph.write_bytes(graph.read_bytes()[:-1] + b"x")
    with pytest.raises(RecsysError, match="is damaged"):
        open_text_network(graph.parent)


def test_a_graph_is_taken_as_it_is(weights: Path, prepared: Path, tmp_path: Path) -> None:
    given = tmp_path / "given"
    given.mkdir()
    shutil.copy(prepared / "model.onnx", given / "anything.onnx")
    shutil.copy(weights / "tokenizer.json", given)
    network = open_text_network(prepare_text(given, tmp_path, "graph"))
    assert network.settings == TextSettings(length=512)
    short = [text for text in TEXTS if len(text) < 100]
    assert np.abs(network.encode(short) - open_text_network(prepared).encode(short)).max() < 1e-6


def test_matrices_in_eight_bits_are_close(prepared: Path, tmp_path: Path) -> None:
    graph = tmp_path / "model.onnx"
    shutil.copy(prepared / "model.onnx", graph)
    export._quantize(graph)
    assert graph.stat().st_size < (prepared / "model.onnx").stat().st_size - 11_000
    plain = open_text_network(prepared)
    small = TextNetwork(plain.settings, plain.tokenizer, graph_runner(tmp_path))
    texts = ["paper lantern", "red tea cup"]
    assert (plain.encode(texts) * small.encode(texts)).sum(axis=1).min() > 0.999


@pytest.mark.parametrize("pooling", ["cls_token", "max_tokens"])
def test_pooling_is_read_from_the_folder(pooling: str, tmp_path: Path) -> None:
    folder = tiny_networks.text_folder(tmp_path / "tiny", pooling=pooling)
    settings = read_text_settings(folder)
    assert settings.pooling == pooling.partition("_")[0]
    hidden = np.arange(12, dtype=np.float32).reshape(1, 3, 4)
    network = TextNetwork(settings, None, lambda *_: hidden)
    pooled = network._batch([[1, 2, 3]])[0] * np.linalg.norm(hidden[0, 0 if settings.pooling == "cls" else 2])
    assert np.allclose(pooled, hidden[0, 0 if settings.pooling == "cls" else 2])


class Hostile:
    """A value whose loading would write a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, ...]]:
        return (exec, (f"open({str(self.path)!r}, 'w')",))


def test_a_pickle_with_code_runs_nothing(tmp_path: Path) -> None:
    folder, trace = tiny_networks.text_folder(tmp_path / "tiny"), tmp_path / "ran"
    (folder / "model.safetensors").unlink()
    for content in (pickle.dumps({"a": Hostile(trace)}), b"", b"\x80\x04not a pickle"):
        (folder / "pytorch_model.bin").write_bytes(content)
        with pytest.raises(ConfigError, match="nothing of it was run"):
            prepare_text(folder, tmp_path, "out")
    torch.save({"a": Hostile(trace)}, folder / "pytorch_model.bin")
    with pytest.raises(ConfigError, match="nothing of it was run"):
        prepare_text(folder, tmp_path, "out")
    assert not trace.exists()
    assert not (tmp_path / "out").exists()


def spoil_json(name: str, **values: object) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        (folder / name).write_text(json.dumps(json.loads((folder / name).read_text()) | values))

    return spoil


def write(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(content)


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "no tokenizer": (lambda folder: (folder / "tokenizer.json").unlink(), "has no tokenizer.json"),
    "no weights": (
        lambda folder: (folder / "model.safetensors").unlink(),
        "has no weights; expected model.safetensors",
    ),
    "weights cut off": (write("model.safetensors", b"\x10\0\0\0\0\0\0\0{"), "cannot be read"),
    "other shape": (spoil_json("config.json", vocab_size=70), r"is \(600, 8\), expected \(70, 8\)"),
    "other depth": (spoil_json("config.json", num_hidden_layers=3), "is missing; .* and 13 more"),
    "huge": (spoil_json("config.json", hidden_size=10**9), "allowed is 1 to 8192"),
    "other architecture": (spoil_json("config.json", model_type="t5"), "allowed are bert, roberta, xlm-roberta"),
    "own code": (spoil_json("config.json", model_type="own", auto_map={"AutoModel": "code.py"}), "allowed are bert"),
    "damaged settings": (write("config.json", b"{"), "config.json cannot be read"),
    "other modules": (write("modules.json", b'[{"path": "", "type": "x.Dense"}]'), "module Dense is not supported"),
    "no modules": (write("modules.json", b'[{"kind": 1}]'), "is no list of modules"),
    "outside": (write("modules.json", b'[{"path": "../..", "type": "x.Pooling"}]'), "outside of the folder"),
    "two poolings": (spoil_json("1_Pooling/config.json", pooling_mode_cls_token=True), "one pooling of"),
    "no graph": (write("model.onnx", b"graph"), "is no ONNX graph"),
    "two graphs": (lambda folder: [write(f"{n}.onnx", b"")(folder) for n in "ab"], "several graphs: a.onnx, b.onnx"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_folder_is_refused_with_its_reason(name: str, weights: Path, tmp_path: Path) -> None:
    spoil, said = BROKEN[name]
    folder = tmp_path / "tiny"
    shutil.copytree(weights, folder)
    spoil(folder)
    with pytest.raises(ConfigError, match=said):
        prepare_text(folder, tmp_path, "out")
    assert not (tmp_path / "out").exists()


def test_what_is_no_tokenizer_is_refused(weights: Path, prepared: Path, tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    folder.mkdir()
    shutil.copy(prepared / "model.onnx", folder)
    (folder / "tokenizer.json").write_text('{"version": "1.0"}')
    with pytest.raises(ConfigError, match="is no tokenizer"):
        open_text_network(prepare_text(folder, tmp_path, "out"))


def test_roberta_counts_positions_from_its_padding(tmp_path: Path) -> None:
    folder = tiny_networks.text_folder(tmp_path / "tiny", model_type="roberta", pad_token_id=1)
    bert, _ = load_bert(folder)
    ids, mask = torch.tensor([[4, 5, 6]]), torch.tensor([[1, 1, 0]])
    moved = bert.embeddings["position_embeddings"].weight.detach().clone()
    before = bert(ids, mask)[0, :2]
    moved[[0, 1]] = 9.0  # the rows that no token of this text has: positions are 2, 3, and 1 where nothing stands
    bert.embeddings["position_embeddings"].weight.data = moved
    assert torch.equal(bert(ids, mask)[0, :2], before)
    assert read_text_settings(folder).length == 10
