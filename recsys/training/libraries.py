"""The libraries that only training needs: whether they are there, in versions that belong together.

The metadata of what is installed says so. Nothing is imported: a wrong pair may end the process that imports it.
"""

import re
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from recsys.errors import RecsysError

# These three are built for each other; a test compares them with the lock files.
TRIO = {"torch": "2.13.0", "torchrec": "1.8.0", "fbgemm_gpu": "1.8.0"}
FBGEMM = ("fbgemm-gpu-cpu", "fbgemm-gpu")  # two distributions of the one package fbgemm_gpu: for the CPU, for CUDA
OTHERS = ("optuna", "onnx", "onnxscript")
RIGHT = ", ".join(f"{name} {number}" for name, number in TRIO.items())
MEND = (
    "`recsys install-lock cpu`, then `pip install --no-deps -r requirements-cpu.lock` "
    "(with a GPU: cuda, requirements-cuda.lock)"
)
# PyPI has torch for a GPU only: installing the lock for a CPU once more would bring the same build.
CPU_INDEX = "for a CPU set PIP_EXTRA_INDEX_URL to the CPU wheel index named on PyTorch's install page"


def version_of(name: str) -> str | None:
    """The installed version of a distribution, or None."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def public(number: str | None) -> str | None:
    """A version without what names the build: "2.13.0+cpu" -> "2.13.0"."""
    return number.partition("+")[0] if number else None


def is_base() -> bool:
    """Whether this installation answers and reads only: it has none of the three."""
    return not any(map(version_of, ("torch", "torchrec", *FBGEMM)))


def compare() -> tuple[bool, str, str]:
    """Whether the three belong together, what was found, and what is needed or how to mend it."""
    installed = {name: version_of(name) for name in ("torch", "torchrec", *FBGEMM)}
    found = (
        ", ".join(f"{name} {number}" for name, number in installed.items() if number) or f"none of {', '.join(TRIO)}"
    )
    if all(installed[name] for name in FBGEMM):
        return False, found, f"one of {' and '.join(FBGEMM)}, not both: `pip uninstall {' '.join(FBGEMM)}`, then {MEND}"
    ours = {**installed, "fbgemm_gpu": installed[FBGEMM[0]] or installed[FBGEMM[1]]}
    wrong = [name for name, number in TRIO.items() if public(ours[name]) != number]
    if not wrong:
        return True, found, RIGHT
    # The lock for a CPU would put the other build beside it.
    mend = f"`pip uninstall {FBGEMM[1]}`, {MEND}" if installed[FBGEMM[1]] else MEND
    return False, found, f"{RIGHT}; wrong: {', '.join(wrong)}; {mend}"


def compare_builds() -> tuple[bool, str, str]:
    """As `compare`, whether torch and fbgemm_gpu are both built for the CPU, or both for CUDA."""
    cuda, fbgemm = cuda_of_torch(), [name for name in FBGEMM if version_of(name)]
    found = f"torch for {f'CUDA {cuda}' if cuda else 'CPU'}, {' and '.join(fbgemm) or 'no fbgemm_gpu'}"
    ok = fbgemm == [FBGEMM[1] if cuda else FBGEMM[0]]
    needed = "torch for CPU with fbgemm-gpu-cpu, or torch for CUDA with fbgemm-gpu"
    mend = f"`pip uninstall torch {' '.join(fbgemm)}`, {CPU_INDEX}, then {MEND}"
    return ok, found, needed if ok else f"{needed}: {mend}"


def cuda_of_torch() -> str | None:
    """The CUDA version that torch was built for, read from its files because torch may not load."""
    spec = find_spec("torch")
    for place in (spec and spec.submodule_search_locations) or ():
        file = Path(place) / "version.py"
        if file.exists() and (found := re.search(r"^cuda\b[^=]*= '([\d.]+)'", file.read_text(), re.MULTILINE)):
            return found[1]
    return None


def check_installed() -> None:
    """Check that training has its libraries. Raises RecsysError that says how to install them."""
    for ok, found, needed in (compare(), compare_builds()):
        if not ok:
            raise RecsysError(f"training needs other libraries than are installed: found {found}; needed: {needed}")
    if missing := [name for name in OTHERS if version_of(name) is None]:
        raise RecsysError(f"training needs {', '.join(missing)}, not installed: {MEND}")
