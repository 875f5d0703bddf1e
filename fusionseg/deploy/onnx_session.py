"""Running an ONNX file with ONNX Runtime, on a CPU, with CUDA or with TensorRT."""

from pathlib import Path
from typing import Any

import onnxruntime

from fusionseg.deploy.compiled import cache_folder
from fusionseg.deploy.exported import OUTPUTS
from fusionseg.deploy.exported_session import Hardware, Run, unusable

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}


def session_options(threads: int | None) -> onnxruntime.SessionOptions:
    """How all sessions run: in so many threads (None: its choice) that go to sleep when a run ends.

    Threads that spin on after a run, as they do by default, take their cores from whatever comes next: projection, a
    second model. On two cores that doubled the time of a model that ran after another.
    """
    options = onnxruntime.SessionOptions()
    # warnings about single nodes tell a user nothing
    options.log_severity_level = 3
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if threads is not None:
        options.intra_op_num_threads = threads
    return options


def open_onnx(path: Path, hardware: Hardware, *, tensorrt: bool = False, fp16: bool = False) -> Run:
    """What runs the graph of a file.

    Args:
        path: of the .onnx.
        hardware: where to run it.
        tensorrt: let TensorRT run on the GPU what it can.
        fp16: let TensorRT compute in half precision.

    Raises:
        ValueError: not a whole ONNX model, external data outside its folder, or a GPU that cannot be used.
    """
    options = session_options(hardware.threads)
    providers = _providers(hardware, tensorrt, fp16)
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=providers)
    except ValueError:
        raise
    except Exception as error:  # its exceptions share no other base
        raise unusable(path, error) from error
    # where its libraries cannot be loaded it goes on without a GPU, and says so in its log alone
    used, wanted = session.get_providers(), _wanted(hardware, tensorrt)
    if wanted not in used:
        raise _without(wanted, hardware, f"{wanted} cannot start, only {', '.join(used)}")

    def run(feeds: Any) -> Any:
        return session.run(OUTPUTS, feeds)

    return run


def _wanted(hardware: Hardware, tensorrt: bool) -> str:
    """The provider that was asked for."""
    return PROVIDERS["tensorrt" if tensorrt else hardware.device.partition(":")[0]]


def _without(wanted: str, hardware: Hardware, reason: str) -> ValueError:
    """What to say where a GPU's provider is missing."""
    packages = "onnxruntime-gpu tensorrt" if wanted == PROVIDERS["tensorrt"] else "onnxruntime-gpu"
    return ValueError(
        f"device {hardware.device!r} cannot be used here ({reason}); pip install {packages} in place of onnxruntime, "
        "or choose device cpu"
    )


def _providers(hardware: Hardware, tensorrt: bool, fp16: bool) -> list[Any]:
    """The providers to try in order; a CPU alone where no GPU was asked for."""
    if hardware.device == "cpu" and not tensorrt:
        return [PROVIDERS["cpu"]]
    if hardware.device == "cpu":
        raise ValueError("runtime tensorrt needs a GPU; add device='cuda'")
    wanted, available = _wanted(hardware, tensorrt), onnxruntime.get_available_providers()
    if wanted not in available:
        raise _without(wanted, hardware, f"this onnxruntime has {', '.join(available)}")
    gpu = {"device_id": hardware.index}
    chain: list[Any] = [(PROVIDERS["cuda"], gpu), PROVIDERS["cpu"]]
    if tensorrt:
        cached = {"trt_engine_cache_enable": True, "trt_engine_cache_path": str(cache_folder() / "tensorrt")}
        chain.insert(0, (PROVIDERS["tensorrt"], gpu | {"trt_fp16_enable": fp16} | cached))
    return chain
