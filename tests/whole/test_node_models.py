"""The models that onnx ships with their outputs: optimized, they still give them.

Judged by the NumPy evaluator in the model's own types, within what onnx allows each case.
"""

import warnings
from collections import Counter
from pathlib import Path

import onnx
import pytest
from onnx.backend.test.loader import load_model_tests

import addax
from addax.errors import AddaxError, UnsupportedOpError
from addax.frontend import to_ir
from addax.ir.verify import verify
from tests.ir.test_evaluate_onnx_tests import RANDOM, UNKNOWN, _check, _stored

FAST = 12  # every twelfth case is in the fast suite
KINDS = ("simple", "pytorch-converted", "pytorch-operator")


def node_cases():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for case in load_model_tests(kind="node"):
            yield case, case.model, case.data_sets


def stored_cases(kind):
    for case in load_model_tests(kind=kind):
        folder = Path(case.model_dir)
        proto = onnx.load(folder / "model.onnx")
        graph = to_ir(proto).graph
        sets = []
        for data in sorted(folder.glob("test_data_set_*")):
            inputs = [_stored(data / f"input_{k}.pb", v) for k, v in enumerate(graph.inputs)]
            outputs = [_stored(data / f"output_{k}.pb", v) for k, v in enumerate(graph.outputs)]
            sets.append((inputs, outputs))
        yield case, proto, sets


def outcome(case, proto, data_sets):
    """What became of a case: "same", "random" (no meaning to compare), or what went wrong."""
    try:
        made = addax.optimize(proto)
        verify(made.model)
        for inputs, outputs in data_sets:
            _check(made.model, inputs, outputs, None, case)
    except UnsupportedOpError as error:
        return "random" if case.name in RANDOM | UNKNOWN else f"refused: {error}"
    except AddaxError as error:
        return f"refused: {error}"
    except Exception as error:
        return f"wrong: {type(error).__name__}: {error}"
    return "same"


def unequal(outcomes):
    return {name: text for name, text in outcomes.items() if text not in ("same", "random")}


def test_a_spread_of_node_tests():
    cases = [found for number, found in enumerate(node_cases()) if number % FAST == 0]
    assert len(cases) > 150
    outcomes = {case.name: outcome(case, *rest) for case, *rest in cases}
    assert {} == unequal(outcomes)


@pytest.mark.slow
def test_all_node_tests():
    outcomes = {case.name: outcome(case, *rest) for case, *rest in node_cases()}
    counts = Counter(outcomes.values())
    assert len(RANDOM) == counts.pop("random")
    assert counts.pop("same") > 1000
    assert Counter() == counts


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_stored_models(kind):
    outcomes = {case.name: outcome(case, *rest) for case, *rest in stored_cases(kind)}
    assert {} == unequal(outcomes)
    assert len(outcomes) > 10
