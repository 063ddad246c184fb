"""The Curse of Memory: kernels become targets, targets are fitted, fitted models are probed.

Public names stand in the order of the data flow.
"""

from cmlib import kernels, inputs, targets, parameterizations, models  # noqa: I001
from cmlib.hankel import hankel_singular_values
from cmlib.exponential_sums import ExponentialSum, balanced_truncation, exponential_sum
from cmlib.fixed_rates import FixedRateSum, fixed_rate_sum
from cmlib.training import FitResult, fit
from cmlib.gradient_flow import GradientFlow, KernelLoss, gradient_flow
from cmlib.adapters import Adapted, adapt
from cmlib.preflight import Preflight, preflight
from cmlib.memory import MemoryCurve, memory_function
from cmlib.decay import Decay, decay
from cmlib.traits import Traits, traits
from cmlib.stability import stability_radius
from cmlib.perturbation import PerturbationCurve, crossing, perturbation_error, stable_perturbation_radius
from cmlib.certificates import Certificate, certify
from cmlib.sensitivity import Sensitivity, sensitivity
from cmlib.budget import Budget
from cmlib.report import Report, report
from cmlib.loading import load_model
from cmlib import parts, protocols, sequence_maps, testing

__version__ = "0.2.0"
__all__ = [
    "kernels",
    "inputs",
    "targets",
    "parameterizations",
    "sequence_maps",
    "parts",
    "models",
    "ExponentialSum",
    "exponential_sum",
    "balanced_truncation",
    "FixedRateSum",
    "fixed_rate_sum",
    "hankel_singular_values",
    "FitResult",
    "fit",
    "KernelLoss",
    "GradientFlow",
    "gradient_flow",
    "Adapted",
    "adapt",
    "Preflight",
    "preflight",
    "MemoryCurve",
    "memory_function",
    "Decay",
    "decay",
    "Traits",
    "traits",
    "stability_radius",
    "PerturbationCurve",
    "perturbation_error",
    "stable_perturbation_radius",
    "crossing",
    "protocols",
    "Certificate",
    "certify",
    "Sensitivity",
    "sensitivity",
    "Budget",
    "Report",
    "report",
    "load_model",
    "testing",
]
