"""What the exporter leaves, made our own: origins, names of outputs, weights."""

import inspect
import os
import re
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch.utils import _pytree as pytree

from addax.frontend._paths import leaves_with_paths
from addax.frontend.structure import note_structure
from addax.ir.model import scopes
from addax.ir.origin import set_origin

_TORCH = os.path.dirname(torch.__file__)
_FRAME = re.compile(r'File "([^"<]+)", line (\d+), in ')

# From a node of the exported program to the name of what it came from.
FindName = Callable[[torch.fx.Node], str | None]


def adopt(
    program: torch.onnx.ONNXProgram,
    find_name: FindName | None = None,
    signature: inspect.Signature | None = None,
) -> ir.Model:
    """The model of an exporter's program, independent of it and of the module.

    `find_name` may know a better name for the operator of a node than torch's; `signature` is
    that of the module's `forward`.
    """
    model, exported = program.model, program.exported_program
    names = {}
    if find_name is not None and exported is not None:
        names = {node.name: find_name(node) for node in exported.graph.nodes}
    _set_origins(model, names)
    _copy_weights(model)
    _name_apart(model)
    if exported is not None:
        _name_outputs(model, list(_output_names(exported)))
        note_structure(model, exported, signature)
    return model


def _set_origins(model: ir.Model, names: Mapping[str, str | None]) -> None:
    """Turn the exporter's notes into origins, and drop them: they are long, and tell paths."""
    _drop_notes(model.metadata_props)
    for scope in scopes(model):
        _drop_notes(scope.metadata_props)
        for value in (*scope.inputs, *getattr(scope, "initializers", {}).values()):
            _drop_notes(value.metadata_props)
        for node in scope:
            namespace = node.metadata_props.get("namespace", "")
            if namespace:
                trace = node.metadata_props.get("pkg.torch.onnx.stack_trace", "")
                module, name, target = _parse(namespace)
                set_origin(node, module, names.get(name) or target, _source(trace))
            _drop_notes(node.metadata_props)
            for value in node.outputs:
                _drop_notes(value.metadata_props)


def _drop_notes(notes: MutableMapping[str, str]) -> None:
    for key in [key for key in notes if key == "namespace" or key.startswith("pkg.torch.")]:
        del notes[key]


def _parse(namespace: str) -> tuple[str, str, str]:
    """Module path, node name and operator in the exporter's notation of a place.

    `: vit.ViT/blocks.0: vit.Block/linear_3: aten.linear.default` -> blocks.0, linear_3, linear
    """
    *outer, last = namespace.split("/")
    name, _, target = last.partition(": ")
    module = outer[-1].partition(": ")[0] if outer else ""
    parts = target.split(".")
    return re.sub(r"@\d+", "", module), name, parts[1] if len(parts) > 2 else target


def _source(trace: str) -> str:
    """File and line of the innermost frame outside torch; without the folder."""
    for path, line in reversed(_FRAME.findall(trace)):
        if not path.startswith(_TORCH):
            return f"{os.path.basename(path)}:{line}"
    return ""


def _copy_weights(model: ir.Model) -> None:
    """Copy the tensors of the module: it may be trained on. Tied ones stay tied."""
    known: dict[Any, np.ndarray] = {}
    for scope in scopes(model):
        for value in getattr(scope, "initializers", {}).values():
            value.const_value = _copied(value.const_value, known)
        for node in scope:
            for attr in tuple(node.attributes.values()):
                if attr.type == ir.AttributeType.TENSOR and not attr.is_ref():
                    tensor = _copied(attr.value, known)
                    node.attributes[attr.name] = ir.AttrTensor(attr.name, tensor)


def _copied(tensor: ir.TensorProtocol, known: dict[Any, np.ndarray]) -> ir.TensorProtocol:
    raw = tensor.raw
    if not isinstance(raw, torch.Tensor):
        return tensor
    identity = (raw.data_ptr(), raw.dtype, tuple(raw.shape), raw.stride())
    if identity not in known:
        array = np.array(tensor.numpy(), order="C")
        known[identity] = array
    dims = ir.Shape(tensor.shape.numpy())
    return ir.Tensor(known[identity], tensor.dtype, shape=dims, name=tensor.name)


def _name_apart(model: ir.Model) -> None:
    """Rename what is computed and called like a weight: a parameter `sign` beside torch.sign."""
    taken = {v.name for scope in scopes(model) for v in getattr(scope, "initializers", {}).values()}
    inner = [v for scope in scopes(model) for node in scope for v in node.outputs]
    clashing = [v for v in inner if v.name in taken]
    taken |= {v.name for v in inner} | {v.name for scope in scopes(model) for v in scope.inputs}
    for value in clashing:
        value.name = _fresh(str(value.name), taken)
        taken.add(value.name)


def _output_names(program: torch.export.ExportedProgram) -> Iterator[str]:
    """A name for each output that is a value: `logits`, `aux_0`, `output_1`, or `output`."""
    spec = program.call_spec.out_spec
    specs = [s for s in program.graph_signature.output_specs if s.kind.name == "USER_OUTPUT"]
    if spec is None or spec.num_leaves != len(specs):
        return
    tree = pytree.tree_unflatten(specs, spec)
    for path, leaf in leaves_with_paths(tree):
        if not isinstance(leaf.arg, torch.export.graph_signature.ConstantArgument):
            keys = [re.sub(r"\W+", "_", str(_key(entry))).strip("_") for entry in path]
            if not keys or not keys[0] or keys[0].isdigit():
                keys.insert(0, "output")
            yield "_".join(keys)


def _key(entry: Any) -> Any:
    """What one step of a path into a tree says: a key, an attribute's name, or an index."""
    for field in ("key", "name", "idx"):
        if hasattr(entry, field):
            return getattr(entry, field)
    return entry


def _name_outputs(model: ir.Model, names: list[str]) -> None:
    """Give the outputs these names; an output that is also an input or another output is copied."""
    graph = model.graph
    if len(names) != len(graph.outputs):
        return
    taken = {value.name for value in (*graph.inputs, *graph.initializers.values())}
    inner = {v.name: v for scope in scopes(model) for node in scope for v in node.outputs}
    done: set[ir.Value] = set()
    for index, (value, wish) in enumerate(zip(tuple(graph.outputs), names, strict=True)):
        name = _fresh(wish, taken)
        taken.add(name)
        if value.producer() is None or value in done:
            node = ir.Node("", "Identity", [value], num_outputs=1)
            node.outputs[0].type, node.outputs[0].shape = value.type, value.shape
            graph.append(node)
            graph.outputs[index] = value = node.outputs[0]
        holder = inner.get(name)
        if holder is not None and holder is not value:
            holder.name = _fresh(name, taken | inner.keys())
            inner[holder.name] = holder
        value.name = name
        inner[name] = value
        done.add(value)


def _fresh(name: str, taken: Any) -> str:
    count = 0
    fresh = name
    while fresh in taken:
        count += 1
        fresh = f"{name}_{count}"
    return fresh
