"""From weights to a folder that encodes by onnxruntime alone: the graph, the tokenizer, and where both came from.

This needs what training needs; what it writes does not. The folder is complete or absent, and keeps the sha256 of the
weights and of each of its files.
"""

import logging
import shutil
import warnings
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import Tensor, nn

from recsys.content.bert import load_bert
from recsys.content.mobilenet import load_mobilenet
from recsys.content.picture_folder import PictureSettings, find_picture_weights, read_picture_settings
from recsys.content.text_folder import TOKENIZER, find_graph, find_license, read_text_settings
from recsys.content.weights import sha256_of
from recsys.data.arrays import Float32, Int8
from recsys.data.folder import write_folder
from recsys.errors import ConfigError

logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # notices of what it could export too, were it installed

TEXT_INPUTS = ("input_ids", "attention_mask")
GRAPH = "model.onnx"
_SMALLEST = 4096  # numbers of a matrix: smaller ones stay as they are
_PICTURE_NETWORKS: dict[str, Callable[[Path], nn.Module]] = {"mobilenet_v2": load_mobilenet}


def prepare_text(source: Path, parent: Path, name: str, *, int8: bool = False) -> Path:
    """Write the text network of a folder as parent/name and return that. int8: its weights in a quarter of the size.

    Raises ConfigError for what is missing, damaged or not supported; then nothing is written.
    """
    settings = read_text_settings(source)
    graph = find_graph(source)

    def fill(folder: Path) -> dict[str, Any]:
        if graph is None:
            network, weights = load_bert(source)
            ids = torch.ones(2, 3, dtype=torch.int64)
            _export(network, (ids, ids.clone()), folder / GRAPH, TEXT_INPUTS, free=(0, 1))
            if int8:
                _quantize(folder / GRAPH)
        else:
            weights = graph
            _copy_graph(graph, folder / GRAPH)
        shutil.copyfile(source / TOKENIZER, folder / TOKENIZER)
        return _facts("text", source, weights, asdict(settings), find_license(source))

    return write_folder(parent, name, fill)


def prepare_picture(source: Path, parent: Path, name: str) -> Path:
    """Write a picture network, of a file of weights or a folder, as parent/name. Raises as `prepare_text`."""
    settings = read_picture_settings(source)
    weights = find_picture_weights(source)

    def fill(folder: Path) -> dict[str, Any]:
        if weights.suffix == ".onnx":
            _copy_graph(weights, folder / GRAPH)
        else:
            network = _network(settings, weights)
            example = torch.zeros(2, 3, settings.size, settings.size)
            _export(network, (example,), folder / GRAPH, ("pictures",), free=(0,))
        return _facts("picture", source, weights, asdict(settings), settings.license)

    return write_folder(parent, name, fill)


def _network(settings: PictureSettings, weights: Path) -> nn.Module:
    if settings.architecture not in _PICTURE_NETWORKS:
        allowed = ", ".join(_PICTURE_NETWORKS)
        raise ConfigError(f"the architecture {settings.architecture!r} is unknown; allowed are {allowed}, or a graph")
    return _PICTURE_NETWORKS[settings.architecture](weights)


def _facts(kind: str, source: Path, weights: Path, settings: dict[str, Any], license_name: str) -> dict[str, Any]:
    said = {"kind": kind, "name": source.stem if source.is_file() else source.name, "settings": settings}
    return said | {"weights": {"file": weights.name, "sha256": sha256_of(weights), "license": license_name}}


def _export(
    network: nn.Module, example: tuple[Tensor, ...], path: Path, names: tuple[str, ...], free: tuple[int, ...]
) -> None:
    """Write a network as a graph. free: the axes of its inputs that may have any length."""
    axes = dict.fromkeys(free, torch.export.Dim.DYNAMIC)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch about its own inside
        program = torch.onnx.export(
            network,
            example,
            dynamo=True,
            input_names=list(names),
            output_names=["vectors"],
            dynamic_shapes=tuple(dict(axes) for _ in example),
            verbose=False,
        )
    assert program is not None  # only the older exporter returns nothing
    model = program.model_proto
    for node in model.graph.node:
        del node.metadata_props[:]  # stack traces with the paths of this machine
    path.write_bytes(model.SerializeToString())


def _quantize(path: Path) -> None:
    """Keep the matrices of a graph in 8 bits, a scale for each row or column; they are multiplied as before."""
    model = onnx.load(path)
    for one in [one for one in model.graph.initializer if len(one.dims) == 2 and np.prod(one.dims) >= _SMALLEST]:
        values, name = numpy_helper.to_array(one), str(one.name)
        axis, scales, small = min((_rounded(values, axis) for axis in (0, 1)), key=lambda found: _error(values, *found))
        model.graph.initializer.remove(one)
        names = [f"{name}.int8", f"{name}.scale"]
        model.graph.initializer.append(numpy_helper.from_array(small, names[0]))
        model.graph.initializer.append(numpy_helper.from_array(scales, names[1]))
        model.graph.node.insert(0, helper.make_node("DequantizeLinear", names, [one.name], axis=axis))
    path.write_bytes(model.SerializeToString())


def _rounded(values: Float32, axis: int) -> tuple[int, Float32, Int8]:
    """A matrix in whole numbers of -127 to 127, and what they are multiplied by, for each place of the axis."""
    scales = np.maximum(np.abs(values).max(axis=1 - axis), 1e-12) / 127
    return axis, scales.astype(np.float32), np.rint(values / np.expand_dims(scales, 1 - axis)).astype(np.int8)


def _error(values: Float32, axis: int, scales: Float32, small: Int8) -> float:
    return float(np.square(values - small * np.expand_dims(scales, 1 - axis)).sum())


def _copy_graph(source: Path, target: Path) -> None:
    """Copy a graph that is whole in its file. Raises ConfigError for one that names other files, or is none."""
    try:
        model = onnx.load(source, load_external_data=False)
    except Exception as error:  # of the parser's own kinds
        raise ConfigError(f"{source} is no ONNX graph: {str(error)[:200]}") from error
    if not model.graph.node:
        raise ConfigError(f"{source} is no ONNX graph: it computes nothing")
    if any(one.data_location == onnx.TensorProto.EXTERNAL for one in model.graph.initializer):
        raise ConfigError(f"{source} keeps its weights in other files; expected a graph in one file")
    shutil.copyfile(source, target)
