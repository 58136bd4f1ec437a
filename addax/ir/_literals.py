"""How names, types, tensors and attributes are written in ONNX's text syntax.

Small constants are spelt out, others are `float[64,64]` with the first 8 hexadecimal digits of
the SHA-256 of their bytes. Formats that ONNX text cannot spell as decimals (float16 and
narrower) are written as bit patterns, as its parser wants them.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from addax.ir._schemas import schema

_BYTE = 8  # bits
_CHUNK = 1 << 22

INLINE = 8  # the largest number of elements that is spelt out

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_DECIMAL = {
    ir.DataType.FLOAT: np.float32,
    ir.DataType.DOUBLE: np.float64,
}


def name_text(name: str) -> str:
    """A name, quoted where it is no identifier."""
    return name if _IDENTIFIER.fullmatch(name) else string_text(name)


def string_text(text: str) -> str:
    """A string literal."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def type_text(kind: ir.TypeProtocol | None, shape: Sequence[int | str | None] | None) -> str:
    """A type with its shape: `float[N,3]`, `float` for a scalar, `float[]` for any rank."""
    if kind is None:
        return ""
    if isinstance(kind, ir.SequenceType):
        return f"seq({type_text(kind.elem_type, shape)})"
    if isinstance(kind, ir.OptionalType):
        return f"optional({type_text(kind.elem_type, shape)})"
    dtype = kind.dtype.name.lower()
    if isinstance(kind, ir.SparseTensorType):
        return f"sparse_tensor({dtype}{_shape_text(shape)})"
    return f"{dtype}{_shape_text(shape)}"


def shape_key(shape: ir.Shape | None) -> list[int | str | None] | None:
    """The dimensions as numbers, names, and None where nothing is known."""
    return None if shape is None else [d if isinstance(d, int) else d.value for d in shape]


def _shape_text(shape: Sequence[int | str | None] | None) -> str:
    if shape is None:
        return "[]"
    dims = ("?" if d is None else str(d) if isinstance(d, int) else name_text(d) for d in shape)
    return f"[{','.join(dims)}]" if shape else ""


def tensor_digest(tensor: ir.TensorProtocol) -> str:
    """Eight hexadecimal digits that stand for the type, shape and bits of a tensor."""
    return _hash(tensor).hexdigest()[:8]


def tensor_key(tensor: ir.TensorProtocol) -> bytes:
    """The full digest of the type, shape and bits of a tensor."""
    return _hash(tensor).digest()


def _hash(tensor: ir.TensorProtocol) -> "hashlib._Hash":
    digest = hashlib.sha256(f"{tensor.dtype.name}{list(tensor.shape)}".encode())
    if tensor.dtype == ir.DataType.STRING:
        for text in np.asarray(tensor.numpy()).reshape(-1):
            raw = text if isinstance(text, bytes) else str(text).encode()
            digest.update(len(raw).to_bytes(8, "little") + raw)
    elif tensor.dtype.bitwidth < _BYTE:
        digest.update(tensor.tobytes())
    else:
        digest.update(_raw(tensor).data)
    return digest


def same_bits(a: ir.TensorProtocol, b: ir.TensorProtocol) -> bool:
    """Whether two tensors have one type, one shape and the same bits."""
    if a is b:
        return True
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    if a.dtype == ir.DataType.STRING:
        return tensor_key(a) == tensor_key(b)
    x, y = _raw(a), _raw(b)
    if x.ctypes.data == y.ctypes.data:  # two tensors over the same memory
        return True
    return all(
        np.array_equal(x[i : i + _CHUNK], y[i : i + _CHUNK]) for i in range(0, x.size, _CHUNK)
    )


def _raw(tensor: ir.TensorProtocol) -> np.ndarray:
    """The elements as bytes, not copied where they lie in memory in one piece."""
    return np.ascontiguousarray(tensor.numpy()).reshape(-1).view(np.uint8)


def tensor_type(tensor: ir.TensorProtocol) -> str:
    """The type and shape of a tensor."""
    return type_text(ir.TensorType(tensor.dtype), [int(d) for d in tensor.shape.numpy()])


