"""What a user gets: `addax.optimize` with so many bits, judged as the model that it makes."""

import onnx_ir as ir

import addax
from addax.backends.to_ort import to_ort
from addax.frontend import to_ir
from bench.models import runtime_predict
from bench.weight_only._network import Judged, Network


def head_of(model: ir.Model) -> tuple[str, ...]:
    """The weights of the product that gives the output: it stays, as in the rivals."""
    made = (model.graph.outputs[0].producer(),)
    products = [node for node in made if node is not None and node.op_type == "MatMul"]
    return tuple(str(node.inputs[1].name) for node in products if node.inputs[1] is not None)


def optimized(network: Network, bits: float) -> tuple[Judged, int]:
    """How the optimized model does in ONNX Runtime, and the bytes of its layers."""
    entry = network.task.entry
    source = to_ir(network.model, entry.example_inputs(), dynamic_shapes=entry.dynamic_shapes)
    exact = addax.optimize(source, progress=False)
    keep = (*network.task.keep, *head_of(exact.model))
    fast = addax.optimize(
        source,
        allow=(f"shift-add{{bits={bits},skip={keep!r}}}",),
        calibration=network.calibration,
        progress=False,
    )
    judged = network.judge(runtime_predict(to_ort(fast.model)))
    return judged, sum(layer.bytes_after for layer in fast.report.layers)
