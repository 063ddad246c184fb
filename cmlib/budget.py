"""Budget: how much a report may cost, what a stage will cost, and a stop when it is spent."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cmlib.arguments import MaybeInteger, Real, count, positive, stored
from cmlib.sequence_maps import evaluate


@dataclass(frozen=True)
class Budget:
    """What a report may cost; what does not fit is left out of it, and it says so.

    Args:
        seconds: on this machine, > 0.
        calls: evaluations of the model; None for as many as the seconds allow.

    Raises:
        ValueError: unless seconds > 0 and calls >= 1.

    >>> found = cmlib.report(models.LinearRNN([-0.5], [1.0], [1.0]), n_steps=32, budget=cmlib.Budget(calls=40))
    >>> "sensitivity" in dict(found.left_out)
    True
    """

    seconds: Real = 60.0
    calls: MaybeInteger = None

    def __post_init__(self):
        stored(self, seconds=positive("seconds", self.seconds))
        if self.calls is not None:
            stored(self, calls=count("calls", self.calls))


class Spent(BaseException):  # no Exception: what guards against a model's errors must not take it for one
    """The budget is spent."""


class Meter:
    """Counts the evaluations of a map against a budget, foretells what more of them take, and stops where it ends.

    Args:
        budget: a Budget, seconds, or None for 60 of them.
        progress: called with a line for each stage; True writes them to stderr, None does where that is a terminal.
    """

    def __init__(self, budget: Any, progress: Any):
        self.budget = budget if isinstance(budget, Budget) else Budget() if budget is None else Budget(budget)
        if progress is not None and not isinstance(progress, bool) and not callable(progress):
            raise ValueError(f"expected progress to be True, False or a function of a line, got {progress!r}")
        shown = sys.stderr.isatty() if progress is None else progress
        self.say: Callable[[str], Any] = progress if callable(progress) else _to_stderr if shown else lambda line: None
        self.calls, self.started, self.armed = 0, time.monotonic(), False
        self.left_out: dict[str, str] = {}
        # seconds of one evaluation of `batch` sequences: at * (steps / n)^power
        self.batch, self.n, self.at, self.power = 1, 1, 0.0, 1.0

    def seconds_left(self) -> float:
        return self.started + self.budget.seconds - time.monotonic()

    def calls_left(self) -> float:
        return np.inf if self.budget.calls is None else self.budget.calls - self.calls

    def check(self) -> None:
        """Stop what is running where the budget is spent.

        Raises:
            Spent: where it is.
        """
        if self.armed and (self.calls_left() < 1 or self.seconds_left() <= 0):
            raise Spent("the budget was spent while it ran")

    def tick(self, *_: Any) -> None:
        """Count an evaluation, before it begins."""
        self.check()
        self.calls += 1

    def __deepcopy__(self, memo: Any) -> "Meter":
        return self  # what a copy of a map is asked counts as well

    def metered(self, seq_map: Any, dtype: torch.dtype) -> Any:
        """Return a map that ticks each time it is evaluated; a module is changed in place, all else wrapped."""
        if isinstance(seq_map, nn.Module) and not isinstance(seq_map, torch.jit.ScriptModule):  # which takes no hooks
            seq_map.register_forward_pre_hook(self.tick)
            return seq_map

        def counted(x: Tensor) -> Any:
            self.tick()
            return seq_map(x.to(dtype))

        return counted

    def calibrate(self, seq_map: Any, x: Tensor) -> None:
        """Time two evaluations, of which one has a quarter of the steps."""
        evaluate(seq_map, x[:, :4])  # what is built at the first call is no part of it
        n, took = x.shape[1], []
        for steps in (max(n // 4, 4), n):
            began = time.monotonic()
            evaluate(seq_map, x[:, :steps])
            took.append(max(time.monotonic() - began, 1e-6))
        # a fixed cost of each call makes it look flatter than it becomes: it is taken to be linear at least
        self.batch, self.n, self.at = len(x), n, took[1]
        self.power = float(np.clip(np.log(took[1] / took[0]) / np.log(4.0), 1.0, 3.0))
        self.armed = True

    def seconds(self, steps: int, batch: int = 1, calls: float = 1) -> float:
        """Return what evaluations take; few sequences take as long as those that were timed."""
        return calls * self.at * max(steps / self.n, 0.1) ** self.power * max(batch / self.batch, 1.0)

    def run(self, name: str, work: Callable[[], Any], seconds: float = 0.0, calls: float = 0) -> Any:
        """Return what a stage gives, or None where it does not fit or the budget ends within it; `left_out` says so."""
        if not self._fits(name, seconds, calls):
            return None
        try:
            return work()
        except Spent as spent:
            self.note(name, str(spent))
            return None

    def note(self, name: str, why: str) -> None:
        """Remember and say what was left out."""
        if name not in self.left_out:
            self.say(f"{name}: left out, {why}")
        self.left_out[name] = why

    def _fits(self, name: str, seconds: float, calls: float) -> bool:
        if calls > self.calls_left():
            self.note(name, f"it takes {calls:.0f} evaluations of the model, and {self.calls_left():.0f} were left")
        elif seconds > self.seconds_left():
            self.note(name, f"it takes about {seconds:.0f} s, and {max(self.seconds_left(), 0):.0f} s were left")
        else:
            self.say(f"{name}, about {seconds:.1f} s" if seconds >= 0.1 else name)
            return True
        return False


def _to_stderr(line: str) -> None:
    sys.stderr.write(f"cmlib: {line}\n")
    sys.stderr.flush()
