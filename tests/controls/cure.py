"""Defects of the library that the chapters on the normalised readout must notice."""

import torch

COMPLETED, EXTENDED = "stable/cure-completed", "stable/cure-extended"


def of_the_l2_norm(right):
    rates = {"l1": lambda rate: torch.sqrt(2 * rate), "l2": lambda rate: torch.sqrt(2 * rate)}

    def c(self):
        return rates.get(self.norm, lambda rate: rate)(-self.parameterization(self.W)) * self.gamma

    return property(c)


def slow_modes_alone(right):
    def c(self):
        rate = -self.parameterization(self.W)
        return (rate if self.norm == "w1" else rate / (1 + rate)) * self.gamma

    return property(c)


def forgets_the_slowest(right):
    def realization(self):
        W, U, c = right(self)
        return W, U * (torch.arange(len(U)) > 0), c

    return realization


DEFECTS = {
    "normalised-in-the-wrong-norm": (
        COMPLETED,
        "cmlib.models.normalized_rnn.NormalizedRNN.c",
        of_the_l2_norm,
        "the readout has the factor sqrt(2 lambda) where lambda was asked for",
    ),
    "network-without-its-slowest-mode": (
        COMPLETED,
        "cmlib.models.linear_rnn.LinearRNN.realization",
        forgets_the_slowest,
        "the realization leaves out the slowest mode",
    ),
    "factors-exchanged": (
        EXTENDED,
        "cmlib.models.normalized_rnn.NormalizedRNN.c",
        slow_modes_alone,
        "the factors for L1 and for W1 are exchanged",
    ),
}
