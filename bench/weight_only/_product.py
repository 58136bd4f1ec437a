"""What a user gets: `addax.optimize` with so many bits, judged as the model that it makes."""

import addax
from addax.backends.to_ort import to_ort
from bench.models import runtime_predict
from bench.weight_only._network import Judged, Network


def optimized(network: Network, bits: float) -> tuple[Judged, int]:
    """How the optimized model does in ONNX Runtime, and the bytes of its layers."""
    entry = network.task.entry
    fast = addax.optimize(
        network.model,
        entry.example_inputs(),
        dynamic_shapes=entry.dynamic_shapes,
        allow=(f"shift-add{{bits={bits},skip={network.task.keep!r}}}",),
        calibration=network.calibration,
        progress=False,
    )
    judged = network.judge(runtime_predict(to_ort(fast.model)))
    return judged, sum(layer.bytes_after for layer in fast.report.layers)
