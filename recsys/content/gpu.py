"""A text network on torch: on the GPU in training, where there is one."""

from pathlib import Path

import numpy as np
import torch

from recsys.content.bert import Bert, load_bert
from recsys.content.text_folder import find_graph
from recsys.content.text_network import Run
from recsys.data.arrays import Float32, Int64


def gpu_runner(source: Path) -> Run | None:
    """The text network of a folder on the GPU; None where there is no GPU, or a graph in place of weights.

    Raises ConfigError as `load_bert`.
    """
    if not torch.cuda.is_available() or find_graph(source) is not None:
        return None
    return torch_runner(load_bert(source)[0], torch.device("cuda"))


def torch_runner(network: Bert, device: torch.device) -> Run:
    """The network on a device."""
    network = network.to(device)

    def run(ids: Int64, mask: Int64) -> Float32:
        with torch.inference_mode():
            found = network(torch.from_numpy(ids).to(device), torch.from_numpy(mask).to(device))
        return np.asarray(found.cpu().numpy(), np.float32)

    return run
