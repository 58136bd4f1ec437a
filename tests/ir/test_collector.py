"""The paused collector: what it leaves as it was, and that old graphs do not pile up."""

import gc
import weakref

import pytest

from addax.ir import collector


class Web:
    """An object in a cycle."""

    def __init__(self) -> None:
        self.me = self


def test_abandoned_cycles_are_collected_before_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collector, "_MANY", 5000)
    webs = []
    for _ in range(20):
        with collector.paused():
            made = [Web() for _ in range(1000)]
        webs.append(weakref.ref(made[0]))
        del made
    assert sum(web() is not None for web in webs) < 10


def test_a_collector_that_was_off_stays_off() -> None:
    gc.disable()
    try:
        with collector.paused():
            assert not gc.isenabled()
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_it_is_on_again_after_an_error() -> None:
    with pytest.raises(KeyError), collector.paused():
        raise KeyError
    assert gc.isenabled()
