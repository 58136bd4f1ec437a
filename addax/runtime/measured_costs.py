"""How long linear layers take on this machine, measured once and kept in the cache folder.

For each form of weights a grid: rows of activations by weights of a square layer; between its
points the logarithms of times are interpolated. What is timed is a network of one to sixteen
layers with weights of their own, on one thread, so that weights come from where those of a network
come from and the call of a session does not count.
"""

import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
from rich.console import Console
from rich.table import Table

from addax.backends.cache import cache_folder, key_of
from addax.backends.rates import DYNAMIC, FLOAT, RATES
from addax.backends.to_ort import to_ort
from addax.errors import ModelFileError
from addax.ir.dialect import DOMAIN, VERSION, install_bodies
from addax.ir.layer_nodes import constant_values, layer_node
from addax.runtime.kernels import Kernels
from addax.runtime.session import Session

FORMS = tuple(RATES["avx512"].forms)
ROWS = (1, 4, 16, 64, 256)
SIDES = (64, 128, 256, 512, 1024, 2048)
_VERSION = 1  # of the file: another number where other figures would be measured
_OPSET = 20
_TOGETHER, _MOST_LAYERS = 1 << 22, 16  # bytes of float weights that are timed in one network
_SECONDS, _FEWEST, _MOST = 0.05, 3, 50

Grid = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class MeasuredCosts:
    """A table of one machine.

    Attributes:
        machine: Its processor, in words.
        isa: The instruction set of the kernels; "" if there are none.
        versions: Of addax' kernels and ONNX Runtime.
        rows: Of activations, along the second axis of each grid.
        sides: Of square layers, along the first.
        seconds: For each form the grid of seconds of one layer.
    """

    machine: str
    isa: str
    versions: str
    rows: tuple[int, ...]
    sides: tuple[int, ...]
    seconds: Mapping[str, Grid]

    @property
    def about(self) -> str:
        """Where the figures come from."""
        return f"a table measured on this machine ({self.machine}) by `addax measure`"

    def of(self, form: str, rows: int, weights: int) -> float | None:
        """Seconds of one layer on one thread; None for a form that was not measured."""
        grid = self.seconds.get(form)
        if grid is None:
            return None
        sizes = [side * side for side in self.sides]
        at_rows = [
            _between(weights, sizes, [line[place] for line in grid])
            for place in range(len(self.rows))
        ]
        return _between(rows, self.rows, at_rows)

    def record(self) -> dict[str, Any]:
        """All of it, for programs."""
        return {"version": _VERSION} | asdict(self)

    def __rich_console__(self, console: Console, options: Any) -> Any:
        for form, grid in self.seconds.items():
            table = Table(title=f"{form}: microseconds", title_justify="left", show_edge=False)
            for heading in ("weights", *(f"{count} rows" for count in self.rows)):
                table.add_column(heading, justify="right")
            for side, line in zip(self.sides, grid, strict=True):
                table.add_row(f"{side} x {side}", *(f"{1e6 * each:,.1f}" for each in line))
            yield table
        yield f"{self.machine}; {self.isa or 'no kernels'}; {self.versions}"

    def save(self) -> Path:
        """Keep it, where `load` finds it.

        Raises:
            ModelFileError: If the cache folder cannot be written.
        """
        path = _path(self.isa)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=path.parent, suffix=".part")
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(self.record(), file)
            Path(name).replace(path)
        except OSError as error:
            raise ModelFileError(
                f"expected to keep the cost table in {path.parent}, got: {error}; ADDAX_CACHE "
                "names another folder"
            ) from error
        return path


def load(isa: str) -> MeasuredCosts | None:
    """The table that was measured on this machine with these versions; None if there is none."""
    try:
        read = json.loads(_path(isa).read_text("utf-8"))
        if read.pop("version") != _VERSION:
            return None
        grids = {form: tuple(map(tuple, grid)) for form, grid in read.pop("seconds").items()}
        rows, sides = (tuple(map(int, read.pop(name))) for name in ("rows", "sides"))
        return MeasuredCosts(**read, rows=rows, sides=sides, seconds=grids)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # missing or damaged: what is shipped serves until it is measured again


