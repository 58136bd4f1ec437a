"""How many bits each layer gets: one number for all, or a choice for each under a budget."""

from collections.abc import Mapping, Sequence

from addax.passes._shift.fitting import Fitter, Trial
from addax.passes._shift.targets import Group, Target
from addax.passes.fit import Choice, Format, Plan, allocate

BY_BITS = {2: ("binary2", "fitted2"), 3: ("binary3",), 4: ("fitted4", "uniform4")}


def formats_of(bits: float | str) -> tuple[Format, ...] | None:
    """The formats to try where `bits` says which; None where there is a choice to make."""
    if isinstance(bits, str):
        return None if bits == "auto" else (Format.parse(bits),)
    names = BY_BITS.get(int(bits)) if float(bits).is_integer() else None
    return None if names is None else tuple(map(Format.parse, names))


def all_formats() -> tuple[Format, ...]:
    """Every format that a choice is made among."""
    return tuple(Format.parse(name) for names in BY_BITS.values() for name in names)


def plan_formats(
    groups: Sequence[Group],
    formats: Mapping[str, Sequence[Format]],
    fitter: Fitter,
    *,
    mean_bits: float | None,
    max_bytes: float | None,
    max_error: float | None,
) -> tuple[dict[Target, Format], str]:
    """One of its formats for each layer, by its error in each; and what no choice can meet.

    The error of a plan is the sum over layers of the squared relative errors of their outputs. It
    is made least within `mean_bits` a weight or `max_bytes` in all; without these two, the bytes
    are made least with a mean of at most `max_error`^2.
    """
    curves: dict[str, list[Choice]] = {}
    for group in groups:
        for target, trials in fitter.trials([group], formats).items():
            if trials:
                curves[target.name] = [
                    _choice(trial, by_codes=mean_bits is not None) for trial in trials
                ]
    targets = {t.name: t for group in groups for t in group.targets if t.name in curves}
    plan = _allocate(curves, targets, mean_bits, max_bytes, max_error)
    chosen = {targets[name]: Format.parse(choice.label) for name, choice in plan.items()}
    return chosen, plan.reason


def _allocate(
    curves: Mapping[str, Sequence[Choice]],
    targets: Mapping[str, Target],
    mean_bits: float | None,
    max_bytes: float | None,
    max_error: float | None,
) -> Plan:
    limit = None if max_error is None else max_error**2 * len(curves)
    if mean_bits is not None:
        weights = sum(target.size[0] * target.size[1] for target in targets.values())
        return allocate(curves, max_bytes=mean_bits * weights, max_error=limit)
    if max_bytes is not None:
        return allocate(curves, max_bytes=max_bytes, max_error=limit)
    return allocate(curves, max_error=limit, objective="bytes")


def _choice(trial: Trial, *, by_codes: bool) -> Choice:
    """What a layer's format costs: the bits of its codes alone, or all its bytes."""
    made, (outputs, inner) = trial.fitted, trial.target.size
    size = outputs * inner * made.format.bits if by_codes else made.bytes
    return Choice(str(made.format), size, trial.error**2)
