"""Picks the device that torch computes on."""

import torch


def pick_device(name: str) -> torch.device:
    """The device of that name; for "auto" the GPU when there is one, else the CPU.

    Raises ValueError when "cuda" is asked for and there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError('device "cuda" was asked for, but torch finds no GPU here; allowed are "cpu" and "auto"')
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(name)
