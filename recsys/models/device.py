"""Picks the device that torch computes on."""

import torch

from recsys.errors import ConfigError


def pick_device(name: str) -> torch.device:
    """The device of that name; for "auto" the GPU when there is one, else the CPU.

    Raises ConfigError when "cuda" is asked for and there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError('[training] device is "cuda", but torch finds no GPU here; allowed are "cpu" and "auto"')
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(name)
