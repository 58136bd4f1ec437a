"""Many layers: the same results here and elsewhere, after a worker's death, and from a folder."""

import os
import pickle
import signal
import threading
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from addax.passes.fit import FitOptions, Format, Job, fit, fit_all, fit_each
from tests.passes.fit.layers import gauss, moments


def some_jobs(count: int = 5) -> list[Job]:
    kinds = ["binary2", "fitted4", "uniform3", "binary3{scales=real}"]
    return [
        Job(f"layer{i}", gauss(i, 20, 48), moments(i, 48), Format.parse(kinds[i % len(kinds)]))
        for i in range(count)
    ]


def check_same(expected, actual) -> None:
    assert list(expected) == list(actual)
    for name, fitted in expected.items():
        assert np.array_equal(fitted.decoded, actual[name].decoded)
        assert replace(fitted, codes=None, seconds=0, dense=None) == replace(
            actual[name], codes=None, seconds=0, dense=None
        )
        if fitted.codes is not None and fitted.codes.multipliers is not None:
            assert fitted.packed().nbytes == actual[name].packed().nbytes


class Dying(Executor):
    """Runs jobs at once; the one whose turn is told dies, and the executor with it or not."""

    def __init__(self, turns: set[int], error: BaseException, *, breaks: bool = True) -> None:
        self.turns, self.error, self.breaks = turns, error, breaks
        self.turn, self.is_broken = 0, False

    def submit(self, work, /, *args, **kwargs):
        if self.is_broken:
            raise BrokenExecutor("it broke before")
        future: Future = Future()
        self.turn += 1
        if self.turn in self.turns:
            self.is_broken = self.breaks
            future.set_exception(self.error)
        else:
            future.set_result(work(*args, **kwargs))
        return future


class KilledWorker(Exception):  # noqa: N818
    """As dask calls it."""


def test_jobs_run_on_any_executor_and_are_taken_when_there_is_room() -> None:
    taken: list[str] = []
    seen: list[tuple[int, int]] = []

    def jobs():
        for job in some_jobs():
            taken.append(job.name)
            yield job

    def progress(done, fitted):
        seen.append((done, len(taken)))

    with ThreadPoolExecutor(2) as pool:
        found = fit_all(jobs(), executor=pool, progress=progress, in_flight=2)
    check_same({job.name: fit(job) for job in some_jobs()}, found)
    assert [1, 2, 3, 4, 5] == [done for done, _ in seen]
    assert all(count <= done + 2 for done, count in seen)


def test_jobs_can_be_sent_and_come_back() -> None:
    job = some_jobs(1)[0]
    sent = pickle.loads(pickle.dumps(job))  # noqa: S301
    fitted = pickle.loads(pickle.dumps(fit(sent)))  # noqa: S301
    check_same({"layer0": fit(job)}, {"layer0": fitted})


def test_a_broken_executor_is_made_anew_or_done_without() -> None:
    expected = fit_all(some_jobs())
    made: list[Dying] = []

    def make() -> Dying:
        made.append(Dying(set() if made else {2}, BrokenExecutor("a worker died")))
        return made[-1]

    check_same(expected, fit_all(some_jobs(), executor=make, in_flight=3))
    assert 2 == len(made)
    alone = Dying({2}, BrokenExecutor("a worker died"))
    check_same(expected, fit_all(some_jobs(), executor=alone))
    assert 2 == alone.turn


def test_a_cluster_that_lives_gets_the_job_again() -> None:
    cluster = Dying({1, 3}, KilledWorker("layer"), breaks=False)
    check_same(fit_all(some_jobs()), fit_all(some_jobs(), executor=cluster))
    assert 7 == cluster.turn


def test_a_job_that_kills_every_worker_is_named() -> None:
    cluster = Dying(set(range(9)), KilledWorker("layer"), breaks=False)
    with pytest.raises(
        ArithmeticError, match=r"'layer\d', weights \(20, 48\), was under way 3 times"
    ):
        fit_all(some_jobs(), executor=cluster)


def test_a_job_that_fails_is_no_death() -> None:
    bad = replace(some_jobs(1)[0], weights=np.full((2, 48), np.nan))
    with ThreadPoolExecutor(1) as pool, pytest.raises(ValueError, match="'layer0' hold 96 NaN"):
        fit_all([bad], executor=pool)


def test_results_are_kept_and_found_by_what_the_job_is(tmp_path, monkeypatch) -> None:
    jobs = some_jobs()
    first = fit_each(jobs, folder=tmp_path / "kept")
    done = [next(first).name for _ in range(3)]
    first.close()
    assert ["layer0", "layer1", "layer2"] == done
    assert 3 == len(list((tmp_path / "kept").iterdir()))
    expected = fit_all(jobs)
    fitted_again: list[str] = []
    monkeypatch.setattr(
        "addax.passes.fit._crew.fit", lambda job: fitted_again.append(job.name) or fit(job)
    )
    check_same(expected, fit_all(jobs, folder=tmp_path / "kept"))
    assert ["layer3", "layer4"] == fitted_again
    fit_all([replace(jobs[0], name="other")], folder=tmp_path / "kept")
    assert ["layer3", "layer4"] == fitted_again
    for changed in (
        replace(jobs[0], options=FitOptions(damping=0.5)),
        replace(jobs[0], hessian=None),
        replace(jobs[0], weights=jobs[0].weights * 2),
        replace(jobs[0], format=Format.parse("binary3")),
    ):
        fit_all([changed], folder=tmp_path / "kept")
    assert ["layer3", "layer4", *["layer0"] * 4] == fitted_again


def test_a_file_that_was_cut_short_is_fitted_again(tmp_path) -> None:
    jobs = some_jobs(2)
    expected = fit_all(jobs, folder=tmp_path)
    for file, size in zip(sorted(tmp_path.iterdir()), (0, 500), strict=True):
        file.write_bytes(file.read_bytes()[:size])
    check_same(expected, fit_all(jobs, folder=tmp_path))
    assert 2 == len(list(tmp_path.iterdir()))


def test_a_folder_that_cannot_be_written_is_named(tmp_path, monkeypatch) -> None:
    (tmp_path / "file").write_text("in the way", "utf-8")
    with pytest.raises(OSError, match=r"a folder for fitted layers that can be made, got .*file"):
        fit_all(some_jobs(1), folder=tmp_path / "file")

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match=r"'layer0' could not be kept in .*No space left"):
        fit_all(some_jobs(1), folder=tmp_path / "full")
    assert not list((tmp_path / "full").iterdir())


def test_names_are_different_and_executors_can_run() -> None:
    with pytest.raises(ValueError, match="jobs of different names, got two for 'layer0'"):
        fit_all(some_jobs(1) * 2)
    with pytest.raises(ValueError, match="a function that makes one; got int"):
        fit_all(some_jobs(1), executor=7)


@pytest.mark.slow
@pytest.mark.slow
def test_a_worker_of_a_cluster_is_killed_and_nothing_is_lost(tmp_path) -> None:
    distributed = pytest.importorskip("distributed")
    jobs = some_jobs(6)
    expected = fit_all(jobs)
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None,
            local_directory=str(tmp_path),
        ) as cluster,
        distributed.Client(cluster) as client,
    ):  # fmt: skip
        victims = list(client.run(os.getpid).values())
        killed = threading.Event()

        def kill_one(done, fitted):
            if not killed.is_set():
                killed.set()
                os.kill(victims[0], signal.SIGKILL)

        found = fit_all(jobs, executor=client, progress=kill_one, in_flight=4)
    assert killed.is_set()
    check_same(expected, found)
