"""Measured costs: between the points of the grid, kept and read again, damaged or not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from addax.errors import ModelFileError
from addax.runtime import measured_costs
from addax.runtime.cost_table import CostTable, cost_table
from addax.runtime.measured_costs import MeasuredCosts, load, measure

ROWS, SIDES = (1, 8, 64), (64, 256)
TABLE = MeasuredCosts(
    "a processor",
    "avx512",
    "kernels 1",
    ROWS,
    SIDES,
    {"fp32": ((1e-6, 4e-6, 3e-5), (9e-6, 5e-5, 4e-4))},
)


def test_at_its_points_the_table_says_what_was_measured():
    for side, line in zip(SIDES, TABLE.seconds["fp32"], strict=True):
        for rows, seconds in zip(ROWS, line, strict=True):
            assert seconds == pytest.approx(TABLE.of("fp32", rows, side * side))


@given(st.integers(1, 10_000), st.integers(1, 10**8), st.integers(1, 100))
def test_more_rows_and_weights_never_take_less(rows, weights, more):
    at = TABLE.of("fp32", rows, weights)
    assert at <= TABLE.of("fp32", rows + more, weights) * (1 + 1e-12)
    assert at <= TABLE.of("fp32", rows, weights + more) * (1 + 1e-12)


def test_beyond_its_last_point_time_grows_in_proportion():
    last = TABLE.seconds["fp32"][-1][-1]
    assert 6 * last == pytest.approx(TABLE.of("fp32", 2 * 64, 3 * 256**2))


def test_what_was_not_measured_is_taken_from_what_is_shipped():
    assert TABLE.of("int8", 1, 64) is None
    table = CostTable("avx512", "", measured=TABLE)
    assert TABLE.of("fp32", 8, 4096) == table.seconds("fp32", 8, 4096, 0)
    assert table.seconds("int8", 8, 4096, 4096) == CostTable("avx512", "").seconds(
        "int8", 8, 4096, 4096
    )
    assert float("inf") == table.seconds("unheard-of", 1, 1, 1)


def test_kept_and_read_again(monkeypatch, tmp_path):
    monkeypatch.setenv("ADDAX_CACHE", str(tmp_path))
    assert load("avx512") is None
    path = TABLE.save()
    assert load("avx512") == TABLE
    assert load("neon") is None
    for damaged in ("{", "[]", path.read_text("utf-8").replace('"version": 1', '"version": 0')):
        path.write_text(damaged, "utf-8")
        assert load("avx512") is None


def test_a_cache_that_cannot_be_written(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ADDAX_CACHE", str(tmp_path / "file"))
    with pytest.raises(ModelFileError, match=r"expected to keep the cost table in .*; ADDAX_CACHE"):
        TABLE.save()


def test_what_is_timed_without_kernels(monkeypatch):
    monkeypatch.setattr(measured_costs, "_SECONDS", 0.0)
    said = []
    made = measure(None, "scalar", rows=(1, 4), sides=(64,), tell=lambda *at: said.append(at))
    assert {"fp32", "dynamic-int8"} == made.seconds.keys()
    assert all(each > 0 for grid in made.seconds.values() for line in grid for each in line)
    assert ("done", 1.0) == said[-1]


@pytest.mark.parametrize(
    ("target", "said"),
    [("linux-arm64", "a model for neondot, not measured"), ("cuda", None), ("webgpu", None)],
)
def test_tables_of_other_targets(target, said):
    table = cost_table(target)
    assert (said is None) == (table is None)
    if table is not None:
        assert said in table.about
        assert table.seconds("fp32", 1, 64, 256) > 0
