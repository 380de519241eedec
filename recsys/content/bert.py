"""BERT and what has its form (RoBERTa, XLM-R, MiniLM, E5): from tokens to a vector each.

Devlin, Chang, Lee and Toutanova, BERT: pre-training of deep bidirectional transformers, 2019; Liu et al., RoBERTa:
a robustly optimized BERT pretraining approach, 2019. The modules are named as in the weights of Hugging Face.

Shapes: B texts, L tokens of the longest, H hidden size.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from recsys.content import weights
from recsys.content.text_folder import read_json
from recsys.errors import ConfigError

ARCHITECTURES = ("bert", "roberta", "xlm-roberta")
_FILES = ("model.safetensors", "pytorch_model.bin")
_PREFIXES = ("bert.", "roberta.", "model.", "0.auto_model.")
_ACTIVATIONS = ("gelu", "relu")
_MOST = {"num_hidden_layers": 100, "hidden_size": 8192, "intermediate_size": 65536, "vocab_size": 2_000_000}
_MOST |= {"max_position_embeddings": 100_000}


@dataclass(frozen=True)
class BertShape:
    """The sizes of a network."""

    vocabulary: int
    hidden: int
    layers: int
    heads: int
    intermediate: int
    positions: int
    types: int
    epsilon: float
    activation: str
    padding: int | None  # the token after whose number positions begin; None: they begin at 0


class _Table(nn.Module):
    """Rows that are looked up."""

    def __init__(self, count: int, hidden: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(count, hidden))

    def forward(self, rows: Tensor) -> Tensor:
        """Rows [B, L] -> [B, L, H]."""
        return functional.embedding(rows, self.weight)


class _Layer(nn.Module):
    def __init__(self, shape: BertShape) -> None:
        super().__init__()
        size = shape.hidden
        self.heads, self.activation = shape.heads, getattr(functional, shape.activation)
        project = {name: nn.Linear(size, size) for name in ("query", "key", "value")}
        self.attention = nn.ModuleDict({"self": nn.ModuleDict(project), "output": _output(size, size, shape.epsilon)})
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(size, shape.intermediate)})
        self.output = _output(shape.intermediate, size, shape.epsilon)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """hidden [B, L, H], mask bool [B, 1, 1, L] -> [B, L, H]."""
        own: Any = self.attention["self"]
        query, key, value = (
            own[name](hidden).unflatten(-1, (self.heads, -1)).transpose(1, 2) for name in ("query", "key", "value")
        )
        seen = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        hidden = _add(self.attention["output"], seen.transpose(1, 2).flatten(2), hidden)
        return _add(self.output, self.activation(self.intermediate["dense"](hidden)), hidden)


class Bert(nn.Module):
    """From tokens to the vectors of the last layer."""

    def __init__(self, shape: BertShape) -> None:
        super().__init__()
        self.shape = shape
        rows = {"word": shape.vocabulary, "position": shape.positions, "token_type": shape.types}
        tables: dict[str, nn.Module] = {f"{name}_embeddings": _Table(n, shape.hidden) for name, n in rows.items()}
        self.embeddings = nn.ModuleDict({**tables, "LayerNorm": nn.LayerNorm(shape.hidden, shape.epsilon)})
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(_Layer(shape) for _ in range(shape.layers))})

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """ids int64 [B, L], mask int64 [B, L], 1 where a token stands -> [B, L, H]."""
        places = torch.cumsum(mask, 1)
        positions = (places - 1).clamp_min(0) if self.shape.padding is None else places * mask + self.shape.padding
        found: Tensor = self.embeddings["word_embeddings"](ids) + self.embeddings["position_embeddings"](positions)
        found = self.embeddings["LayerNorm"](found + self.embeddings["token_type_embeddings"](torch.zeros_like(ids)))
        seen = mask[:, None, None, :] > 0
        layers: Any = self.encoder["layer"]
        for layer in layers:
            found = layer(found, seen)
        return found


def load_bert(folder: Path) -> tuple[Bert, Path]:
    """The network of a folder, ready to encode, and the file of its weights. Raises ConfigError, as `read_weights`."""
    shape = read_shape(folder)
    file = next((folder / name for name in _FILES if (folder / name).is_file()), None)
    if file is None:
        raise ConfigError(f"{folder} has no weights; expected {' or '.join(_FILES)}, or a graph as model.onnx")
    network = Bert(shape)
    weights.fill(network, _renamed(weights.read_weights(file)), str(file))
    return network.eval(), file


def read_shape(folder: Path) -> BertShape:
    """Read the sizes from config.json. Raises ConfigError for another architecture, and for sizes that cannot be."""
    path = folder / "config.json"
    config = read_json(path)
    kind = config.get("model_type")
    if kind not in ARCHITECTURES:
        allowed = ", ".join(ARCHITECTURES)
        raise ConfigError(f"{path}: model_type is {kind!r}; allowed are {allowed}; export another as model.onnx")
    activation = config.get("hidden_act", "gelu")
    if activation not in _ACTIVATIONS:
        raise ConfigError(f"{path}: hidden_act is {activation!r}; allowed are {', '.join(_ACTIVATIONS)}")
    try:
        if wrong := [name for name, most in _MOST.items() if not 0 < int(config[name]) <= most]:
            raise ConfigError(f"{path}: {wrong[0]} is {config[wrong[0]]}; allowed is 1 to {_MOST[wrong[0]]}")
        shape = BertShape(
            vocabulary=int(config["vocab_size"]),
            hidden=int(config["hidden_size"]),
            layers=int(config["num_hidden_layers"]),
            heads=int(config["num_attention_heads"]),
            intermediate=int(config["intermediate_size"]),
            positions=int(config["max_position_embeddings"]),
            types=int(config.get("type_vocab_size", 2)),
            epsilon=float(config.get("layer_norm_eps", 1e-12)),
            activation=activation,
            padding=None if kind == "bert" else int(config.get("pad_token_id", 1)),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{path}: {error} is missing or no number") from error
    if not 0 < shape.heads <= shape.hidden or shape.hidden % shape.heads:
        raise ConfigError(f"{path}: {shape.heads} heads do not divide the hidden size {shape.hidden}")
    return shape


def _renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names without what the file puts before them; gamma and beta, of the first releases, by their later names."""
    found = {}
    for name, value in state.items():
        plain = next((name.removeprefix(prefix) for prefix in _PREFIXES if name.startswith(prefix)), name)
        found[plain.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")] = value
    return found


def _output(size: int, hidden: int, epsilon: float) -> nn.ModuleDict:
    return nn.ModuleDict({"dense": nn.Linear(size, hidden), "LayerNorm": nn.LayerNorm(hidden, epsilon)})


def _add(output: Any, values: Tensor, hidden: Tensor) -> Tensor:
    found: Tensor = output["LayerNorm"](output["dense"](values) + hidden)
    return found
