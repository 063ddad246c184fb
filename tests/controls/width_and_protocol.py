"""Defects of the library that the chapter on width and protocol must notice."""

import torch

CHAPTER = "nonlinear/width-and-protocol"


def never_climbs(right):
    def ascend(self, distance, beta, reachable, directions, best):
        return torch.zeros(len(beta), 1, dtype=torch.float64)

    return ascend


def by_entries(right):
    def perturbation_error(*args, **keywords):
        return right(*args, **keywords | {"ball": "entrywise"})

    return perturbation_error


DEFECTS = {
    "never-climbs": (CHAPTER, "cmlib.worst_case.Ball.ascend", never_climbs, "the worst push is the worst of three"),
    "moved-by-entries": (
        CHAPTER,
        "cmlib.perturbation.perturbation_error",
        by_entries,
        "every entry moves by beta in place of every weight in its spectral norm",
    ),
}
