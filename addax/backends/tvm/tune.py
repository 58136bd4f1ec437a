"""Search for faster loops: MetaSchedule proposes, this process builds, runs and times.

The search is driven from here, and not by MetaSchedule's task scheduler, which knows no time limit
and whose worker processes give up on machines of few cores. A function keeps its default schedule
until something measured faster is found, so that tuning makes nothing slower.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tvm
from tvm import relax, tirx
from tvm.s_tir import meta_schedule
from tvm.s_tir.meta_schedule import _ffi_api
from tvm.s_tir.meta_schedule.database import MemoryDatabase, TuningRecord
from tvm.s_tir.meta_schedule.runner import RunnerResult
from tvm.s_tir.meta_schedule.search_strategy import EvolutionarySearch

_BATCH = 8  # candidates measured before another function gets its turn
_POPULATION = 32  # of a search that measures rather than guesses; the default, 512, takes minutes
_TRIALS = 2000  # of one function; the time is up long before
_REPEATS = 5
_SEED = 1


@dataclass
class Task:
    """One function of loops: the best body known, its time, and the search for better ones."""

    name: str
    calls: int
    body: tirx.PrimFunc
    seconds: float
    context: Any
    workload: Any
    rounds: int = 0
    untuned: float = field(default=0.0)

    @property
    def promise(self) -> float:
        """Time that the model spends in it, less and less of which will still be saved."""
        return self.calls * self.seconds / (1 + self.rounds)


def tuned(
    module: tvm.IRModule,
    scheduled: tvm.IRModule,
    target: tvm.target.Target,
    seconds: float,
    say: Callable[[str], None],
) -> tvm.IRModule:
    """`scheduled` with faster bodies for the functions where some were found in time.

    Args:
        module: Operators as plain loops.
        scheduled: The same functions with their default schedules.
        target: What code is made for; this processor.
        seconds: When to stop looking; what is being measured then is still finished.
        say: Told now and then how far the search is.
    """
    began = time.monotonic()
    say("tuning: timing the loops as they are")
    database = MemoryDatabase()
    tasks = [task for task in _tasks(module, scheduled, target, database) if task.calls]
    start = sum(task.calls * task.untuned for task in tasks)
    while tasks and (passed := time.monotonic() - began) < seconds:
        now = sum(task.calls * task.seconds for task in tasks)
        say(f"tuning: {passed:.0f} of {seconds:.0f} s, {start * 1e3:.2f} ms is now {now * 1e3:.2f}")
        task = max(tasks, key=lambda t: t.promise)
        if not _search(task, target, database, began + seconds):
            task.rounds = _TRIALS
        task.rounds += 1
        if all(task.rounds > _TRIALS for task in tasks):
            break
    made = scheduled.clone()
    for task in tasks:
        made[task.name] = task.body
    return made


def _tasks(
    module: tvm.IRModule,
    scheduled: tvm.IRModule,
    target: tvm.target.Target,
    database: MemoryDatabase,
) -> list[Task]:
    calls = _calls(module["main"])
    found = []
    for name, function in module.functions_items():
        if not isinstance(function, tirx.PrimFunc) or "tirx.is_scheduled" in function.attrs:
            continue
        plain = tvm.IRModule({"main": function.with_attr("global_symbol", "main")})
        context = _context(plain, target)
        default = scheduled[name]
        seconds = _timed(default, target, np.inf) or 0.0
        workload = database.commit_workload(plain)
        found.append(
            Task(name.name_hint, calls.get(name.name_hint, 0), default, seconds, context, workload)
        )
        found[-1].untuned = seconds
    return found


def _context(module: tvm.IRModule, target: tvm.target.Target) -> Any:
    """The search for one function.

    TuneContext's own constructor first parses the tensor instructions of every kind of processor,
    GPUs too, which takes minutes; plain vectors need none of them.
    """
    space = meta_schedule.space_generator.PostOrderApply(
        sch_rules=meta_schedule.ScheduleRule.create("llvm"),
        postprocs=meta_schedule.Postproc.create("llvm"),
        mutator_probs=meta_schedule.Mutator.create("llvm"),
    )
    context = meta_schedule.TuneContext.__new__(meta_schedule.TuneContext)
    context.__init_handle_by_constructor__(
        _ffi_api.TuneContext,
        module,
        target,
        space,
        EvolutionarySearch(
            population_size=_POPULATION, init_min_unmeasured=_BATCH, genetic_num_iters=1
        ),
        "main",
        os.cpu_count() or 1,
        _SEED,
        lambda *_: None,
    )
    _ffi_api.TuneContextInitialize(context)
    return context


def _calls(main: relax.Function) -> dict[str, int]:
    """How often the model calls each function."""
    counts: dict[str, int] = {}

    def visit(node: Any) -> None:
        if isinstance(node, tvm.ir.GlobalVar):
            counts[node.name_hint] = counts.get(node.name_hint, 0) + 1

    relax.analysis.post_order_visit(main, visit)
    return counts


def _search(
    task: Task, target: tvm.target.Target, database: MemoryDatabase, deadline: float
) -> bool:
    """Measure one batch of candidates; False where there are no more."""
    if not task.rounds:
        task.context.pre_tuning(
            _TRIALS, _BATCH, database=database, cost_model=meta_schedule.cost_model.RandomModel()
        )
    candidates = task.context.generate_measure_candidates()
    if not candidates:
        return False
    results = []
    for candidate in candidates:
        if time.monotonic() > deadline:
            results.append(RunnerResult(None, "the time is up"))
            continue
        body = candidate.sch.mod["main"].without_attr("global_symbol")
        seconds = _timed(body, target, 2 * task.seconds)
        if seconds is None:
            results.append(RunnerResult(None, "it cannot be built"))
            continue
        results.append(RunnerResult([seconds], None))
        record = TuningRecord(
            candidate.sch.trace, task.workload, [seconds], target, candidate.args_info
        )
        database.commit_tuning_record(record)
        if seconds < task.seconds:
            task.seconds = seconds
            task.body = body.with_attr("tirx.is_scheduled", True)
    task.context.notify_runner_results(candidates, results)
    return True


def _timed(function: tirx.PrimFunc, target: tvm.target.Target, hopeless: float) -> float | None:
    """Seconds of one call, the best of some; None if it cannot be built.

    Args:
        function: A body.
        target: What code is made for.
        hopeless: Seconds beyond which one call is enough to know.
    """
    named = tvm.IRModule({"main": function.with_attr("global_symbol", "main")})
    try:
        code = tvm.compile(named, target=target)["main"]
    except (tvm.error.InternalError, RuntimeError, ValueError, TypeError):
        return None
    arrays = [_array(parameter) for parameter in function.params]
    code(*arrays)
    best = np.inf
    for _ in range(_REPEATS):
        began = time.perf_counter()
        code(*arrays)
        best = min(best, time.perf_counter() - began)
        if best > hopeless:
            break
    return float(best)


def _array(parameter: tirx.Var) -> Any:
    """Numbers of no special kind, since zeros can be faster; zeros where they may be indices."""
    shape, dtype = [int(size) for size in parameter.ty.shape], str(parameter.ty.dtype)
    if dtype.startswith("float"):
        drawn = np.random.default_rng(_SEED).uniform(0.5, 1.5, shape)
        return tvm.runtime.tensor(drawn.astype(dtype))
    return tvm.runtime.tensor(np.zeros(shape, dtype))
