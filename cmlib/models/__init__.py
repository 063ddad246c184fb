"""Models: sequence maps (batch, time, d_in) -> (batch, time, d_out) with trained weights.

Time step k holds its input over [k dt, (k + 1) dt), and output k is read at the end of it.
"""

from cmlib.models.linear_rnn import LinearRNN
from cmlib.models.normalized_rnn import NormalizedRNN
from cmlib.models.recurrent import RecurrentModel, is_recurrent
from cmlib.models.rnn import ACTIVATIONS, RNN, Activation
from cmlib.models.s4d import S4D
from cmlib.models.ssm import SSM

__all__ = [
    "LinearRNN",
    "NormalizedRNN",
    "RNN",
    "SSM",
    "S4D",
    "RecurrentModel",
    "is_recurrent",
    "ACTIVATIONS",
    "Activation",
]
