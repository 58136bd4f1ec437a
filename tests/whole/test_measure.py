"""Laws of the measuring harness: none of them depends on how fast this machine is."""

import json
import math
import subprocess
import sys
import threading
import time
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.measure import (
    Spread,
    Timings,
    arguments,
    emit_json,
    interleave,
    machine,
    peak_memory,
    table,
    timing_table,
)

seconds = st.floats(1e-9, 1e3)
samples = st.lists(seconds, min_size=1, max_size=30)


def timings(**wall: list[float]) -> Timings:
    arrays = {name: np.array(sample) for name, sample in wall.items()}
    return Timings(cpu=arrays, process=arrays, wall=arrays, calls=dict.fromkeys(arrays, 1))


@given(samples)
def test_spread_is_ordered_and_within_the_sample(sample: list[float]) -> None:
    spread = Spread.of(sample)
    slack = 1 + 1e-12
    assert min(sample) / slack <= spread.p10 <= spread.p50 * slack
    assert spread.p50 <= spread.p90 * slack <= max(sample) * slack**2


@given(samples)
def test_identical_contenders_have_ratio_one(sample: list[float]) -> None:
    assert timings(a=sample, b=sample).ratio("a", "b") == Spread(1, 1, 1)


@given(samples, st.floats(0.01, 100))
def test_ratio_is_of_the_same_round(sample: list[float], factor: float) -> None:
    """Rounds may differ by any amount: a contender that always takes twice as long shows 2."""
    found = timings(a=[s * factor for s in sample], b=sample).ratio("a", "b")
    np.testing.assert_allclose([found.p10, found.p50, found.p90], factor)


@given(st.lists(st.tuples(seconds, seconds), min_size=1, max_size=9))
def test_ratios_of_a_pair_are_inverse(rounds: list[tuple[float, float]]) -> None:
    # With an odd number of rounds the median is one of them, so its inverse is the median's.
    a, b = (list(column) for column in zip(*rounds, strict=True))
    if len(rounds) % 2:
        ratios = timings(a=a, b=b).ratios()
        assert math.isclose(ratios["a", "b"].p50 * ratios["b", "a"].p50, 1)


def test_contenders_take_turns_in_rotating_order() -> None:
    log: list[str] = []
    found = interleave({n: lambda n=n: log.append(n) for n in "abc"}, rounds=4, min_time=0)
    rounds = ["".join(log[-12 + 3 * i :][:3]) for i in range(4)]
    assert rounds == ["abc", "bca", "cab", "abc"]
    assert found.calls == {"a": 1, "b": 1, "c": 1}
    assert {len(sample) for sample in found.wall.values()} == {4}


def test_a_slot_fills_the_least_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]

    def contender() -> None:
        now[0] += 0.001

    clock = SimpleNamespace(**dict.fromkeys(dir(time), lambda: now[0]))
    monkeypatch.setattr("bench.measure._timing.time", clock)
    found = interleave({"one millisecond": contender}, rounds=2, min_time=0.0025)
    assert found.calls["one millisecond"] == 3
    np.testing.assert_allclose([0.001, 0.001], found.wall["one millisecond"])


def test_identical_work_is_about_equal() -> None:
    work = {name: lambda: sum(range(2000)) for name in ("one", "other")}
    found = interleave(work, rounds=15, min_time=0.002)
    spread = found.ratio("one", "other", "cpu")
    assert spread.p10 < 1.2
    assert spread.p90 > 0.8


def test_work_on_other_threads_is_noticed() -> None:
    def elsewhere() -> None:
        thread = threading.Thread(target=lambda: sum(range(100_000)))
        thread.start()
        thread.join()

    found = interleave(
        {"here": lambda: sum(range(100_000)), "there": elsewhere}, rounds=3, min_time=0
    )
    assert (found.threaded("here"), found.threaded("there")) == (False, True)
    assert found.clock() == "wall"


@pytest.mark.parametrize(("names", "rounds"), [("", 3), ("a", 0)])
def test_nothing_to_time_is_refused(names: str, rounds: int) -> None:
    with pytest.raises(ValueError, match="expected contenders and rounds >= 1, got"):
        interleave(dict.fromkeys(names, int), rounds=rounds)


def test_figures_are_json(capsys: pytest.CaptureFixture[str]) -> None:
    found = timings(a=[1.0, 2.0], b=[2.0, 4.0])
    timing_table("two", found, baseline="b")
    emit_json("demo", {"time": found.figures("b"), "spread": Spread(1, 2, 3)}, seed=7)
    *page, last = capsys.readouterr().out.splitlines()
    line = json.loads(last)
    assert (line["bench"], line["seed"]) == ("demo", 7)
    assert line["figures"]["time"]["a"]["ratio"] == {"p10": 0.5, "p50": 0.5, "p90": 0.5}
    assert line["figures"]["spread"] == {"p10": 1, "p50": 2, "p90": 3}
    assert line["machine"] == json.loads(json.dumps(machine())) | {"load": line["machine"]["load"]}
    assert any("over b" in row for row in page)


def test_a_figure_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        emit_json("demo", {"ratio": math.nan})
    with pytest.raises(TypeError, match="expected a figure, got set"):
        emit_json("demo", {"names": {"a"}})


def test_a_table_has_every_key_as_a_column(capsys: pytest.CaptureFixture[str]) -> None:
    table("sizes", [{"name": "a", "bytes": 3}, {"name": "b", "share": 0.25}])
    page = capsys.readouterr().out
    assert [word in page for word in ("sizes", "name", "bytes", "share", "0.25")] == [True] * 5


def test_every_bench_has_a_quick_form_and_a_seed() -> None:
    options = arguments("demo").parse_args(["--quick", "--seed", "3"])
    assert (options.quick, options.seed) == (True, 3)


def test_peak_memory_is_the_childs_not_ours() -> None:
    ours = np.ones(60_000_000, np.uint8)
    base = peak_memory([sys.executable, "-c", "pass"])
    more = peak_memory([sys.executable, "-c", "x = b'1' * 40_000_000; print(len(x))"])
    assert base.bytes < len(ours)
    assert [0, 0] == [base.status, more.status]
    assert more.output == "40000000\n"
    assert 38_000_000 < more.bytes - base.bytes < 48_000_000
    assert more.seconds > 0


def test_peak_memory_reports_failure_and_its_limit() -> None:
    assert peak_memory([sys.executable, "-c", "raise SystemExit(3)"]).status == 3
    with pytest.raises(RuntimeError, match="could not start 'no-such-program'"):
        peak_memory(["no-such-program"])
    with pytest.raises(subprocess.TimeoutExpired):
        peak_memory([sys.executable, "-c", "import time; time.sleep(60)"], timeout=0.2)


def test_rotation_gives_everyone_every_place() -> None:
    log: list[str] = []
    interleave({n: lambda n=n: log.append(n) for n in "abcd"}, rounds=4, min_time=0)
    rounds = [log[-16 + 4 * i :][:4] for i in range(4)]
    assert all(after[0] == before[1] for before, after in pairwise(rounds))
