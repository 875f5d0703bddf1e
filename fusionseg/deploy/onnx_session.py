"""Running an ONNX file with ONNX Runtime, on a CPU, with CUDA or with TensorRT."""

from pathlib import Path
from typing import Any

import onnxruntime

from fusionseg.deploy.compiled import cache_folder
from fusionseg.deploy.exported import OUTPUTS
from fusionseg.deploy.exported_session import Hardware, Run, unusable

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}


def open_onnx(path: Path, hardware: Hardware, *, tensorrt: bool = False) -> Run:
    """What runs the graph of a file.

    Raises:
        ValueError: not a whole ONNX model, external data outside its folder, or a GPU that cannot be used.
    """
    options = onnxruntime.SessionOptions()
    # warnings about single nodes tell a user nothing
    options.log_severity_level = 3
    if hardware.threads is not None:
        options.intra_op_num_threads = hardware.threads
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=_providers(hardware, tensorrt))
    except ValueError:
        raise
    except Exception as error:  # its exceptions share no other base
        raise unusable(path, error) from error

    def run(feeds: Any) -> Any:
        return session.run(OUTPUTS, feeds)

    return run


def _providers(hardware: Hardware, tensorrt: bool) -> list[Any]:
    """The providers to try in order; a CPU alone where no GPU was asked for."""
    if hardware.device == "cpu" and not tensorrt:
        return [PROVIDERS["cpu"]]
    wanted = "tensorrt" if tensorrt else "cuda"
    if hardware.device == "cpu":
        raise ValueError("runtime tensorrt needs a GPU; add device='cuda'")
    available = onnxruntime.get_available_providers()
    if PROVIDERS[wanted] not in available:
        raise ValueError(
            f"device {hardware.device!r} cannot be used here (this onnxruntime has {', '.join(available)}); "
            "pip install onnxruntime-gpu in place of onnxruntime, or choose device cpu"
        )
    gpu = {"device_id": hardware.index}
    chain: list[Any] = [(PROVIDERS["cuda"], gpu), PROVIDERS["cpu"]]
    if tensorrt:
        cached = {"trt_engine_cache_enable": True, "trt_engine_cache_path": str(cache_folder() / "tensorrt")}
        chain.insert(0, (PROVIDERS["tensorrt"], gpu | {"trt_fp16_enable": True} | cached))
    return chain
