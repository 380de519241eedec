"""Reading the weights of a network from files: arrays only, nothing in a file is ever run.

Safetensors hold arrays and no code. A torch file may be a pickle with code in it: torch reads arrays alone from it, and
refuses the rest.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from recsys.errors import ConfigError

_COUNTER = "num_batches_tracked"  # of training; older files lack it
_MOST_NAMED = 3  # wrong arrays in a message


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read the named arrays of a .safetensors or torch file. Raises ConfigError when it holds anything else."""
    try:
        if path.suffix == ".safetensors":
            return dict(safetensors.torch.load_file(path))
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (safetensors.SafetensorError, OSError) as error:
        raise ConfigError(f"{path} cannot be read: {error}; expected the weights of a network") from error
    except Exception as error:  # of a pickle whatever torch finds first
        raise ConfigError(
            f"{path} holds more than weights, or is damaged; nothing of it was run: {_line(error)}"
        ) from None
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise ConfigError(f"{path} holds no named arrays; expected the state dict of a network")
    return found


def write_weights(state: Mapping[str, Tensor], path: Path) -> None:
    """Write named arrays as safetensors."""
    safetensors.torch.save_file({name: value.contiguous() for name, value in state.items()}, path)


def fill(module: nn.Module, state: Mapping[str, Tensor], what: str) -> None:
    """Give a module its weights; what it does not have is left out.

    Raises ConfigError, which names the arrays that are missing or of another shape. what: names the file.
    """
    own = {name: value for name, value in module.state_dict().items() if not name.endswith(_COUNTER)}
    wrong = [
        f"{name} is {tuple(state[name].shape)}, expected {tuple(value.shape)}"
        for name, value in own.items()
        if name in state and state[name].shape != value.shape
    ]
    wrong += [f"{name} is missing" for name in own if name not in state]
    if wrong:
        more = f" and {len(wrong) - _MOST_NAMED} more" if len(wrong) > _MOST_NAMED else ""
        raise ConfigError(f"{what} does not fit its network: {'; '.join(wrong[:_MOST_NAMED])}{more}")
    module.load_state_dict({name: state[name].float() for name in own}, strict=False)
    if not all(bool(torch.isfinite(value).all()) for value in module.state_dict().values()):
        raise ConfigError(f"{what} holds values that are no numbers")


def sha256_of(path: Path) -> str:
    """The sha256 of a file. Raises ConfigError when it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error


def _line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:200]
