"""Records torch calls into one fx graph; each carries the origin of the ONNX node it serves."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir
import torch
from torch.fx.proxy import GraphAppendingTracer

from addax.backends._torch_ops.paths import Paths, identifier

__all__ = ["Recorder", "Weight"]


@dataclass(frozen=True, slots=True)
class Weight:
    """A constant that a module keeps as a parameter or buffer."""

    name: str
    tensor: ir.TensorProtocol
    trainable: bool
    persistent: bool


class Recorder(GraphAppendingTracer):
    """One fx graph in the making, and the attributes of the module it will be.

    Its proxies are typed as what they stand for: tensors, integers, lists of tensors.
    """

    def __init__(self) -> None:
        super().__init__(torch.fx.Graph())
        self.paths = Paths()
        self.weights: dict[str, Weight] = {}
        self.modules: dict[str, torch.nn.Module] = {}
        self.meta: dict[str, Any] = {}
        """What every node made from now on carries in its `meta`."""
        self.sizes: dict[torch.fx.Node, str | None] = {}
        """The nodes that make integers which are never negative; the dimension's name, if any."""
        self._serials: dict[torch.fx.Node, int] = {}
        self._anchor: Any = None
        self._device: Any = None

    def create_node(self, *args: Any, **kwargs: Any) -> torch.fx.Node:
        """Append a node, with the current metadata."""
        node = super().create_node(*args, **kwargs)
        node.meta.update(self.meta)
        self._serials[node] = len(self._serials)
        return node

    @property
    def mark(self) -> int:
        """A point in the recording, for `name`."""
        return len(self._serials)

    def name(self, proxy: Any, name: str | None, since: int) -> None:
        """Name the node behind a proxy, unless it was recorded before the mark `since`."""
        node = proxy.node
        if name and self._serials.get(node, -1) >= since and node.op != "get_attr":
            node._rename(identifier(name))  # noqa: SLF001  # fx has no public way

    def call(self, target: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Record a call of a function, for those that take no tensor to record themselves."""
        return self.create_proxy("call_function", target, args, kwargs)

    def run(self, module: torch.nn.Module, name: str, *inputs: Any) -> Any:
        """Record a call of a module that becomes a submodule."""
        path = self.paths.add(name)
        self.modules[path] = module
        return self.create_proxy("call_module", path, inputs, {})

    def weight(self, path: str, weight: Weight) -> Any:
        """Record the reading of a parameter or buffer."""
        self.weights[path] = weight
        return self.create_proxy("get_attr", path, (), {})

    def placeholder(self, name: str | None, *, anchor: bool = False, optional: bool = False) -> Any:
        """The next argument; tensors made out of nothing live where the `anchor` lives."""
        wish = identifier(name or "input")
        default = (None,) if optional else ()
        node = self.graph.create_node("placeholder", wish, default, {}, name=wish)
        # fx writes the target into source as it is, and may have renamed the node.
        node.target = node.name
        proxy = self.proxy(node)
        if anchor:
            self._anchor = proxy
        return proxy

    @property
    def device(self) -> Any:
        """Where tensors made out of nothing belong; None: where torch puts them."""
        if self._device is None and self._anchor is not None:
            self._device = self.call(getattr, self._anchor, "device")
        return self._device
