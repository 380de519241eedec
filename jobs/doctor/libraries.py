"""Check the interpreter and the installed libraries.

Each check imports its library by name, since the import itself may fail.
"""

import importlib
import platform
import sys
from typing import Any

from jobs.doctor.answer import NOT_INSTALLED, Answer, to_train
from recsys.training.libraries import MEND, RIGHT, TRIO, compare, compare_builds, cuda_of_torch, is_base, public

PYTHONS = ("3.11", "3.12", "3.13")
MEND_BASE = "`recsys install-lock serve`, then `pip install --no-deps -r requirements-serve.lock`"
_RIGHT_TRIO = f"{RIGHT}: {MEND}"


def check_python(_config: str) -> Answer:
    """Whether the version of Python is right."""
    found = platform.python_version()
    return ".".join(map(str, sys.version_info[:2])) in PYTHONS, found, ", ".join(PYTHONS)


def check_versions(_config: str) -> Answer:
    """Whether the installed versions of torch, torchrec and fbgemm_gpu belong together."""
    return (True, NOT_INSTALLED, f"to train: {MEND}") if is_base() else compare()


@to_train
def check_torch(_config: str) -> Answer:
    """Whether torch loads and multiplies."""
    cuda = cuda_of_torch()
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


@to_train
def check_fbgemm(_config: str) -> Answer:
    """Whether fbgemm_gpu loads into this torch."""
    torch = importlib.import_module("torch")
    try:
        fbgemm = importlib.import_module("fbgemm_gpu")
        sums = torch.ops.fbgemm.asynchronous_complete_cumsum(torch.tensor([2, 3])).tolist()
    except Exception as error:
        return False, f"does not load into torch {torch.__version__}: {error}", _RIGHT_TRIO
    return _loaded("fbgemm_gpu", fbgemm, sums == [0, 2, 5])


@to_train
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
        return False, f"does not load: {error}", _RIGHT_TRIO
    return _loaded("torchrec", torchrec, right)


@to_train
def check_builds(_config: str) -> Answer:
    """Whether torch and fbgemm_gpu are both built for the CPU, or both for CUDA."""
    return compare_builds()


@to_train
def check_optuna(_config: str) -> Answer:
    """Whether optuna, which `recsys tune` searches with, loads."""
    try:
        optuna = importlib.import_module("optuna")
        works = not optuna.distributions.FloatDistribution(0, 1).single()
    except Exception as error:
        return False, f"does not load: {error}", MEND
    return works, optuna.__version__, "to load"


def check_faiss(_config: str) -> Answer:
    """Whether faiss loads and finds the nearest vector."""
    try:
        faiss, numpy = importlib.import_module("faiss"), importlib.import_module("numpy")
        index = faiss.IndexFlatIP(2)
        index.add(numpy.eye(2, dtype="float32"))
        _, rows = index.search(numpy.array([[0.1, 0.9]], "float32"), 1)
    except Exception as error:
        return False, f"does not load: {error}", MEND_BASE
    return bool(rows[0, 0] == 1), faiss.__version__, "to load and search"


def check_onnxruntime(_config: str) -> Answer:
    """Whether onnxruntime loads and can run on the CPU."""
    try:
        onnxruntime = importlib.import_module("onnxruntime")
        able = "CPUExecutionProvider" in onnxruntime.get_available_providers()
    except Exception as error:
        return False, f"does not load: {error}", MEND_BASE
    return able, onnxruntime.__version__, "to load and offer the CPU"


def _loaded(name: str, module: Any, works: bool) -> Answer:
    found = str(module.__version__)
    ok = works and public(found) == TRIO[name]
    return ok, found if works else f"{found}, computes wrongly", TRIO[name] if ok else _RIGHT_TRIO