def elements_text(tensor: ir.TensorProtocol) -> str | None:
    """The elements of a small tensor in braces; None for one that is named by its digest."""
    if tensor.size > INLINE:
        return None
    array = np.asarray(tensor.numpy()).reshape(-1)
    if tensor.dtype == ir.DataType.STRING:
        words = [t.decode(errors="replace") if isinstance(t, bytes) else str(t) for t in array]
        return f"{{{', '.join(map(string_text, words))}}}"
    if tensor.dtype in _DECIMAL:
        if np.isnan(array).any():
            return None  # a literal would lose which NaN it is
        return f"{{{', '.join(str(x) for x in array)}}}"
    if tensor.dtype.is_floating_point():
        array = array.view(f"u{array.itemsize}")
    elif array.dtype.kind not in "iub" and array.dtype.kind != "V":
        return None
    return f"{{{', '.join(str(int(x)) for x in array)}}}"


def attribute_text(attribute: ir.Attr) -> str:
    """An attribute that is no graph: `name = literal`, with its type where ONNX needs it."""
    name, kind = attribute.name, attribute.type
    if attribute.is_ref():
        known = "" if kind == ir.AttributeType.UNDEFINED else f": {kind.name.lower()}"
        return f"{name}{known} = @{attribute.ref_attr_name}"
    value = attribute.value
    if kind == ir.AttributeType.TENSOR:
        elements = elements_text(value)
        return f"{name} = {tensor_type(value)} {elements or '#' + tensor_digest(value)}"
    if kind == ir.AttributeType.TENSORS:
        return f"{name} = [{', '.join(f'{tensor_type(t)} #{tensor_digest(t)}' for t in value)}]"
    if isinstance(value, tuple | list):
        if not value:
            return f"{name}: {kind.name.lower()} = []"
        return f"{name} = [{', '.join(_scalar_text(item) for item in value)}]"
    return f"{name} = {_scalar_text(value)}"


def _scalar_text(value: object) -> str:
    if isinstance(value, float):
        short = np.float32(value) if abs(value) < np.finfo(np.float32).max else np.float64(value)
        return str(short if float(short) == value else value)
    if isinstance(value, str):
        return string_text(value)
    if isinstance(value, ir.TypeAndShape):
        shape = (
            None
            if value.shape is None
            else [d if isinstance(d, int) else d.value for d in value.shape]
        )
        return type_text(value.type, shape)
    return str(value)


def attributes_of(node: ir.Node, opsets: Mapping[str, int]) -> dict[str, ir.Attr]:
    """The attributes by name, sorted, without those that say what holds anyway."""
    given = node.attributes.data
    if not given:
        return {}
    found = schema(node.domain, node.op_type, opsets.get(node.domain, 1))
    defaults = {} if found is None else found.defaults
    return {
        name: given[name]
        for name in sorted(given)
        if name not in defaults or attribute_key(given[name]) != attribute_key(defaults[name])
    }


def attribute_key(attribute: ir.Attr) -> object:
    """Something equal for equal attributes: bits of floats and tensors; graphs by kind only."""
    kind, value = attribute.type, attribute.value
    if attribute.is_ref():
        return kind, "@", attribute.ref_attr_name
    if kind in (ir.AttributeType.FLOAT, ir.AttributeType.FLOATS):
        return kind, np.asarray(value, np.float32).tobytes()
    if kind == ir.AttributeType.TENSOR:
        return kind, tensor_key(value)
    if kind == ir.AttributeType.TENSORS:
        return kind, tuple(map(tensor_key, value))
    if kind == ir.AttributeType.GRAPH:
        return kind, 1
    if kind == ir.AttributeType.GRAPHS:
        return kind, len(value)
    if isinstance(value, tuple | list):
        return kind, tuple(map(str, value))
    return kind, str(value)


def attribute_keys(node: ir.Node, opsets: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    """Name and key of each attribute that matters, as strings to digest."""
    for name, attribute in attributes_of(node, opsets).items():
        yield name, repr(attribute_key(attribute))
