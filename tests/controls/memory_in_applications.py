"""Defects of the library that the chapter on memory in applications must notice."""

import dataclasses

import numpy as np

CHAPTER = "nonlinear/memory-in-applications"


def minority_verdicts(made_reviews):
    def wrong(*args, **options):
        made = made_reviews(*args, **options)
        return dataclasses.replace(made, verdicts=1 - made.verdicts)

    return wrong


def last_word_lost(encode):
    def wrong(self, texts, longest):
        return encode(self, [text.rsplit(" ", 1)[0] for text in texts], longest)

    return wrong


def rates_per_two_steps(decay):
    def wrong(curve, **options):
        found = decay(curve, **options)
        low, high = found.rate_interval
        return dataclasses.replace(found, rate=2 * found.rate, rate_interval=(2 * low, 2 * high))

    return wrong


def early_window(decay):
    def wrong(curve, **options):
        first = len(curve.t) // 8
        return decay(
            dataclasses.replace(
                curve, t=curve.t[:first], values=curve.values[:first], responses=curve.responses[:, :first]
            ),
            **options,
        )

    return wrong


def powers_first(decay):
    def wrong(curve, **options):
        return decay(dataclasses.replace(curve, t=np.log(curve.t)), **options)

    return wrong


DEFECTS = {
    "minority-verdicts": (
        CHAPTER,
        "cmlib.chapter.reviews.made_reviews",
        minority_verdicts,
        "verdicts go with the minority",
    ),
    "last-word-lost": (CHAPTER, "cmlib.chapter.reviews.Vocabulary.encode", last_word_lost, "the last word is not read"),
    "rates-per-two-steps": (CHAPTER, "cmlib.decay.decay", rates_per_two_steps, "rates of decay twice what they are"),
    "decay-on-early-window": (CHAPTER, "cmlib.decay.decay", early_window, "decay is judged on the first eighth"),
    "decay-on-log-time": (CHAPTER, "cmlib.decay.decay", powers_first, "decay is regressed on the logarithm of time"),
}
