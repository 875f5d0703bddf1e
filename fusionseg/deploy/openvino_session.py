"""Running an OpenVINO model (.xml beside its .bin) on a CPU."""

from pathlib import Path
from typing import Any

import openvino

from fusionseg.deploy.exported import OUTPUTS
from fusionseg.deploy.exported_session import Hardware, Run, unusable


def open_openvino(path: Path, hardware: Hardware, *, bf16: bool = False) -> Run:
    """What runs the graph of a file.

    Args:
        path: of the .xml.
        hardware: the CPU and its threads.
        bf16: compute in bfloat16 what is float.

    Raises:
        ValueError: not a whole OpenVINO model, a device other than the CPU, or one without bfloat16 units.
    """
    if hardware.device != "cpu":
        raise ValueError(
            f"device {hardware.device!r} cannot be used here: openvino runs on cpu alone; leave device out"
        )
    core = openvino.Core()
    if bf16 and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise ValueError(
            "precision bf16 needs a processor with AVX512-BF16 or AMX, this one has neither; leave precision out"
        )
    # on processors with bfloat16 units it would round to it unasked
    config: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32"}
    if hardware.threads is not None:
        config["INFERENCE_NUM_THREADS"] = hardware.threads
    try:
        compiled = core.compile_model(str(path), "CPU", config)
    except RuntimeError as error:
        raise unusable(path, error) from error
    request = compiled.create_infer_request()
    outputs = [compiled.output(name) for name in OUTPUTS]

    def run(feeds: Any) -> Any:
        answer = request.infer(feeds, share_inputs=True)
        return [answer[output] for output in outputs]

    return run
