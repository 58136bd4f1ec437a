"""No small change to a rule goes unnoticed: the count of mutants killed, and who lives and why."""

import ast
import sys
from pathlib import Path

import pytest

from addax.passes import canonicalize_affine
from tests.mutation import mutants
from tests.mutation.report import LEAST, mutated, share, surveys, totals
from tests.mutation.survey import survey
from tests.mutation.survivors import PATH, complaints, read

SOURCE = '''
@rule("family/variant", match=EveryNode(is_odd), exact=Exact.BITWISE)
def build(op, x, y):
    """Text."""
    require(x < y and x, "no")
    if not x:
        decline("none")
    return op.Transpose(op.Add(x, op.Mul(y, -1) + 0.5), perm=[1, 0])
'''


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "family.py"
    path.write_text(SOURCE, "utf-8")
    return path


def test_what_is_changed(source: Path):
    changes = {(m.kind, m.line) for m in mutants.mutants_of(source)}
    assert {
        ("guard", 2), ("guard", 5), ("edge", 5), ("term", 5), ("guard", 6), ("scale", 8),
        ("sign", 8), ("attribute", 8),
    } == changes  # fmt: skip


def test_each_mutant_is_one_change_and_has_a_name_of_its_own(source: Path):
    found = mutants.mutants_of(source)
    original = ast.unparse(ast.parse(SOURCE))
    texts = []
    for mutant in found:
        tree = ast.parse(SOURCE)
        mutants.change(tree, mutant.number)
        texts.append(ast.unparse(tree))
        assert original != texts[-1]
        mutant.compile()
    assert len(found) == len(set(texts)) == len({m.key for m in found})


def test_a_function_is_found_by_its_first_line(source: Path):
    assert {2, None} == {m.starts for m in mutants.mutants_of(source)}


def test_a_changed_family_leaves_the_real_one_alone():
    before = sys.modules[canonicalize_affine.__name__]
    path = Path(str(canonicalize_affine.__file__))
    mutants.mutants_of(path)[0].compile()
    assert canonicalize_affine is before


def test_the_table_of_survivors_is_read():
    text = "# one reason\n# on two lines\na.f | sign | x -> y\nb.g | edge | < -> <=\n\n# other\nc"
    reasons = read(text)
    assert ["one reason on two lines", "one reason on two lines", "other"] == list(reasons.values())
    with pytest.raises(ValueError, match="expected one reason for each survivor"):
        read("a.f | sign | x -> y")


def test_every_listed_survivor_is_of_a_family():
    stems = {name.replace("-", "_") for name in mutated()}
    assert {key.partition(".")[0] for key in read(PATH.read_text("utf-8"))} <= stems


@pytest.mark.slow
def test_mutants_are_killed(capsys: pytest.CaptureFixture[str]):
    found = []
    for result in surveys(mutated(), jobs=2):
        found.append(result)
        with capsys.disabled():
            sys.stdout.write(f"\n{result}")
    with capsys.disabled():
        sys.stdout.write(f"\n{totals(found)}\n")
    assert [] == complaints(found, read(PATH.read_text("utf-8")))
    assert share(found) >= LEAST


@pytest.mark.slow
def test_a_survey_is_the_same_twice():
    first, second = (survey("canonicalize-einsum") for _ in range(2))
    assert first.killed == second.killed
    assert first.survivors == second.survivors
