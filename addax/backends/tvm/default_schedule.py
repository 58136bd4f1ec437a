"""Loops of operators nobody tuned: spread over the cores, blocked for registers, in vectors.

A sum of products keeps a tile of its result in registers: `_ROWS` values of an axis that one
operand does not have, times a few vectors along the last axis. What follows it elementwise is
computed on the tile. That alone makes a matrix product some 40 times as fast as plain loops.
"""

import math
from collections.abc import Sequence
from typing import Any

import tvm
from tvm import s_tir, tirx
from tvm.s_tir import dlight
from tvm.target.codegen import llvm_get_vector_width

_ROWS = 8
_VECTORS = 2
_CONFIG = {"s_tir.LoopPartition": {"partition_const_loop": True}}


def default_schedule(module: tvm.IRModule, target: tvm.target.Target) -> tvm.IRModule:
    """The module with a schedule for every function of loops that has none and that we know."""
    lanes = max(llvm_get_vector_width(target) // 32, 4)
    made = module.clone()
    for name, function in module.functions_items():
        if not isinstance(function, tirx.PrimFunc) or "tirx.is_scheduled" in function.attrs:
            continue
        schedule = _scheduled(function, lanes)
        if schedule is not None:
            made[name] = schedule.mod["main"].with_attr("tirx.is_scheduled", True)
    return made


def splitting_loops() -> tvm.transform.PassContext:
    """What compilation needs so that the last, narrower tile does not slow the others down."""
    return tvm.transform.PassContext(config=_CONFIG)


def _scheduled(function: tirx.PrimFunc, lanes: int) -> s_tir.Schedule | None:
    schedule = s_tir.Schedule(function)
    blocks = dlight.normalize_prim_func(schedule)
    if blocks is None or not all(_is_static(block) for block in blocks):
        return None
    blocks = _inlined(schedule, blocks)
    done: set[str] = set()
    for place, block in enumerate(blocks):
        if block.name in done:
            continue
        following = blocks[place + 1] if place + 1 < len(blocks) else None
        if not block.is_injective() and (rows := _row_axis(schedule, block)) is not None:
            if _tile(schedule, block, following, rows, lanes):
                done.add(following.name if following is not None else "")
        else:
            _spread(schedule, block, lanes)
    return schedule


def _is_static(block: Any) -> bool:
    return all(isinstance(axis.dom, int | tirx.IntImm) for axis in block.iters)


def _inlined(schedule: s_tir.Schedule, blocks: Sequence[Any]) -> list[Any]:
    """Elementwise stages that only other elementwise stages read become part of those."""
    kept = []
    injective = {block.name for block in blocks if block.is_injective()}
    for block in blocks:
        readers = [schedule.get(r).name_hint for r in schedule.get_consumers(block.block_rv)]
        if block.name in injective and readers and injective.issuperset(readers):
            schedule.compute_inline(block.block_rv)
        else:
            kept.append(block)
    return kept


def _row_axis(schedule: s_tir.Schedule, block: Any) -> int | None:
    """The axis that the operand along the last axis does not have; -1 for none; None: no vectors.

    None where the last axis of the result is not the last of any operand, so that consecutive
    results do not read consecutive numbers.
    """
    statement = schedule.get(block.block_rv)
    spatial = [v for v, axis in zip(statement.iter_vars, block.iters, strict=True) if axis.kind == "S"]
    if not spatial:
        return None
    last = spatial[-1].var
    vector_reads = [
        region for region in statement.reads if len(region.region) and _has(region.region[-1].min, last)
    ]
    if not vector_reads:
        return None
    free = [
        axis
        for axis, variable in enumerate(spatial[:-1])
        if not any(_has(r.min, variable.var) for region in vector_reads for r in region.region)
    ]
    return free[-1] if free else -1


def _has(expression: Any, variable: Any) -> bool:
    found = []
    tirx.stmt_functor.post_order_visit(
        expression, lambda e: found.append(e) if e.same_as(variable) else None
    )
    return bool(found)
