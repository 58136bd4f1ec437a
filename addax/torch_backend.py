"""What `torch.compile(model, backend="addax")` calls: graphs of torch's own tracer, for inference.

    fast = torch.compile(model, backend="addax")
    with torch.inference_mode():
        logits = fast(images)

torch cuts the model into graphs, and guards them: it traces again where a shape, a flag or a mode
is another. Each graph is exported and optimized at its first call, its weights as constants, and
runs in ONNX Runtime with the kernels of this machine. A graph that cannot is run by torch as it
is, and a line in the log of `addax.torch_backend` says why. Weights that change in place, by
training or `load_state_dict`, are noticed at the next call, and the graph is made again.

`torch.compile(..., options={"allow": (...)})` hands on the options of `addax.optimize` that need
no data; `options={"report": print}` calls a function with each graph's report.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from addax._torch_graphs import Graph
from addax.api import Optimized, optimize
from addax.errors import ExportError, OptionError
from addax.plan import make_plan

__all__ = ["compile_graph"]

_log = logging.getLogger(__name__)
_OPTIONS = ("allow", "fuel", "pipeline", "report", "target", "verify")
_MOST = 8  # programs kept of one graph; they differ by numbers that are constants in them
_HERE = ("host", "portable", "tvm")


def compile_graph(
    graph_module: torch.fx.GraphModule,
    example_inputs: Sequence[Any],
    *,
    mode: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Callable[..., Any]:
    """A function that computes a graph of torch's tracer, optimized; the backend's entry point.

    Args:
        graph_module: What torch traced, its weights among the inputs.
        example_inputs: Of the first call; they come again with it.
        mode: None or "default": there are no modes.
        options: Those of `addax.optimize`: allow, fuel, pipeline, target, verify; and `report`, a
            function that gets each graph's `Report`.

    Raises:
        OptionError: If an option does not exist or does not fit the others.
    """
    del example_inputs
    return _Compiled(graph_module, _checked(mode, dict(options or {})))


def _checked(mode: str | None, options: dict[str, Any]) -> dict[str, Any]:
    """The options, validated before anything is traced.

    Raises:
        OptionError: If one does not exist or does not fit the others.
    """
    if mode not in {None, "default"}:
        raise OptionError(
            f"torch.compile(mode={mode!r}): the backend 'addax' has no modes; leave mode out"
        )
    if unknown := sorted(options.keys() - set(_OPTIONS)):
        raise OptionError(
            f"torch.compile(options=...): the backend 'addax' has no option {', '.join(unknown)} "
            f"(options: {', '.join(_OPTIONS)}); addax.optimize has more"
        )
    target = options.get("target", "host")
    if str(target).partition("{")[0] not in _HERE:
        raise OptionError(
            f"torch.compile runs here: expected one of the targets {', '.join(_HERE)}, got "
            f"{target!r}; addax.optimize writes models for other machines"
        )
    if not callable(options.get("report", print)):
        raise OptionError(f"expected a function as report, got {options['report']!r}")
    make_plan(options.get("allow", ()), None, options.get("pipeline"), options.get("fuel"), {})
    return options


class _Compiled:
    """One graph: optimized when it is called first, and again when its weights have changed."""

    def __init__(self, graph_module: torch.fx.GraphModule, options: dict[str, Any]) -> None:
        self._module = graph_module
        self._report = options.pop("report", None)
        self._options = options
        self._graph = Graph.of(graph_module)
        self._made: dict[tuple[Any, ...], Optimized] = {}
        self._weights: tuple[Any, ...] | None = None
        self._refused = False

    def __call__(self, *args: Any) -> Any:
        if self._refused:
            return self._module(*args)
        reason = _obstacle(args)
        if reason is not None:
            return self._in_torch(args, reason)
        try:
            made = self._optimized(args)
        except OptionError:
            raise
        except Exception as error:  # whatever torch's exporter or the runtime cannot do
            self._refused = True
            text = next(iter(str(error).splitlines()), "")
            return self._in_torch(args, f"{type(error).__name__}: {text}")
        return self._graph.results(args, self._run(made, args))

    def _optimized(self, args: tuple[Any, ...]) -> Optimized:
        """The graph for these arguments, made if it has not been.

        Raises:
            ExportError: If it has been made often enough.
        """
        weights = self._graph.state(args)
        if weights != self._weights:
            if self._made:
                _log.info("weights have changed: the graph is optimized again")
            self._made.clear()
            self._weights = weights
        key = self._graph.key(args)
        if key not in self._made:
            if len(self._made) == _MOST:
                raise ExportError(
                    f"it was made {_MOST} times, for numbers or shapes that are others each time"
                )
            program = self._graph.export(args)
            made = optimize(program, progress=False, **self._options)
            key = self._graph.key(args)  # the export may have found that shapes cannot vary
            self._made[key] = made
            _ = made.session
            before, after = made.report.before.nodes, made.report.after.nodes
            _log.info("a graph of %d nodes became %d, %s", before, after, made.report.exactness)
            if self._report is not None:
                self._report(made.report)
        return self._made[key]

    def _run(self, made: Optimized, args: tuple[Any, ...]) -> tuple[torch.Tensor, ...]:
        inputs = self._graph.inputs(args)
        names = [port.name for port in made.session.inputs]
        feeds = {name: value.detach().numpy() for name, value in zip(names, inputs, strict=True)}
        return tuple(torch.from_numpy(array) for array in made.session.run(feeds).values())

    def _in_torch(self, args: tuple[Any, ...], reason: str) -> Any:
        _log.warning("a graph of %d nodes runs in torch as it is: %s", len(self._graph), reason)
        return self._module(*args)


def _obstacle(args: tuple[Any, ...]) -> str | None:
    """Why these arguments are for torch alone; None if they are not."""
    tensors = [arg for arg in args if isinstance(arg, torch.Tensor)]
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
        return "gradients are asked for; call it under torch.inference_mode() or torch.no_grad()"
    if torch.is_autocast_enabled("cpu"):
        return "torch.autocast changes number formats as it runs; leave it out"
    elsewhere = next((tensor.device for tensor in tensors if tensor.device.type != "cpu"), None)
    return None if elsewhere is None else f"a tensor is on {elsewhere}; addax runs on the processor"
