"""Passes look into graphs and functions of the user, and not into what the dialect means."""

from addax.ir.dialect import install, operators
from addax.ir.model import scopes
from addax.ir.parser import parse_text
from addax.passes._scopes import open_scopes

TEXT = """<ir_version: 10, opset_import: ["": 20, "mine": 1, "addax": 1]>
g (float[2] x) => (float[2] y) { y = mine.twice(x) }
<domain: "mine", opset_import: ["": 20]>
twice (a) => (b) { b = Add(a, a) }"""


def test_bodies_of_the_dialect_are_closed() -> None:
    model = parse_text(TEXT)
    everything = list(scopes(model))
    assert everything == list(open_scopes(model))
    assert 2 == len(everything)
    install(model, operators()["MoeSelect"])
    assert len(everything) < len(list(scopes(model)))
    assert everything == list(open_scopes(model))
