"""The public surface: each name has an example that runs and says what it refuses, and one page has them all."""

import ast
import doctest
import importlib
import inspect
import re
import sys
import textwrap
import types
from pathlib import Path

import matplotlib as mpl
import pytest

import cmlib
import cmlib.chapter
from cmlib import arguments
from cmlib.arguments import count

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "book" / "back" / "api.md").read_text(encoding="utf-8")
sys.path.insert(0, str(ROOT / "book" / "_ext"))

from docstrings import readable  # noqa: E402

# --- what is public


def ours(value):
    return getattr(value, "__module__", "").split(".")[0] == "cmlib"


def public(module):
    """Return name -> value of what a module offers: its `__all__`, or the functions and classes that it defines."""
    if hasattr(module, "__all__"):
        found = {name: getattr(module, name) for name in module.__all__}
    else:
        own = {n: v for n, v in vars(module).items() if getattr(v, "__module__", "") == module.__name__}
        found = {n: v for n, v in own.items() if n[0] != "_" and (inspect.isclass(v) or inspect.isroutine(v))}
    flat = {}
    for name, value in found.items():
        inner = public(value) if isinstance(value, types.ModuleType) else {"": value}
        flat |= {f"{name}.{below}".rstrip("."): v for below, v in inner.items()}
    return flat


def methods(kind):
    """Return name -> value of a class's own methods and properties, those that it overrides for torch left out."""
    strangers = [base for base in kind.__mro__ if not ours(base)]
    found = {}
    for base in reversed([base for base in kind.__mro__ if ours(base)]):
        for name, value in vars(base).items():
            shown = name in ("__call__", "forward") or not any(name in vars(stranger) for stranger in strangers)
            if shown and (name[0] != "_" or name == "__call__"):
                value = getattr(value, "__func__", value)  # of a classmethod
                if inspect.isroutine(value) or isinstance(value, property):
                    found[name] = value
    return found


def namespace(name):
    return name.rpartition(".")[0]


LIBRARY, CHAPTERS = public(cmlib), {f"chapter.{name}": v for name, v in public(cmlib.chapter).items()}


# --- what its docstring lacks


def called(call, function, owner):
    """Return what a call in a function calls where that is a name of its module, or one of a module or of self."""
    *owners, name = ast.unparse(call.func).split(".")
    names = function.__globals__
    if owners == ["self"]:
        return getattr(owner, name, None)
    if owners:
        module = names.get(owners[0])
        names = vars(module) if isinstance(module, types.ModuleType) else {}
    return names.get(name)


def refuses(function, owner=None, seen=()):
    """Return whether a function raises ValueError, itself or in a helper of the library that it calls."""
    function = inspect.unwrap(function)
    if function in seen or not inspect.isfunction(function):
        return False
    for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(function)))):
        if isinstance(node, ast.Raise) and node.exc is not None and "ValueError" in ast.unparse(node.exc):
            return True
        if isinstance(node, ast.Call):
            helper = called(node, function, owner)
            if ours(helper) and refuses(helper, owner, (*seen, function)):
                return True
    return False


def declared_in(kind, name):
    """Return the classes of ours whose word on a method is good for a class: itself, its bases and the protocols."""
    protocols = [other for other in LIBRARY.values() if getattr(other, "_is_protocol", False)]
    return [base for base in [*filter(ours, kind.__mro__), *protocols] if name in vars(base)]


def class_amiss(kind):
    """Return what the docstring of a class lacks; a dataclass writes one of its own, which is none."""
    doc = vars(kind).get("__doc__") or ""
    if not doc or doc.startswith(f"{kind.__name__}("):
        return ["a docstring"]
    makers = [vars(kind)[name] for name in ("__init__", "__post_init__") if name in vars(kind)]
    # what a dataclass generates has no source
    written = [maker for maker in makers if inspect.unwrap(maker).__code__.co_filename != "<string>"]
    return lacking(doc, ">>>" in doc, any(refuses(maker, kind) for maker in written))


