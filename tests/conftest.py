"""What every test may use: goldens, Hypothesis profiles, CPU features, one thread a library."""

import os
import re
from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest

# Tests that make passes raise on purpose leave no folders behind.
os.environ.setdefault("ADDAX_REPRO", "")

GOLDEN = Path(__file__).parent / "golden"

# Derandomised and without a database: a failure on one machine fails on every machine.
hypothesis.settings.register_profile(
    "ci",
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=25,
    suppress_health_check=[hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.data_too_large],
)
hypothesis.settings.register_profile(
    "nightly", parent=hypothesis.settings.get_profile("ci"), derandomize=False, max_examples=1000
)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden", action="store_true", help="write what the tests made to tests/golden"
    )


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("isa"):
        missing = [feature for feature in mark.args if feature not in cpu_features()]
        if missing:
            pytest.skip(f"this CPU has no {', '.join(missing)}")


def cpu_features() -> frozenset[str]:
    """The features that the kernel reports, in its spelling (`avx512_vnni`, `asimddp`)."""
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return frozenset()
    line = re.search(r"^(?:flags|Features)\s*:(.*)$", path.read_text("utf-8"), re.MULTILINE)
    return frozenset(line[1].split()) if line else frozenset()


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """`golden("passes/cleanup.cast.txt", text)`: the text is what the file of that name says."""
    update = request.config.getoption("--update-golden")

    def check(name: str, text: str) -> None:
        path = GOLDEN / name
        text = text.rstrip("\n") + "\n"
        if update:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            return
        if not path.exists():
            pytest.fail(f"there is no golden {name}: run with --update-golden and read the diff")
        assert path.read_text("utf-8") == text, (
            f"{name} differs: run with --update-golden if the change is meant, and read the diff"
        )

    return check
