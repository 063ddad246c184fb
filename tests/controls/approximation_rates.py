"""Defects of the library that the chapter on approximation rates must notice."""

CHAPTER = "linear/approximation-rates"


def slower(fixed_rate_sum):
    return lambda kernel, m, rate: fixed_rate_sum(kernel, m, rate / m)


DEFECTS = {
    "areas-that-cancel": (
        CHAPTER,
        "cmlib.areas.sign_changes",
        lambda right: lambda *args: right(*args)[:1],
        "areas between kernels that cross cancel",
    ),
    "rates-too-slow": (
        CHAPTER,
        "cmlib.fixed_rates.fixed_rate_sum",
        slower,
        "fixed rates that shrink with the width",
    ),
    "norms-of-the-basis": (
        CHAPTER,
        "cmlib.fixed_rates._rates",
        lambda right: lambda rate, m: right(rate, m) * (1 + 0.01 * (right(1.0, m) > 3)),
        "the basis of fixed rates with wrong norms and rates from the fourth on",
    ),
}
