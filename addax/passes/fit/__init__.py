"""Fitting a layer's weights to few bits: formats, jobs, error compensation, bit allocation.

Weights W[N, K] of y = x W^T, second moments H = E[x x^T]; a format's codes stand for D. What is
made small is the error of the outputs, tr((W - D) H (W - D)^T). Nothing here knows about graphs.

Source      OPTQ (2210.17323), ShiftAddLLM (2406.05981), QuantEase (2309.01885)
"""

from addax.passes.fit._allocate import Choice, Plan, allocate
from addax.passes.fit._crew import fit_all, fit_each
from addax.passes.fit._format import Format
from addax.passes.fit._importance import allocate_by_importance, paper_importance
from addax.passes.fit._integers import compensated_integers
from addax.passes.fit._job import FitOptions, Fitted, Job
from addax.passes.fit._layer import fit

__all__ = [
    "Choice",
    "FitOptions",
    "Fitted",
    "Format",
    "Job",
    "Plan",
    "allocate",
    "allocate_by_importance",
    "compensated_integers",
    "fit",
    "fit_all",
    "fit_each",
    "paper_importance",
]
