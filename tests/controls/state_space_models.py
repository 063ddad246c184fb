"""Defects of the library that the chapter on state-space models must notice."""

import dataclasses

import torch

CHAPTER = "stable/state-space-models"


def one_round_short(right):
    """The scan without its last doubling."""

    def linear_scan(A, drive):
        h, reach = drive, 1
        while 2 * reach < drive.shape[1]:
            h = torch.cat([h[:, :reach], h[:, reach:] + A[:, reach:] * h[:, :-reach]], 1)
            A = torch.cat([A[:, :reach], A[:, reach:] * A[:, :-reach]], 1)
            reach *= 2
        return h

    return linear_scan


def half_the_push(right):
    def errors(ball, distance, beta, directions):
        return right(ball, distance, beta / 2, directions)

    return errors


def against_the_first_input(right):
    """The supremum over inputs is that of the first one."""

    def begin(self, model, target, inputs, *others):
        right(self, model, target, inputs[:1], *others)

    return begin


def of_the_last_input(right):
    """The memory function of the last amplitude instead of the largest over all of them."""

    def memory_function(*args, amplitudes, **options):
        return right(*args, amplitudes=amplitudes[-1:], **options)

    return memory_function


def rates_left_alone(right):
    def public_perturbation(*args, shifted=None, **options):
        return right(*args, **options)

    return public_perturbation


DEFECTS = {
    "scan-one-round-short": (
        CHAPTER,
        "cmlib.sequence_maps.linear_scan",
        one_round_short,
        "the scan lacks its last round",
    ),
    "wrapped-convolution": (
        CHAPTER,
        "cmlib.sequence_maps.causal_convolution",
        lambda right: lambda w, x: torch.fft.irfft(torch.fft.rfft(w) * torch.fft.rfft(x), x.shape[-1]),
        "an FFT without padding, in which the end reaches the beginning",
    ),
    "input-not-held": (
        CHAPTER,
        "cmlib.models.weights.expm1_over",
        lambda right: torch.ones_like,
        "Euler's input weight instead of that of inputs held over a step",
    ),
    "pushed-half-as-far": (CHAPTER, "cmlib.worst_case.Ball.errors", half_the_push, "pushes of half the radius"),
    "supremum-of-one-input": (
        CHAPTER,
        "cmlib.distances.SequenceDistance.__init__",
        against_the_first_input,
        "the error on the first input instead of the largest",
    ),
    "exp-with-the-other-sign": (
        CHAPTER,
        "cmlib.parameterizations.Exp.forward",
        lambda right: lambda self, w: right(self, -w),
        "lambda = -exp(-w)",
    ),
    "rates-not-shifted": (
        CHAPTER,
        "cmlib.protocols.public_perturbation",
        rates_left_alone,
        "the public protocol with noise on the rates in place of a shift",
    ),
    "everything-fades": (
        CHAPTER,
        "cmlib.decay.decay",
        lambda right: lambda curve, **options: dataclasses.replace(right(curve, **options), kind="exponential"),
        "every memory is called exponential",
    ),
    "memory-of-one-input": (
        CHAPTER,
        "cmlib.memory.memory_function",
        of_the_last_input,
        "the memory function of one input, not the supremum",
    ),
}
