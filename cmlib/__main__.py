"""The command line: `python -m cmlib report package.module:factory -o report.html`, and `python -m cmlib version`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import cmlib
from cmlib.arguments import count


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status; argparse itself ends the process where the usage is wrong."""
    options = _parser().parse_args(arguments)
    if options.command == "version":
        print(cmlib.__version__)
        return 0
    given = {name: getattr(options, name) for name in ("d_in", "n_steps")}
    try:
        model = cmlib.load_model(options.model, options.checkpoint)
        found = cmlib.report(model, **{name: value for name, value in given.items() if value is not None})
        found.save(options.output)
    except Exception as error:  # the model is not ours: it may raise anything
        named = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
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
    report.add_argument("--checkpoint", metavar="FILE", help="a state dict, loaded into the model")
    report.add_argument("--d-in", type=_count, metavar="N", help="input channels; left out, the model is asked")
    report.add_argument("--n-steps", type=_count, metavar="N", help="lags of the memory functions")
    commands.add_parser("version", help="print the version of cmlib", epilog=status)
    return parser


def _page(text: str) -> Path:
    # before the model is measured, which takes longer than a typing error deserves
    path = Path(text)
    if path.suffix != ".html" or not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"expected a path that ends in .html, in a folder that exists, got {text!r}")
    return path


def _count(text: str) -> int:
    try:
        return count("it", int(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected an integer >= 1, got {text!r}") from None


if __name__ == "__main__":
    sys.exit(main())
