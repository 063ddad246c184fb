"""The Curse of Memory: kernels become targets, targets are fitted, fitted models are probed.

Public names stand in the order of the data flow.
"""

from cmlib import kernels, inputs, parameterizations, targets, models  # noqa: I001
from cmlib.exponential_sums import ExponentialSum, balanced_truncation, exponential_sum, hankel_singular_values
from cmlib.fitting import FitResult, GradientFlow, KernelLoss, fit, gradient_flow
from cmlib.memory import Decay, MemoryCurve, decay, memory_function
from cmlib.stability import (
    PerturbationCurve,
    crossing,
    perturbation_error,
    stability_radius,
    stable_perturbation_radius,
)
from cmlib.probing import Report, load_model, report
from cmlib import reviews, images, figures, claims, ensembles
from cmlib.ensembles import Rows, ensemble

__version__ = "0.1.0"
__all__ = [
    "kernels",
    "inputs",
    "parameterizations",
    "targets",
    "models",
    "ExponentialSum",
    "exponential_sum",
    "balanced_truncation",
    "hankel_singular_values",
    "FitResult",
    "GradientFlow",
    "KernelLoss",
    "fit",
    "gradient_flow",
    "MemoryCurve",
    "memory_function",
    "Decay",
    "decay",
    "PerturbationCurve",
    "crossing",
    "perturbation_error",
    "stability_radius",
    "stable_perturbation_radius",
    "Report",
    "report",
    "load_model",
    "reviews",
    "images",
    "figures",
    "claims",
    "ensembles",
    "Rows",
    "ensemble",
]
