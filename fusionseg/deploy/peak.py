"""The machine's matrix-product peak: the most float32 multiply-accumulates a second that any library here reaches."""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

SIDE = 1024
SECONDS = 1.5
"""For each library; the best product counts, so that a busy moment of the machine does not."""

Product = Callable[[], object]


def measure_peak(threads: int) -> float:
    """Multiply-accumulates a second of the fastest product of two square matrices, of NumPy, torch and ONNX Runtime.

    Which of them knows the widest instructions of a processor differs: here two of three used half of its width.

    Args:
        threads: of ONNX Runtime; the others are told by the environment of the process.
    """
    matrix = np.random.default_rng(0).standard_normal((SIDE, SIDE), dtype=np.float32)
    return SIDE**3 / min(_shortest_s(product) for product in _products(matrix, threads))


def _products(matrix: NDArray[np.float32], threads: int) -> Iterator[Product]:
    """The product of the matrix with itself in every library that is installed."""
    yield lambda: np.matmul(matrix, matrix)
    with suppress(ImportError):
        import torch

        tensor = torch.from_numpy(matrix)
        yield lambda: torch.mm(tensor, tensor)
    with suppress(ImportError):
        yield _onnx_product(matrix, threads)


def _onnx_product(matrix: NDArray[np.float32], threads: int) -> Product:
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    from fusionseg.deploy.onnx_session import session_options

    shape = list(matrix.shape)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["a", "b"], ["c"])],
        "product",
        [helper.make_tensor_value_info("a", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("c", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(matrix, "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    options, providers = session_options(threads), ["CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=providers)
    return lambda: session.run(None, {"a": matrix})


def _shortest_s(product: Product) -> float:
    product()
    shortest_s, end = float("inf"), time.perf_counter() + SECONDS
    while (began := time.perf_counter()) < end:
        product()
        shortest_s = min(shortest_s, time.perf_counter() - began)
    return shortest_s
