"""Small networks in the form in which they are trained, each beside its hand-folded structure.

    for form in train_forms.FORMS:
        module = form.build(seed=0)
        ideal = Counts.of(to_ir(form.build_ideal(), form.inputs()))

They are what `tests/whole/test_train_forms.py` holds `addax.optimize` to, and what `bench.reparam`
compares tools on.
"""

from bench.train_forms import convolutions, depth, hybrids, idle, linears, sequences, traps
from bench.train_forms._form import Counts, TrainForm

__all__ = ["FORMS", "Counts", "TrainForm", "form"]

FORMS: tuple[TrainForm, ...] = (
    *convolutions.FORMS,
    *sequences.FORMS,
    *hybrids.FORMS,
    *linears.FORMS,
    *idle.FORMS,
    *depth.FORMS,
    *traps.FORMS,
)


def form(name: str) -> TrainForm:
    """The train form of that name.

    Raises:
        KeyError: there is none.
    """
    known = {form.name: form for form in FORMS}
    if name not in known:
        raise KeyError(f"expected one of {', '.join(known)}; got {name!r}")
    return known[name]
