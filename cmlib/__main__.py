"""The command line: `python -m cmlib report package.module:factory -o report.html`, and `python -m cmlib version`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

import cmlib
from cmlib.arguments import count, floating, positive
from cmlib.report import KINDS

OPTIONS = ("d_in", "n_steps", "budget", "amplitudes", "inputs", "dtype")  # that go to the report as they are


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status; argparse itself ends the process where the usage is wrong."""
    options = _parser().parse_args(arguments)
    if options.command == "version":
        print(cmlib.__version__)
        return 0
    asked = {name: getattr(options, name) for name in OPTIONS if getattr(options, name) is not None}
    if "amplitudes" in asked:
        asked["amplitudes"] = [sign * size for size in asked["amplitudes"] for sign in (-1, 1)]
    try:
        model = cmlib.load_model(options.model, options.checkpoint)
        found = cmlib.report(model, **asked)
        for path in (options.output, options.json):
            if path is not None:
                found.save(path)
    except Exception as error:  # the model is not ours: it may raise anything
        named = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        if "expected d_in" in named:
            named += "; --d-in N says it"
        print("cmlib:", " ".join(named.split()), file=sys.stderr)
        return 2
    print(found)
    return 0


def _parser() -> argparse.ArgumentParser:
    status = "exit status: 0 done; 2 wrong usage, or a model that cannot be loaded or measured, said in a line"
    parser = argparse.ArgumentParser("python -m cmlib", description="The memory of sequence models.", epilog=status)
    commands = parser.add_subparsers(dest="command", required=True)
    what = "measure the memory of a model of yours and write a page about it"
    report = commands.add_parser("report", help=what, description=what, epilog=status)
    report.add_argument(
        "model",
        metavar="package.module:factory",
        help="called without arguments, gives (batch, time, d_in) -> (batch, time, d_out); found from this folder too",
    )
    report.add_argument("-o", "--output", required=True, type=_page, metavar="PAGE.html", help="the page to write")
    report.add_argument("--json", type=_json, metavar="FILE.json", help="the same for programs")
    report.add_argument("--checkpoint", metavar="FILE", help="a state dict, loaded into the model")
    report.add_argument("--d-in", type=_count, metavar="N", help="input channels; left out, the model is asked")
    report.add_argument(
        "--steps", "--n-steps", dest="n_steps", type=_count, metavar="N", help="lags of the memory functions at first"
    )
    report.add_argument(
        "--seconds", dest="budget", type=_positive, metavar="S", help="what it may take, 60 unless said"
    )
    report.add_argument(
        "--amplitudes", nargs="+", type=_positive, metavar="X", help="sizes of the inputs tried, of both signs"
    )
    report.add_argument(
        "--input",
        dest="inputs",
        nargs="+",
        choices=KINDS,
        metavar="NAME",
        help=f"kinds of input, out of {', '.join(KINDS)}",
    )
    report.add_argument("--dtype", type=_dtype, metavar="NAME", help="to evaluate in: float64, float32, bfloat16, ...")
    commands.add_parser("version", help="print the version of cmlib", epilog=status)
    return parser


def _page(text: str) -> Path:
    return _path(text, ".html")


def _json(text: str) -> Path:
    return _path(text, ".json")


def _path(text: str, suffix: str) -> Path:
    # before the model is measured, which takes longer than a typing error deserves
    path = Path(text)
    if path.suffix != suffix or not path.parent.is_dir():
        raise argparse.ArgumentTypeError(
            f"expected a path that ends in {suffix}, in a folder that exists, got {text!r}"
        )
    return path


def _count(text: str) -> int:
    try:
        return count("it", int(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected an integer >= 1, got {text!r}") from None


def _positive(text: str) -> float:
    try:
        return positive("it", float(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a number > 0, got {text!r}") from None


def _dtype(text: str) -> torch.dtype:
    try:
        return floating("it", getattr(torch, text, None))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a floating-point dtype of torch, got {text!r}") from None


if __name__ == "__main__":
    sys.exit(main())
