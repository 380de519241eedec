"""Networks of a few numbers, written as others distribute theirs: a folder of BERT, a file of MobileNetV2."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from recsys.content.bert import Bert, BertShape, read_shape
from recsys.content.mobilenet import MobileNetV2
from recsys.content.weights import write_weights

VOCABULARY = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "paper", "lantern", "cup", "red", "cafe", "tea"]
SIZES: dict[str, Any] = {
    "model_type": "bert",
    "vocab_size": 600,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 12,
}


def text_folder(folder: Path, *, pooling: str = "mean_tokens", **sizes: Any) -> Path:
    """Write a sentence-transformers folder with random weights."""
    (folder / "1_Pooling").mkdir(parents=True)
    modules = [
        {"path": "", "type": "sentence_transformers.models.Transformer"},
        {"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
        {"path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
    ]
    files: dict[str, Any] = {
        "config.json": SIZES | sizes,
        "modules.json": modules,
        "1_Pooling/config.json": {f"pooling_mode_{pooling}": True, "word_embedding_dimension": 8},
        "sentence_bert_config.json": {"max_seq_length": 10},
    }
    for name, values in files.items():
        (folder / name).write_text(json.dumps(values))
    (folder / "LICENSE").write_text("Apache License\nVersion 2.0")
    tokenizer(folder / "tokenizer.json")
    network = random_bert(read_shape(folder))
    write_weights({f"bert.{name}": value for name, value in network.state_dict().items()}, folder / "model.safetensors")
    return folder


def random_bert(shape: BertShape) -> Bert:
    """A network with random weights, the same each time."""
    network = Bert(shape)
    draw = torch.Generator().manual_seed(7)
    for value in network.parameters():
        value.data = torch.randn(value.shape, generator=draw) * 0.3
    return network.eval()


def tokenizer(path: Path) -> None:
    """Write a tokenizer of whole words."""
    made = Tokenizer(models.WordLevel({word: at for at, word in enumerate(VOCABULARY)}, unk_token="[UNK]"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    made.save(str(path))


def picture_weights(path: Path) -> MobileNetV2:
    """Write random weights of MobileNetV2 as torchvision distributes them, with a classifier that is not used."""
    torch.manual_seed(7)
    network = MobileNetV2().eval()
    torch.save({**network.state_dict(), "classifier.1.weight": torch.zeros(10, 1280)}, path)
    return network


def text_graph(folder: Path) -> Path:
    """Write a folder with a graph that looks up a vector for each token."""
    folder.mkdir()
    table = numpy_helper.from_array(np.random.default_rng(7).normal(size=(64, 8)).astype(np.float32), "table")
    look_up = helper.make_node("Gather", ["table", "input_ids"], ["vectors"])
    graph(folder / "model.onnx", look_up, [table], ("input_ids", TensorProto.INT64, 2), 3)
    tokenizer(folder / "tokenizer.json")
    (folder / "LICENSE").write_text("Apache License")
    return folder


def picture_graph(folder: Path) -> Path:
    """Write a folder with a graph of one convolution."""
    folder.mkdir()
    kernel = numpy_helper.from_array(np.random.default_rng(7).normal(size=(6, 3, 8, 8)).astype(np.float32), "kernel")
    convolve = helper.make_node("Conv", ["pictures", "kernel"], ["vectors"], strides=[8, 8])
    graph(folder / "model.onnx", convolve, [kernel], ("pictures", TensorProto.FLOAT, 4), 4)
    (folder / "picture.json").write_text(json.dumps({"size": 16, "resize": 16}))
    return folder


def graph(path: Path, node: Any, arrays: list[Any], given: tuple[str, int, int], axes: int) -> None:
    """Write a graph of one node, whose input and output have axes of any length."""
    name, kind, rank = given
    inputs = [helper.make_tensor_value_info(name, kind, [None] * rank)]
    outputs = [helper.make_tensor_value_info("vectors", TensorProto.FLOAT, [None] * axes)]
    made = helper.make_graph([node], "tiny", inputs, outputs, arrays)
    path.write_bytes(
        helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10).SerializeToString()
    )


def picture(size: tuple[int, int] = (60, 40), mode: str = "RGB", form: str = "JPEG", **options: Any) -> bytes:
    """A picture of one color."""
    color: Any = {"RGB": (200, 30, 30), "RGBA": (200, 30, 30, 128), "CMYK": (0, 200, 200, 30)}.get(mode, 100)
    file = io.BytesIO()
    Image.new(mode, size, color).save(file, form, **options)
    return file.getvalue()
