"""Many layers, here or on other processes and machines: each job stands alone."""

import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    wait,
)
from typing import Any

import numpy as np

from addax.errors import EvaluationError, InputError, OptionError
from addax.passes.fit._cache import Cache
from addax.passes.fit._job import Fitted, Job
from addax.passes.fit._layer import fit

Progress = Callable[[int, Fitted], None]
"""Called with how many layers are done, and the one that was done last."""

_TIMES = 3  # that a job may be under way when its worker dies


def fit_all(
    jobs: Iterable[Job],
    *,
    executor: Any = None,
    folder: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    in_flight: int | None = None,
) -> dict[str, Fitted]:
    """Fit all layers; `fit_each` with its results by name, in the order of the jobs.

    Raises:
        InputError: Two jobs have one name; and all that `fit` raises.
        EvaluationError: A job's worker died again and again.
        ModelFileError: The folder cannot be written.
    """
    names: list[str] = []

    def named() -> Iterator[Job]:
        for job in jobs:
            if job.name in names:
                raise InputError(f"expected jobs of different names, got two for {job.name!r}")
            names.append(job.name)
            yield job

    found = fit_each(
        named(), executor=executor, folder=folder, progress=progress, in_flight=in_flight
    )
    done = {fitted.name: fitted for fitted in found}
    return {name: done[name] for name in names}


def fit_each(
    jobs: Iterable[Job],
    *,
    executor: Any = None,
    folder: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    in_flight: int | None = None,
) -> Iterator[Fitted]:
    """Fit layers and give each as soon as it is done, in any order.

    Jobs are taken from the iterable when there is room for them, so a generator that works out
    one layer's second moments at a time needs room for `in_flight` of them. Give each worker of a
    shared machine its own share of threads (`OPENBLAS_NUM_THREADS=1`): threads that wait for a
    core take longer than one thread alone.

    Args:
        jobs: One a layer.
        executor: Where the jobs run: any `concurrent.futures.Executor`, a
            `dask.distributed.Client`, or a function that makes one of these. None: here. A process
            that dies takes no result with it: its jobs run again, on the same executor if that
            lives, on a new one if a function makes it, and in this process otherwise.
        folder: Where results are kept, by all that they depend on; what is there already is not
            fitted again. None: nowhere.
        progress: Called in this process after each layer.
        in_flight: Jobs that are under way or wait for a worker; the number of cores by default.

    Raises:
        InputError: As `fit`.
        OptionError: As `fit`.
        EvaluationError: A job's worker died again and again.
        ModelFileError: The folder cannot be written.
    """
    cache = None if folder is None else Cache(folder)
    crew = _Crew(executor, in_flight or os.cpu_count() or 1)
    try:
        for done, fitted in enumerate(_known_or_made(jobs, cache, crew), 1):
            if progress is not None:
                progress(done, fitted)
            yield fitted
    finally:
        crew.leave()


def _known_or_made(jobs: Iterable[Job], cache: Cache | None, crew: "_Crew") -> Iterator[Fitted]:
    for job in jobs:
        known = None if cache is None else cache.load(job)
        if known is not None:
            yield known
            continue
        for finished in crew.add(job):
            yield _kept(cache, *finished)
    for finished in crew.drain():
        yield _kept(cache, *finished)


def _kept(cache: Cache | None, job: Job, fitted: Fitted) -> Fitted:
    if cache is not None:
        cache.save(job, fitted)
    return fitted


class _Crew:
    """Jobs under way on an executor, and what happens when a worker dies."""

    def __init__(self, given: Any, room: int) -> None:
        self._make: Callable[[], Any] | None = None
        if callable(given) and not _can_run(given):
            self._make, given = given, given()
        self._executor = _as_executor(given)
        self._room = room
        self._waiting: dict[Future[Fitted], tuple[Job, int]] = {}

    def add(self, job: Job) -> Iterator[tuple[Job, Fitted]]:
        """Take a job in; what had to be finished to make room comes out."""
        while len(self._waiting) >= self._room:
            yield from self._finish_some()
        yield from self._start(job, 1)

    def drain(self) -> Iterator[tuple[Job, Fitted]]:
        """Finish all."""
        while self._waiting:
            yield from self._finish_some()

    def leave(self) -> None:
        """Let go of jobs that nobody waits for, and of an executor that was made here."""
        for future in self._waiting:
            future.cancel()
        if self._make is not None and self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)

    def _start(self, job: Job, time: int) -> Iterator[tuple[Job, Fitted]]:
        future = None
        while self._executor is not None and future is None:
            try:
                with warnings.catch_warnings():
                    # dask would rather have arrays scattered: a worker that dies takes them along.
                    warnings.filterwarnings("ignore", message="Sending large graph")
                    future = self._executor.submit(fit, job)
            except BrokenExecutor:
                self._replace(self._executor)
        if future is None:
            yield job, fit(job)
        else:
            self._waiting[future] = (job, time)

    def _finish_some(self) -> Iterator[tuple[Job, Fitted]]:
        finished, _ = wait(self._waiting, return_when=FIRST_COMPLETED)
        died: list[tuple[Job, int]] = []
        for future in finished:
            job, time = self._waiting.pop(future)
            death = _death(future)
            if death is None:
                yield job, future.result()
                continue
            if time >= _TIMES:
                raise EvaluationError(
                    f"layer {job.name!r}, weights {np.shape(job.weights)}, was under way {time} "
                    "times when its worker died: give the workers more memory, or start fewer"
                ) from death
            died.append((job, time + 1))
        for job, time in died:
            yield from self._start(job, time)

    def _replace(self, broken: Executor) -> None:
        broken.shutdown(wait=False)
        self._executor = None if self._make is None else _as_executor(self._make())


def _death(future: "Future[Fitted]") -> BaseException | None:
    """What says that the worker, and not the job, failed."""
    if future.cancelled():
        return CancelledError("the scheduler lost the job")
    error = future.exception()
    names = {kind.__name__ for kind in type(error).__mro__}
    return error if isinstance(error, BrokenExecutor) or "KilledWorker" in names else None


def _can_run(given: Any) -> bool:
    return hasattr(given, "submit") or hasattr(given, "get_executor")


def _as_executor(given: Any) -> Executor | None:
    """An executor of a dask client; what is one already, and None, as they are.

    Raises:
        OptionError: It is none of these.
    """
    if given is None or isinstance(given, Executor):
        return given
    if hasattr(given, "get_executor"):
        made: Executor = given.get_executor(pure=False)
        return made
    raise OptionError(
        "expected an executor that is a concurrent.futures.Executor, a dask.distributed.Client, or "
        f"a function that makes one; got {type(given).__name__}"
    )
