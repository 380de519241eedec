"""Picks the device that torch computes on, and in which precision it multiplies."""

import torch

from recsys.errors import ConfigError


def pick_device(name: str) -> torch.device:
    """Return the device of that name; for "auto" the GPU when there is one, else the CPU.

    Raises ConfigError when "cuda" is asked for and there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError('[training] device is "cuda", but torch finds no GPU here; allowed are "cpu" and "auto"')
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(name)


def pick_precision(device: torch.device) -> torch.dtype:
    """Return bfloat16 where it is faster than float32: on GPUs, and on CPUs with instructions for it."""
    able = device.type == "cuda" or torch.cpu.get_capabilities().get("avx512_bf16", False)
    return torch.bfloat16 if able else torch.float32


def precision_named(name: str) -> torch.dtype:
    """Return the precision with this `str`: workers compute in that of the job, whatever their machines are."""
    precision: torch.dtype = getattr(torch, name.removeprefix("torch."))
    return precision
