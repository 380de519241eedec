"""Export of a trained sequence tower as an ONNX graph, which serving runs without torch."""

import logging
import warnings
from dataclasses import replace
from functools import cache

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn
from torch.func import functional_call

from recsys.models.onnx_encoder import INPUTS, OUTPUT
from recsys.models.sequence.tower import SequenceTower, TowerShape

logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # notices of what it could export too, were it installed


def export(tower: SequenceTower) -> bytes:
    """Export the tower for inference; batch and length are free."""
    model = onnx.ModelProto()
    model.CopyFrom(_graph(replace(tower.shape, dropout=0.0)))
    inputs = [one for one in model.graph.input if one.name in INPUTS]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    model.graph.initializer.extend(
        numpy_helper.from_array(values.detach().cpu().numpy(), name) for name, values in tower.named_parameters()
    )
    found: bytes = model.SerializeToString()
    return found


@cache  # tracing takes seconds, and what is traced depends on the shape alone
def _graph(shape: TowerShape) -> onnx.ModelProto:
    """The graph of any tower of this shape, with the parameters as inputs under their names."""
    tower = SequenceTower(shape).eval()
    parameters = dict(tower.named_parameters())
    batch, length = 2, 3
    example = (
        torch.ones(batch, length, shape.dim),
        torch.zeros(batch, length, dtype=torch.int64),
        torch.ones(batch, length),
        torch.ones(batch, length, dtype=torch.bool),
        list(parameters.values()),
    )
    free, fixed = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}, [None] * len(parameters)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of torch about its own inside
        program = torch.onnx.export(
            _Open(tower).eval(),
            example,
            dynamo=True,
            input_names=[*INPUTS, *parameters],
            output_names=[OUTPUT],
            dynamic_shapes=(free, free, free, free, fixed),
            verbose=False,
        )
    assert program is not None  # only the older exporter returns nothing
    model = program.model_proto
    for node in model.graph.node:
        del node.metadata_props[:]  # stack traces with the paths of this machine
    return model


class _Open(nn.Module):
    """A tower whose parameters are arguments."""

    def __init__(self, tower: SequenceTower) -> None:
        super().__init__()
        self.tower = [tower]  # in a list, so that its parameters are not this module's
        self.names = [name for name, _ in tower.named_parameters()]

    def forward(self, vectors: Tensor, kinds: Tensor, ages_days: Tensor, mask: Tensor, values: list[Tensor]) -> Tensor:
        parameters = dict(zip(self.names, values, strict=True))
        found: Tensor = functional_call(self.tower[0], parameters, (vectors, kinds, ages_days, mask))
        return found
