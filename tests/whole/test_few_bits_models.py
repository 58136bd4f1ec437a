"""DeiT-Tiny in 4 and 6 bits, all ranges known beforehand: what is left of it on other images."""

import numpy as np
import pytest

from bench import zoo
from bench.integers import TASKS, Source, runner

FORMS = ("layernorm-reparam", "int8", "int8-attention", "log2-softmax")


@pytest.mark.slow
@pytest.mark.skipif("deit-tiny" in zoo.missing(), reason="the weights of deit-tiny are not here")
def test_deit_tiny_in_4_and_6_bits_keeps_its_classes():
    task = TASKS["deit-tiny"](0, None)
    source = Source(task)
    targets = np.concatenate([batch.targets for batch in task.judging])

    def classes(*allow: str, bits: str | None = None) -> np.ndarray:
        predict = runner(source.made(*allow, target="host", bits=bits))
        return np.concatenate([predict(*batch.inputs).argmax(1) for batch in task.judging])

    exact = classes()
    found = {bits: classes(*FORMS, bits=bits) for bits in ("w4a4", "w6a6")}
    top1 = {bits: 100 * np.mean(made == targets) for bits, made in found.items()}
    same = {bits: 100 * np.mean(made == exact) for bits, made in found.items()}
    assert top1["w4a4"] >= 68
    assert same["w4a4"] >= 75
    assert top1["w6a6"] >= 100 * np.mean(exact == targets) - 1
    assert same["w6a6"] >= 90
