"""Running an OpenVINO model (.xml beside its .bin) on a CPU."""

import io
import logging
from typing import Any

import openvino

from fusionseg.deploy.compiled import CompiledCache
from fusionseg.deploy.exported import DESCRIPTIONS, OUTPUTS, Exported
from fusionseg.deploy.exported_session import Hardware, Run, unusable

logger = logging.getLogger(__name__)


def open_openvino(exported: Exported, hardware: Hardware, *, bf16: bool = False) -> Run:
    """What runs the graph of an export.

    Args:
        exported: the model.
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
        compiled = _compile(core, exported, config)
    except RuntimeError as error:
        raise unusable(exported.model, error) from error
    request = compiled.create_infer_request()
    outputs = [compiled.output(name) for name in OUTPUTS]

    def run(feeds: Any) -> Any:
        answer = request.infer(feeds, share_inputs=True)
        return [answer[output] for output in outputs]

    return run


def _compile(core: Any, exported: Exported, config: dict[str, Any]) -> Any:
    """The compiled graph, from the user's cache if this processor compiled the same before.

    Raises:
        RuntimeError: not a whole OpenVINO model.
    """
    processor = core.get_property("CPU", "FULL_DEVICE_NAME"), core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    facts = {"openvino": openvino.__version__, "processor": processor, "config": sorted(config.items())}
    # not of what describes the network: the parity report is written after the first compilation
    files = sorted((name, digest) for name, digest in exported.manifest.sha256.items() if name not in DESCRIPTIONS)
    cache = CompiledCache("openvino", facts | {"files": files})
    blob = cache.read()
    if blob is not None:
        try:
            return core.import_model(io.BytesIO(blob), "CPU", config)
        except RuntimeError:  # of a build that calls itself the same
            logger.debug("%s: cannot be used, the model is compiled anew", cache.path)
    compiled = core.compile_model(str(exported.model), "CPU", config)
    cache.write(compiled.export_model().getvalue())
    return compiled
