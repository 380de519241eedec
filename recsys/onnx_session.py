"""The one door of onnxruntime: graphs that run on the CPU, on the calling thread."""

from typing import Any

import onnxruntime


def open_session(graph: bytes | str, *, threads: int = 1) -> Any:
    """Open a graph, given as bytes or as the path of a file.

    A session may run on several threads at once. Raises the errors of onnxruntime for what is no graph.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.enable_cpu_mem_arena = False  # it would keep the memory of the largest call
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
