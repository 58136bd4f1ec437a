"""Attention on bits without a filter becomes an operator where a kernel computes it."""

from pathlib import Path

import pytest

from addax.ir.statistics import HAS_KERNEL
from addax.passes._pipeline import Pipeline, run_pipeline
from addax.testing.cases import draw, read_file

CASES = read_file(Path(__file__).parent / "cases" / "binary-attention.fuse.txt")


@pytest.mark.parametrize(
    ("heading", "has_kernel", "reason"),
    [
        ("no filter", True, None),
        ("no filter", False, "there is no filter, and no kernel that would do without it"),
        ("a filter along the tokens, two heads, any number of tokens", False, None),
    ],
)
def test_without_a_filter_it_is_for_kernels_only(
    heading: str, has_kernel: bool, reason: str | None
) -> None:
    (case,) = (case for case in CASES if case.heading == heading)
    facts = {HAS_KERNEL: lambda _: has_kernel}
    statistics = run_pipeline(draw(case.text), Pipeline.parse("binary-attention"), facts=facts)
    assert statistics.applied == (reason is None)
    given = {why for entry in statistics.values() for why in entry.declined}
    assert given == (set() if reason is None else {reason})