def method_amiss(kind, name):
    """Return what the docstring of a method lacks; the example of a class may be one of its methods as well."""
    places = [kind, *declared_in(kind, name)]
    docs = [vars(place)[name].__doc__ for place in places[1:]]
    doc, value = next(filter(None, docs), ""), methods(kind)[name]
    if isinstance(value, property):
        return [] if doc else ["a docstring"]
    of_classes = "".join(doctest.script_from_examples(place.__doc__ or "") for place in places)
    shown = ">>>" in doc or name in ("__call__", "forward") or f".{name}(" in of_classes
    return lacking(doc, shown, refuses(value, kind))


def function_amiss(function):
    doc = function.__doc__ or ""
    return lacking(doc, ">>>" in doc, refuses(function))


def lacking(doc, illustrated, refusing):
    if not doc:
        return ["a docstring"]
    return ["an example"] * (not illustrated) + ["Raises"] * (refusing and "Raises:" not in doc)


CLASSES = {name: value for name, value in LIBRARY.items() if inspect.isclass(value)}
FUNCTIONS = {name: value for name, value in LIBRARY.items() if inspect.isroutine(value)}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_public_function_has_an_example_and_says_what_it_refuses(name):
    assert function_amiss(FUNCTIONS[name]) == []


@pytest.mark.parametrize("name", CLASSES)
def test_public_class_has_an_example_and_says_what_it_refuses(name):
    assert class_amiss(CLASSES[name]) == []


@pytest.mark.parametrize(("name", "method"), [(n, method) for n, kind in CLASSES.items() for method in methods(kind)])
def test_public_method_has_an_example_and_says_what_it_refuses(name, method):
    assert method_amiss(CLASSES[name], method) == []


# --- whether its examples run


def examples(module):
    """Yield each docstring with an example in the source, so that no decorator hides one."""
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            text = ast.get_docstring(node, clean=False)
            if text and ">>>" in text:
                line = node.body[0].lineno
                name = f"{module.__name__}:{getattr(node, 'name', '')}:{line}"
                yield name, doctest.DocTestParser().get_doctest(text, {}, name, module.__file__, line - 1)


def modules():
    paths = sorted((ROOT / "cmlib").rglob("*.py"))
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in paths]
    return [importlib.import_module(name) for name in names]


def preamble():
    """Return the names that the page of names tells its readers to import."""
    found = {}
    exec(re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)[1], found)
    return found


EXAMPLES = {name: test for module in modules() for name, test in examples(module)}