def measure(
    kernels: Kernels | None,
    isa: str,
    *,
    rows: Sequence[int] = ROWS,
    sides: Sequence[int] = SIDES,
    forms: Sequence[str] = FORMS,
    tell: Callable[[str, float], None] = lambda *_: None,
) -> MeasuredCosts:
    """Time layers of every form, size and number of rows.

    Args:
        kernels: Of this machine; None measures what needs none.
        isa: The instruction set that they are for.
        rows: Of activations.
        sides: Of square layers.
        forms: Of weights.
        tell: Called with what is timed and the share that is done.
    """
    wanted = [f for f in forms if f in (FLOAT, DYNAMIC) or kernels is not None]
    total, done = len(wanted) * len(sides), 0
    seconds: dict[str, Grid] = {}
    for form in wanted:
        grid = []
        for side in sides:
            tell(f"{form}, {side} x {side}", done / total)
            grid.append(_line(form, side, rows, kernels))
            done += 1
        seconds[form] = tuple(grid)
    tell("done", 1.0)
    return MeasuredCosts(_machine(), isa, _versions(), tuple(rows), tuple(sides), seconds)


def _line(form: str, side: int, rows: Sequence[int], kernels: Kernels | None) -> tuple[float, ...]:
    layers = max(1, min(_MOST_LAYERS, _TOGETHER // (4 * side * side)))
    network = _network(form, side, layers)
    has = form not in (FLOAT, DYNAMIC) and kernels is not None
    made = to_ort(network, has_kernel=kernels.has) if has and kernels else to_ort(network)
    session = Session(made, threads=1, library=kernels.path if has and kernels else None)
    x = np.random.default_rng(0).standard_normal((max(rows), side)).astype(np.float32)
    return tuple(median_seconds(session.bound({"x": x[:count]})) / layers for count in rows)


def median_seconds(
    call: Callable[[], None],
    *,
    seconds: float = _SECONDS,
    fewest: int = _FEWEST,
    most: int = _MOST,
) -> float:
    """CPU seconds of this thread for a call: the median, after a first one.

    Args:
        call: What is timed.
        seconds: To time it for.
        fewest: Calls, however long they take.
        most: Calls.
    """
    call()
    taken: list[float] = []
    while len(taken) < fewest or (sum(taken) < seconds and len(taken) < most):
        began = time.thread_time()
        call()
        taken.append(time.thread_time() - began)
    return statistics.median(taken)


def _network(form: str, side: int, layers: int) -> ir.Model:
    """Layers that read one input, each with weights of its own and an output."""
    x = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(["N", side]))
    nodes, constants = [], []
    for place in range(layers):
        node, stored = _layer(form, side, x, place)
        nodes.append(node)
        constants += stored
    graph = ir.Graph(
        [x],
        [node.outputs[0] for node in nodes],
        nodes=nodes,
        initializers=constants,
        name="layers",
        opset_imports={"": _OPSET, DOMAIN: VERSION, "com.microsoft": 1},
    )
    model = ir.Model(graph, ir_version=10)
    install_bodies(model, nodes)
    return model


def _layer(form: str, side: int, x: ir.Value, place: int) -> tuple[ir.Node, list[ir.Value]]:
    arrays: list[np.ndarray]
    if form == DYNAMIC:
        domain, kind, attributes = "com.microsoft", "DynamicQuantizeMatMul", []
        arrays = [np.ones((side, side), np.int8), np.ones(side, np.float32)]
    else:
        like = layer_node(form, 1, side, side)
        domain, kind, attributes = like.domain, like.op_type, list(like.attributes.values())
        arrays = [v.const_value.numpy() for v in like.inputs if v is not None and v.const_value]
    stored = constant_values(arrays, f"w{place}_")
    node = ir.Node(domain, kind, [x, *stored], attributes)
    made = node.outputs[0]
    made.name, made.type, made.shape = f"y{place}", x.type, ir.Shape(["N", side])
    return node, stored


def _between(at: float, points: Sequence[float], values: Sequence[float]) -> float:
    """Between two points, by logarithms; beyond the last, in proportion to the last step."""
    if at >= points[-1]:
        return float(values[-1] * at / points[-1])
    logs = np.interp(np.log(at), np.log(points), np.log(np.maximum(values, 1e-12)))
    return float(np.exp(logs))


def _path(isa: str) -> Path:
    return cache_folder() / "costs" / f"{key_of([_machine(), isa, _versions()])[:32]}.json"


def _machine() -> str:
    """The processor, as the system names it."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    wanted = {"cpu family", "model", "model name", "CPU part"}
    pairs = (line.partition(":") for line in lines)
    found = dict.fromkeys(f"{v.strip()}" for name, _, v in pairs if name.strip() in wanted)
    return " ".join(found) or platform.machine()


def _versions() -> str:
    from addax.runtime.objects import generator_digest

    return f"kernels {generator_digest()[:12]}, onnxruntime {onnxruntime.__version__}"
