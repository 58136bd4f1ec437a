"""What `optimize` was asked for: its options, checked, and the pipeline that they mean."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from addax.delivery import TARGETS, Delivery, delivery_to
from addax.errors import OptionError
from addax.passes._family import families, make_options
from addax.passes._int8_bits import Widths
from addax.passes._pipeline import Pipeline, Step

_SHIFT_ADD = "shift-add"
_INTEGERS = ("int8", "int8-attention")
_FOLD = "layernorm-reparam"


def choose_delivery(target: str, *, measure: bool = False) -> Delivery:
    """The way to the target that was asked for.

    Raises:
        OptionError: If there is no such target, or if `measure` does not fit it.
        MissingPackageError: If it needs TVM, and that is missing; for another machine `BuildError`.
    """
    _choose("target", target.partition("{")[0], TARGETS)
    delivery = delivery_to(target)
    if measure and not delivery.times_layers:
        fitting = ", ".join(name for name in TARGETS if delivery_to(name).times_layers)
        raise OptionError(
            f"measure=True times layers in ONNX Runtime on this machine, for one of the targets "
            f"{fitting}; got target={target!r}: leave measure out"
        )
    delivery.require()
    return delivery


def make_plan(
    allow: Sequence[str],
    calibration: Iterable[Any] | None,
    pipeline: str | None,
    fuel: int | None,
    settings: Mapping[str, Any],
) -> Pipeline:
    """The pipeline that options of `optimize` ask for; nothing is done before all are valid.

    `settings` are those of families that `optimize` has arguments for, by name.

    Raises:
        OptionError: If an option does not exist or does not fit the others.
    """
    if isinstance(allow, str):
        raise OptionError(f"allow takes a sequence of names, such as allow=({allow!r},)")
    # Of those that run anyway, options can be given.
    known = [f.name for f in families().values() if not f.is_exact or f.options is not None]
    allowed: dict[str, Step] = {}
    for text in allow:
        name, brace, _ = str(text).partition("{")
        _choose("allow", name, known)
        steps = Pipeline.parse(text).steps if brace else (Step(families()[name]),)
        allowed |= {step.family.name: step for step in steps}
    _set(allowed, settings)
    if fuel is not None and (not isinstance(fuel, int) or fuel < 0):
        raise OptionError(f"fuel must be a number of rewrites, 0 or more, or None; got {fuel!r}")
    if pipeline is not None:
        if allow:
            raise OptionError(
                "pipeline says exactly what runs, so allow has no use beside it; "
                f"add {', '.join(allow)} to the pipeline"
            )
        return Pipeline.parse(pipeline)
    needy = [
        name
        for name, step in allowed.items()
        if step.family.needs_calibration and not step.family.is_exact
    ]
    if calibration is None and needy:
        raise OptionError(f"{', '.join(needy)} needs calibration=batches of real inputs")
    asked = {*allowed, *(name for step in allowed.values() for name in step.family.brings)}
    chosen = [f for f in families().values() if f.is_exact or f.name in asked]
    return Pipeline(tuple(allowed.get(family.name, Step(family)) for family in chosen))


def _set(allowed: dict[str, Step], settings: Mapping[str, Any]) -> None:
    """Give the options that have an argument of their own to the family that they are for.

    Raises:
        OptionError: If that family is not allowed, or has the option in its text already.
    """
    given = {name: value for name, value in settings.items() if value is not None}
    if not given:
        return
    bits = given.get("bits")
    integers = [name for name in _INTEGERS if name in allowed]
    if integers and isinstance(bits, str) and (bits[:1] == "w" or _SHIFT_ADD not in allowed):
        _set_integers(allowed, integers, bits)
        del given["bits"]
    if given:
        _give(allowed, _SHIFT_ADD, given)


def _set_integers(allowed: dict[str, Step], names: Sequence[str], bits: str) -> None:
    """Bits such as "w4a4" to the families that make integers, and to the fold before them."""
    widths = Widths.parse(bits)
    for name in names:
        _give(allowed, name, {"bits": bits})
    if _FOLD in allowed and widths.is_narrow:
        had = dict(allowed[_FOLD].options)
        wanted = {"bits": widths.activations, "share": "best"}
        _give(allowed, _FOLD, {name: x for name, x in wanted.items() if name not in had})


def _give(allowed: dict[str, Step], family: str, given: Mapping[str, Any]) -> None:
    """Set options of a family.

    Raises:
        OptionError: If it is not allowed, or has one of them in its text already.
    """
    step = allowed.get(family)
    names = ", ".join(f"{name}=" for name in given)
    if step is None:
        raise OptionError(f"{names} is an option of allow=({family!r},), which is not allowed")
    if twice := given.keys() & dict(step.options).keys():
        raise OptionError(f"{', '.join(sorted(twice))} of {family} is given twice: {step}")
    options = dict(step.options) | dict(given)
    make_options(step.family, options)
    allowed[family] = Step(step.family, tuple(options.items()))


def _choose(option: str, name: Any, known: Sequence[str]) -> None:
    if name in known:
        return
    near = difflib.get_close_matches(str(name), known, 1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    choices = ", ".join(map(repr, known)) or "none"
    raise OptionError(f"{option}={name!r} does not exist{hint} (known: {choices})")
