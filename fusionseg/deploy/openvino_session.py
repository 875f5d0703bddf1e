"""Running an OpenVINO model (.xml beside its .bin) on a CPU."""

from pathlib import Path
from typing import Any

import openvino

from fusionseg.deploy.exported import OUTPUTS
from fusionseg.deploy.exported_session import Hardware, Run, unusable


def open_openvino(path: Path, hardware: Hardware) -> Run:
    """What runs the graph of a file.

    Raises:
        ValueError: not a whole OpenVINO model, or a device other than the CPU.
    """
    if hardware.device != "cpu":
        raise ValueError(
            f"device {hardware.device!r} cannot be used here: openvino runs on cpu alone; leave device out"
        )
    # on processors with bfloat16 units it would round to it unasked
    config: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    if hardware.threads is not None:
        config["INFERENCE_NUM_THREADS"] = hardware.threads
    try:
        compiled = openvino.Core().compile_model(str(path), "CPU", config)
    except RuntimeError as error:
        raise unusable(path, error) from error
    request = compiled.create_infer_request()
    outputs = [compiled.output(name) for name in OUTPUTS]

    def run(feeds: Any) -> Any:
        answer = request.infer(feeds, share_inputs=True)
        return [answer[output] for output in outputs]

    return run
