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
_WORTH_SPREADING = 4096  # elements: waking another core costs some microseconds
_CONFIG = {"s_tir.LoopPartition": {"partition_const_loop": True}}


def default_schedule(module: tvm.IRModule, target: tvm.target.Target) -> tvm.IRModule:
    """The module with a schedule for every function of loops that has none and that we know."""
    lanes = max(int(llvm_get_vector_width(target)) // 32, 4)
    made = module.clone()
    for name, function in module.functions_items():
        if not isinstance(function, tirx.PrimFunc) or "tirx.is_scheduled" in function.attrs:
            continue
        try:
            schedule = _scheduled(function, lanes)
        except (s_tir.ScheduleError, tvm.error.InternalError):  # plain loops are right too
            continue
        if schedule is not None:
            made[name] = schedule.mod["main"].with_attr("tirx.is_scheduled", True)
    return made


def splitting_loops(*, with_kernels: bool = False) -> tvm.transform.PassContext:
    """What compilation needs so that the last, narrower tile does not slow the others down.

    With calls of kernels, TVM must not let buffers share memory: it does so across element types,
    and then refuses to take the address of what has become another type.
    """
    return tvm.transform.PassContext(
        config=_CONFIG | {"tirx.disable_storage_rewrite": with_kernels}
    )


def _scheduled(function: tirx.PrimFunc, lanes: int) -> s_tir.Schedule | None:
    schedule = s_tir.Schedule(function)
    found = dlight.normalize_prim_func(schedule)
    if not found or not all(_is_static(block) for block in found):
        return None
    blocks = _inlined(schedule, found)
    tiled = False
    for block, following in zip(blocks, [*blocks[1:], None], strict=True):
        if tiled:  # it went along with the one before
            tiled = False
        elif not block.is_injective() and (rows := _row_axis(schedule, block)) is not None:
            along = following if _goes_along(schedule, block, following) else None
            _tile(schedule, block, along, rows, lanes)
            tiled = along is not None
        else:
            _spread(schedule, block, lanes)
    return schedule


def _is_static(block: Any) -> bool:
    return bool(block.iters) and all(isinstance(i.dom, int | tirx.IntImm) for i in block.iters)


def _inlined(schedule: s_tir.Schedule, blocks: Sequence[Any]) -> list[Any]:
    """What is left when elementwise stages that only such stages read become part of those."""
    injective = {block.name for block in blocks if block.is_injective()}
    kept = []
    for block in blocks:
        readers = [schedule.get(r).name_hint for r in schedule.get_consumers(block.block_rv)]
        if block.name in injective and readers and injective.issuperset(readers):
            schedule.compute_inline(block.block_rv)
        else:
            kept.append(block)
    return kept


def _row_axis(schedule: s_tir.Schedule, block: Any) -> int | None:
    """The last axis that the operand along the last axis does not have; -1 if there is none.

    None where consecutive results do not read consecutive numbers of any operand.
    """
    statement = schedule.get(block.block_rv)
    axes = [v.var for v, i in zip(statement.iter_vars, block.iters, strict=True) if i.kind == "S"]
    if not axes or block.dom_kind() != "S" * len(axes) + "R" * (len(block.iters) - len(axes)):
        return None
    along = [r.region for r in statement.reads if r.region and _has(r.region[-1].min, axes[-1])]
    if not along:
        return None
    free = [
        place
        for place, axis in enumerate(axes[:-1])
        if not any(_has(part.min, axis) for region in along for part in region)
    ]
    return free[-1] if free else -1


def _has(expression: Any, variable: Any) -> bool:
    return any(variable.same_as(v) for v in tirx.analysis.undefined_vars(expression, []))


def _goes_along(schedule: s_tir.Schedule, block: Any, following: Any | None) -> bool:
    """Whether the next stage is elementwise in the result of this one, which nobody else reads."""
    if following is None or not following.is_injective():
        return False
    readers = [schedule.get(r).name_hint for r in schedule.get_consumers(block.block_rv)]
    extents = [int(i.dom) for i in block.iters if i.kind == "S"]
    if readers != [following.name] or extents != [int(i.dom) for i in following.iters]:
        return False
    statement, made = (
        schedule.get(following.block_rv),
        schedule.get(block.block_rv).writes[0].source,
    )
    own = [v.var for v in statement.iter_vars]
    return all(
        [part.min.same_as(axis) for part, axis in zip(r.region[-len(own) :], own, strict=True)]
        == [True] * len(own)
        for r in statement.reads
        if r.source.same_as(made)
    )


def _tile(schedule: s_tir.Schedule, block: Any, along: Any | None, rows: int, lanes: int) -> None:
    """Keep a tile of rows times vectors in registers over the whole sum."""
    inner = block.block_rv
    if along is None:
        outer = schedule.cache_write(inner, 0, "local")
    else:
        outer = along.block_rv
        schedule.set_scope(inner, 0, "local")
    sizes = [int(i.dom) for i in block.iters]
    # A loop of one turn is an axis of the buffer, but none of the block's.
    *axes, last = (loop for loop in schedule.get_loops(outer) if _turns(schedule, loop) > 1)
    vector, vectors = _vectors(sizes[len(axes)], lanes, 2 if rows >= 0 else 4)
    place, column = schedule.split(last, [None, vector * vectors])
    others = [loop for axis, loop in enumerate(axes) if axis != rows]
    row = []
    if rows >= 0:
        group, tile = schedule.split(axes[rows], [None, _tile_rows(sizes[rows])])
        schedule.annotate(group, "pragma_loop_partition_hint", 1)
        row = [group, tile]
    schedule.reorder(*others, place, *row, column)
    _, lane = schedule.split(column, [None, vector])
    schedule.vectorize(lane)
    spread = schedule.fuse(*others, place) if others else place
    schedule.parallel(spread)
    schedule.compute_at(inner, row[0] if row else spread, preserve_unit_loops=True)
    loops = schedule.get_loops(inner)[-len(sizes) :]
    sums = loops[len(axes) + 1 :]
    part, lane = schedule.split(loops[len(axes)], [None, vector])
    tile_loops = [loops[rows], part, lane] if row else [part, lane]
    schedule.reorder(*sums, *tile_loops)
    schedule.vectorize(lane)
    for loop in tile_loops[:-1]:
        schedule.unroll(loop)
    schedule.decompose_reduction(inner, sums[0])


def _turns(schedule: s_tir.Schedule, loop: Any) -> int:
    return int(schedule.get(loop).extent)


def _tile_rows(size: int) -> int:
    """Rows of a tile: all of few, else a number that divides them, else the last tile is narrow."""
    if size <= _ROWS:
        return size
    return next((n for n in range(_ROWS, _ROWS // 2, -1) if size % n == 0), _ROWS)


def _vectors(size: int, lanes: int, most: int) -> tuple[int, int]:
    """Lanes of a vector, and how many vectors: they divide the axis, if anything useful does."""
    lane = next((n for n in range(min(lanes, size), 0, -1) if size % n == 0), 1)
    if lane * 4 <= min(lanes, size):
        return min(lanes, size), 1
    return lane, next(n for n in range(most, 0, -1) if size % (lane * n) == 0)


def _spread(schedule: s_tir.Schedule, block: Any, lanes: int) -> None:
    """Outer loops over the cores, the innermost in vectors where its numbers are independent."""
    loops = schedule.get_loops(block.block_rv)
    spatial = [loop for loop, i in zip(loops, block.iters, strict=True) if i.kind == "S"]
    if block.dom_kind() != "S" * len(spatial) + "R" * (len(loops) - len(spatial)) or not spatial:
        return
    size = math.prod(int(i.dom) for i in block.iters)
    *outer, last = spatial
    if block.is_injective():
        width = int(block.iters[-1].dom)
        lane = next((n for n in (lanes, lanes // 2, lanes // 4) if width % n == 0), 1)
        if lane > 1:
            last, vector = schedule.split(last, [None, lane])
            schedule.vectorize(vector)
    if size >= _WORTH_SPREADING:
        schedule.parallel(schedule.fuse(*outer) if outer else last)
