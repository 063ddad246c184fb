"""Defects of the library that the chapter on the escape from plateaus must notice."""

CHAPTER = "linear/plateau-proof"


def late_event(right):
    return lambda self, delta, of="loss": 1.01 * right(self, delta, of)


def wider_bump(right):
    return lambda self, t: right(self, self.center + (t - self.center) / 2)


DEFECTS = {
    "events-one-percent-late": (
        CHAPTER,
        "cmlib.gradient_flow.GradientFlow.hitting_time",
        late_event,
        "hitting times one per cent too late",
    ),
    "bump-twice-as-wide": (
        CHAPTER,
        "cmlib.kernels.Bump.__call__",
        wider_bump,
        "values of a bump twice as wide as its moments say",
    ),
}