def run(test):
    test.globs, said = preamble(), []
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    runner = doctest.DocTestRunner(optionflags=options, verbose=False)
    runner.run(test, out=said.append, clear_globs=False)
    return "".join(said)


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_runs(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CMLIB_OUTPUT", str(tmp_path))
    mpl.use("Agg")
    import matplotlib.pyplot as plt  # after the choice of a backend without windows

    assert run(EXAMPLES[name]) == ""
    plt.close("all")


# --- whether the page has them all


def listed(page):
    """Return dotted name -> value, None if there is none, of what the directives of a page document."""
    found, prefix, last = {}, "", ""
    for line in page.splitlines():
        if of := re.fullmatch(r"\.\. currentmodule:: (\S+)", line):
            prefix = of[1] + "."
        elif of := re.fullmatch(r"\.\. auto\w+:: ([\w.]+)(?:\(.*\))?", line):
            last = of[1] if of[1].startswith("cmlib.") else prefix + of[1]
            found[last] = valued(last)
        elif of := re.fullmatch(r"   :members: (.+)", line):
            found |= {f"{last}.{name}": valued(f"{last}.{name}") for name in re.split(r",\s*", of[1])}
    return found


def valued(dotted):
    """Return what a dotted name means to a reader: of a function and a module of one name the function."""
    value = importlib.import_module("cmlib")
    for part in dotted.split(".")[1:]:
        if isinstance(value, types.ModuleType) and not hasattr(value, part):
            try:
                importlib.import_module(f"{value.__name__}.{part}")
            except ImportError:
                return None
        value = getattr(value, part, None)
    return value


def unlisted(page, names):
    """Return the public names that a page has not. What is no function or class stands in its text as code.

    A method that classes of one namespace share is listed with one of them at least.
    """
    found = listed(page)
    missing = []
    for name, value in names.items():
        if not (inspect.isclass(value) or inspect.isroutine(value)):
            missing += [] if re.search(rf"`[^`\n]*\b{name.split('.')[-1]}\b[^`\n]*`", page) else [name]
        elif not any(there is value for there in found.values()):
            missing.append(name)
        elif inspect.isclass(value):
            beside = [f"cmlib.{other}" for other in names if namespace(other) == namespace(name)]
            members = [method for method in methods(value) if method not in ("__call__", "forward")]
            missing += [f"{name}.{m}" for m in members if not any(f"{other}.{m}" in found for other in beside)]
    return missing


def test_page_lists_every_public_name():
    assert unlisted(PAGE, LIBRARY | CHAPTERS) == []


def test_page_lists_nothing_that_does_not_exist():
    assert [name for name, value in listed(PAGE).items() if value is None] == []


def test_page_shows_examples_as_they_are_typed():
    lines = ["|x| and `y` of li2021curse", "", ">>> 2 * abs(-1) | 4", "6", "", "|z|"]
    readable(None, "function", "f", None, None, lines)
    assert lines == [r"\|x\| and ``y`` of :cite:t:`li2021curse`", "", ">>> 2 * abs(-1) | 4", "6", "", r"\|z\|"]


# --- whether these guards speak


def bare(x):
    """Return x."""
    return count("x", x)


def relayed(x):
    """Return x.

    >>> 1
    1
    """
    return helper(x)


def helper(x):
    raise ValueError("expected nothing")


helper.__module__ = "cmlib.made_up"


class Half:
    """A class.

    >>> Half().seen()
    """

    __module__ = "cmlib.made_up"

    def __init__(self):
        helper(1)

    def seen(self):
        """Return nothing."""

    def unseen(self):
        """Return nothing."""

    def silent(self):
        pass

    def careful(self):
        """Return nothing.

        >>> Half().careful()
        """
        self.checked()

    def checked(self):
        """Return nothing.

        >>> Half().checked()

        Raises:
            ValueError: always.
        """
        helper(1)


Half.checked.__module__ = "cmlib.made_up"


def through_a_module(x):
    """Return x."""
    return arguments.count("x", x)


def test_guards_of_docstrings_speak():
    assert refuses(through_a_module) and not refuses(namespace)
    assert function_amiss(bare) == ["an example", "Raises"]
    assert function_amiss(relayed) == ["Raises"]
    assert function_amiss(lambda: None) == ["a docstring"]
    assert class_amiss(Half) == ["Raises"]
    assert {name: method_amiss(Half, name) for name in methods(Half)} == {
        "seen": [],
        "unseen": ["an example"],
        "silent": ["a docstring"],
        "careful": ["Raises"],
        "checked": [],
    }


def test_guard_of_examples_speaks():
    wrong = doctest.DocTestParser().get_doctest(">>> inputs.heaviside(1).item()\n2.0\n", {}, "wrong", None, 0)
    assert "Got:\n    1.0" in run(wrong)


def test_guards_of_the_page_speak():
    page = ".. currentmodule:: cmlib\n.. autofunction:: fit\n.. autoclass:: FitResult\n   :members: plateaus, gone\n"
    names = {"fit": cmlib.fit, "FitResult": cmlib.FitResult, "decay": cmlib.decay, "models.ACTIVATIONS": {}}
    assert unlisted(page, names) == ["FitResult.first_below", "decay", "models.ACTIVATIONS"]
    assert [name for name, value in listed(page).items() if value is None] == ["cmlib.FitResult.gone"]
