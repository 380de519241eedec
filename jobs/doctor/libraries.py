"""Check the interpreter and the installed libraries.

Each check imports its library by name, since the import itself may fail.
"""

import importlib
import importlib.util
import platform
import re
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from jobs.doctor.answer import Answer

PYTHON = (3, 11)
# These three are built for each other; a test compares them with the lock files.
TRIO = {"torch": "2.13.0", "torchrec": "1.8.0", "fbgemm_gpu": "1.8.0"}
FBGEMM = ("fbgemm-gpu-cpu", "fbgemm-gpu")  # two distributions of the one package fbgemm_gpu: for the CPU, for CUDA
MEND = "pip install --no-deps -r requirements-cpu.lock (with a GPU: requirements-cuda.lock)"


def check_python(_config: str) -> Answer:
    """Whether the version of Python is right."""
    return sys.version_info[:2] == PYTHON, platform.python_version(), f"{PYTHON[0]}.{PYTHON[1]}"


def check_versions(_config: str) -> Answer:
    """Whether the installed versions of torch, torchrec and fbgemm_gpu belong together."""
    installed = {name: _version(name) for name in ("torch", "torchrec", *FBGEMM)}
    found = ", ".join(f"{name} {number}" for name, number in installed.items() if number)
    right = ", ".join(f"{name} {number}" for name, number in TRIO.items())
    if installed[FBGEMM[0]] and installed[FBGEMM[1]]:
        return False, found, f"one of {' and '.join(FBGEMM)}, not both: uninstall both, then {MEND}"
    ours = {**installed, "fbgemm_gpu": installed[FBGEMM[0]] or installed[FBGEMM[1]]}
    wrong = [name for name, number in TRIO.items() if _public(ours[name]) != number]
    if wrong:
        return False, found or "none of them", f"{right}; wrong: {', '.join(wrong)}; {MEND}"
    return True, found, right


def check_torch(_config: str) -> Answer:
    """Whether torch loads and multiplies."""
    cuda = _cuda_of_torch()
    try:
        torch = importlib.import_module("torch")
        product = float((torch.ones(2, 3) @ torch.ones(3, 1)).sum())
    except Exception as error:
        if cuda:
            mend = (
                f"the build for CUDA {cuda} needs NVIDIA's libraries: install requirements-cuda.lock, or the CPU build"
            )
            return False, f"does not load: {error}", f"{mend} from the CPU wheel index named on PyTorch's install page"
        return False, f"does not load: {error}", MEND
    return _loaded("torch", torch, product == 6)


def check_fbgemm(_config: str) -> Answer:
    """Whether fbgemm_gpu loads into this torch."""
    torch = importlib.import_module("torch")
    try:
        fbgemm = importlib.import_module("fbgemm_gpu")
        sums = torch.ops.fbgemm.asynchronous_complete_cumsum(torch.tensor([2, 3])).tolist()
    except Exception as error:
        return False, f"does not load into torch {torch.__version__}: {error}", _right_pair()
    return _loaded("fbgemm_gpu", fbgemm, sums == [0, 2, 5])


def check_torchrec(_config: str) -> Answer:
    """Whether torchrec loads and sums embeddings."""
    try:
        torch, torchrec = importlib.import_module("torch"), importlib.import_module("torchrec")
        table = torchrec.EmbeddingBagConfig(name="t", embedding_dim=4, num_embeddings=3, feature_names=["f"])
        bags = torchrec.EmbeddingBagCollection(tables=[table])
        rows = torchrec.KeyedJaggedTensor.from_lengths_sync(
            keys=["f"], values=torch.tensor([0, 2, 1]), lengths=torch.tensor([2, 1])
        )
        weights = bags.embedding_bags["t"].weight
        right = torch.allclose(bags(rows)["f"], torch.stack([weights[0] + weights[2], weights[1]]))
    except Exception as error:
        return False, f"does not load: {error}", _right_pair()
    return _loaded("torchrec", torchrec, right)


def check_builds(_config: str) -> Answer:
    """Whether torch and fbgemm_gpu are both built for the CPU, or both for CUDA."""
    cuda, fbgemm = _cuda_of_torch(), [name for name in FBGEMM if _version(name)]
    found = f"torch for {f'CUDA {cuda}' if cuda else 'CPU'}, {' and '.join(fbgemm) or 'no fbgemm_gpu'}"
    ok = fbgemm == [FBGEMM[1] if cuda else FBGEMM[0]]
    return (
        ok,
        found,
        "torch for CPU with fbgemm-gpu-cpu, or torch for CUDA with fbgemm-gpu" + ("" if ok else f": {MEND}"),
    )


def check_faiss(_config: str) -> Answer:
    """Whether faiss loads and finds the nearest vector."""
    try:
        faiss, numpy = importlib.import_module("faiss"), importlib.import_module("numpy")
        index = faiss.IndexFlatIP(2)
        index.add(numpy.eye(2, dtype="float32"))
        _, rows = index.search(numpy.array([[0.1, 0.9]], "float32"), 1)
    except Exception as error:
        return False, f"does not load: {error}", MEND
    return bool(rows[0, 0] == 1), faiss.__version__, "to load and search"


def check_onnxruntime(_config: str) -> Answer:
    """Whether onnxruntime loads and can run on the CPU."""
    try:
        onnxruntime = importlib.import_module("onnxruntime")
        able = "CPUExecutionProvider" in onnxruntime.get_available_providers()
    except Exception as error:
        return False, f"does not load: {error}", MEND
    return able, onnxruntime.__version__, "to load and offer the CPU"


def _loaded(name: str, module: Any, works: bool) -> Answer:
    found = str(module.__version__)
    ok = works and _public(found) == TRIO[name]
    return ok, found if works else f"{found}, computes wrongly", TRIO[name] if ok else _right_pair()


def _right_pair() -> str:
    return f"{', '.join(f'{name} {number}' for name, number in TRIO.items())}: {MEND}"


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _public(number: str | None) -> str | None:
    return number.partition("+")[0] if number else None


def _cuda_of_torch() -> str | None:
    """The CUDA version that torch was built for, read from its files because torch may not load."""
    spec = importlib.util.find_spec("torch")
    for place in (spec and spec.submodule_search_locations) or ():
        file = Path(place) / "version.py"
        if file.exists() and (found := re.search(r"^cuda\b[^=]*= '([\d.]+)'", file.read_text(), re.MULTILINE)):
            return found[1]
    return None
