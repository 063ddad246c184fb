"""Defects of the library that the chapter What a plateau depends on must notice."""

CHAPTER = "linear/plateau-causes"


def heard_too_faintly(right):
    return lambda self, s: right(self, 0.0) * (right(self, s) / right(self, 0.0)) ** 1.05


def higher_bump(right):
    return lambda self, t: 1.1 * right(self, t)


DEFECTS = {
    "bump-heard-too-faintly": (
        CHAPTER,
        "cmlib.kernels.Bump.laplace",
        heard_too_faintly,
        "the Laplace transform of a bump falls five per cent too fast",
    ),
    "higher-bump": (CHAPTER, "cmlib.kernels.Bump.__call__", higher_bump, "a bump a tenth too high"),
}
