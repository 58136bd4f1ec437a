"""Modules of torch as calls of ONNX Runtime on one thread: as torch exports them, and as we do."""

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import onnx_ir as ir
import torch
from torch import Tensor, nn

import addax
from addax.backends.to_ort import to_ort
from addax.frontend.layers import Router
from addax.frontend.layers.router import ArgmaxRouter
from addax.runtime.session import Session

OPSET = 20  # GELU is one operator from here on
MULT_SHARE = 0.4  # of the tokens: where the papers' losses settle
ROUTE = "route-experts"
Call = Callable[[], Any]


def exported(module: nn.Module, *inputs: Tensor) -> Call:
    """The export that torch optimized."""
    with _quiet():
        program = torch.onnx.export(
            module, inputs, dynamo=True, optimize=True, opset_version=OPSET, verbose=False
        )
    if program is None:
        raise RuntimeError("torch.onnx.export returned nothing")
    return _call(Session(ir.from_proto(program.model_proto), threads=1), inputs)


def optimized(
    module: nn.Module, *inputs: Tensor, target: str = "host", allow: tuple[str, ...] = ()
) -> Call:
    """What `addax.optimize` makes of a module, with its kernels where the target has any."""
    return own_call(made(module, *inputs, target=target, allow=allow), *inputs)


def made(
    module: nn.Module, *inputs: Tensor, target: str = "host", allow: tuple[str, ...] = ()
) -> addax.Optimized:
    """`addax.optimize` of a module, for these inputs' shapes; calibrated on them where needed."""
    calibration = [tuple(one.numpy() for one in inputs)] if "int8" in allow else None
    with _quiet():
        return addax.optimize(
            module, inputs, target=target, allow=allow, calibration=calibration, progress=False
        )


def own_call(fast: addax.Optimized, *inputs: Tensor) -> Call:
    """An optimized model on one thread."""
    library = fast.kernels
    if library is None:
        return _call(Session(to_ort(fast.model), threads=1), inputs)
    graph = to_ort(fast.model, has_kernel=library.has)
    return _call(Session(graph, threads=1, library=library.path), inputs)


def _call(session: Session, inputs: tuple[Tensor, ...]) -> Call:
    feeds = {p.name: x.numpy() for p, x in zip(session.inputs, inputs, strict=True)}
    return lambda: next(iter(session.run(feeds).values()))


@torch.no_grad()
def biased(module: nn.Module, *inputs: Tensor) -> nn.Module:
    """The module, with routers that send `MULT_SHARE` of these inputs' tokens to Mult; in place."""

    def shift(router: nn.Module, given: tuple[Tensor, ...]) -> None:
        logits = router.logits(given[0])
        lead = (logits[..., 1] - logits[..., 0]).flatten()
        router.logits.bias[0] += torch.quantile(lead, MULT_SHARE)

    routers = [one for one in module.modules() if isinstance(one, ArgmaxRouter | Router)]
    handles = [router.register_forward_pre_hook(shift) for router in routers]
    module(*inputs)
    for handle in handles:
        handle.remove()
    return module


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's talk."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        yield
