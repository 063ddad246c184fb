"""What a run depends on, as a hash: the code executed, the library modules it uses, pinned versions and the values.

Docstrings, comments, layout and types of code do not count, nor do times of files.
"""

import ast
import functools
import hashlib
import json
import symtable
from collections.abc import Iterator
from pathlib import Path

from notebooks import code_cells, read_notebook, source, tags

ROOT = Path(__file__).resolve().parent.parent
# Whose version can move a number: what cmlib and the chapters import, and the compiler behind numba. The other pins are
# those of the tools for tests and pages.
COMPUTING = ("torch", "numpy", "scipy", "numba", "llvmlite", "matplotlib", "jaxtyping", "scikit-learn")


def digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def content_digest(*paths: Path) -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()


def versions_digest(root: Path = ROOT) -> str:
    """Return a hash of the pinned versions that can move a number."""
    lines = (root / "requirements.lock").read_text(encoding="utf-8").splitlines()
    return digest(sorted(line for line in lines if line.partition("==")[0] in COMPUTING))


def what_runs(tree: ast.AST) -> str:
    """Return the syntax tree without docstrings, and without types of arguments and returns: they change no number."""
    for node in ast.walk(tree):
        match getattr(node, "body", None):
            case [ast.Expr(value=ast.Constant(value=str())), *_]:
                node.body = node.body[1:] or [ast.Pass()]
        if isinstance(node, ast.FunctionDef):
            node.returns = None
        elif isinstance(node, ast.arg):
            node.annotation = None
        elif isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            node.body = [ast.Pass()]
    return ast.dump(tree)


def names_of(package: ast.Module, prefix: str = "") -> dict[str, str]:
    """Return name -> module of what a package's `__init__` offers; it is a table of names, no more.

    Both are written from below cmlib: "fit" -> "training", "chapter.ensemble" -> "chapter.ensembles".
    """
    found, package_name = {}, f"cmlib.{prefix}".rstrip(".")
    for node in package.body:
        if isinstance(node, ast.ImportFrom):
            for name in node.names:
                module = f"{node.module}.{name.name}" if node.module == package_name else node.module
                found[f"{prefix}.{name.asname or name.name}".lstrip(".")] = module.removeprefix("cmlib.")
    return found


def modules_used(tree: ast.AST, offered: dict[str, str]) -> set[str]:
    """Return the modules of cmlib whose names a piece of code uses; imports for type checkers alone do not count.

    A package such as cmlib.models counts by the names taken out of it, and as a whole where it is passed on.
    """
    nodes = _walk(tree)
    bound, used = {}, set()  # bound: a name in the code -> what it stands for, from below cmlib; "" for cmlib itself
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "cmlib":
            prefix = node.module.removeprefix("cmlib").removeprefix(".")
            bound |= {name.asname or name.name: f"{prefix}.{name.name}".lstrip(".") for name in node.names}
        elif isinstance(node, ast.Import):
            for name in node.names:
                below = name.name.removeprefix("cmlib").removeprefix(".")
                if name.name.split(".")[0] == "cmlib" and name.asname:
                    bound[name.asname] = below
                elif name.name.split(".")[0] == "cmlib":
                    bound["cmlib"] = ""
                    used |= {below} - {""}
    inside = {id(node.value) for node in nodes if isinstance(node, ast.Attribute)}
    for node in nodes:
        if isinstance(node, ast.Name | ast.Attribute) and id(node) not in inside:
            chain = ast.unparse(node).split(".") if _is_dotted(node) else [""]
            if chain[0] in bound:
                used.add(_module(".".join(filter(None, [bound[chain[0]], *chain[1:]])), offered))
    return used


def _walk(tree: ast.AST) -> list[ast.AST]:
    found, waiting = [], [tree]
    while waiting:
        node = waiting.pop()
        if not (isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"):
            found.append(node)
            waiting += ast.iter_child_nodes(node)
    return found


def _is_dotted(node: ast.AST) -> bool:
    while isinstance(node, ast.Attribute):
        node = node.value
    return isinstance(node, ast.Name)


def _module(dotted: str, offered: dict[str, str]) -> str:
    """Return the module in which a dotted name lives, "__init__" for the package itself."""
    reached = ""
    for part in dotted.split(".") if dotted else []:
        further = f"{reached}.{part}".lstrip(".")
        if reached and further not in offered:
            break
        reached = offered.get(further, further)
    return reached or "__init__"


def offered_by(root: Path) -> dict[str, str]:
    """Return name -> module of everything that cmlib and its packages offer, and each module under its own name."""
    found = {}
    for path in sorted((root / "cmlib").rglob("*.py")):
        name = ".".join(path.relative_to(root / "cmlib").with_suffix("").parts)
        if path.stem == "__init__":
            found |= names_of(ast.parse(path.read_text(encoding="utf-8")), name.removesuffix("__init__").strip("."))
        else:
            found[name] = name
    return found


@functools.cache
def library(root: Path = ROOT) -> dict[str, tuple[str, frozenset[str]]]:
    """Return module -> (hash of its syntax tree, modules it uses directly)."""
    offered, found = offered_by(root), {}
    for path in sorted((root / "cmlib").rglob("*.py")):
        name = ".".join(path.relative_to(root / "cmlib").with_suffix("").parts)
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if path.stem == "__init__":
            # taken as a whole, a package is all that it offers; the table itself changes nothing
            whole = name.removesuffix("__init__").removesuffix(".")
            offers = names_of(tree, whole).values()
            found[whole or "__init__"] = "", frozenset(offers)
        else:
            found[name] = digest(what_runs(tree)), frozenset(modules_used(tree, offered))
    for path in sorted((root / "cmlib").rglob("*.html")):  # a template belongs to the module of its name
        module = ".".join(path.relative_to(root / "cmlib").with_suffix("").parts)
        found[module] = digest(found[module][0], content_digest(path)), found[module][1]
    return found


def library_digest(code: str, root: Path = ROOT, without: tuple[str, ...] = ()) -> str:
    """Return a hash of all modules that the code uses, and that these use."""
    known, offered = library(root), offered_by(root)
    waiting, reached = modules_used(ast.parse(code), offered), set()
    while waiting:
        name = waiting.pop()
        if name in known and name not in reached and name not in without:
            reached.add(name)
            waiting |= known[name][1]
    return digest(sorted((name, known[name][0]) for name in reached))


def chapter_digest(chapter: str, values: dict, root: Path = ROOT) -> str:
    """Return the address of a chapter's run: prose, captions and outputs do not change it."""
    cells = code_cells(read_notebook(root / "book" / f"{chapter}.ipynb"))
    code = "\n".join(source(cell) for cell in cells)
    tables = sorted((name, content_digest(*files)) for name, files in tables_read(code, root).items())
    seen = [(source(cell), tags(cell)) for cell in cells]
    return digest(seen, library_digest(code, root), versions_digest(root), values, tables)


def tables_read(code: str, root: Path = ROOT) -> dict[str, list[Path]]:
    """Return the files of results/ behind each ensemble of a chapter, its own or gathered by another."""
    found, tree = {}, ast.parse(code)
    for name, _ in _tables(tree, "ensemble") + _tables(tree, "gathered"):
        files = sorted(path for path in (root / "results").glob(f"{name}.*") if path.suffix in (".csv", ".npz"))
        if files:
            found[name] = files
    return found


def ensembles_of(code: str) -> list[tuple[str, ast.Call]]:
    """Return (name, call) of each `ensemble("name", experiment, seeds, ...)` in the code."""
    return _tables(ast.parse(code), "ensemble")


def _tables(tree: ast.AST, read_by: str) -> list[tuple[str, ast.Call]]:
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    named = [call for call in calls if ast.unparse(call.func).split(".")[-1] == read_by and call.args]
    return [(call.args[0].value, call) for call in named if isinstance(call.args[0], ast.Constant)]


def slice_of(code: str, name: str, sizes: bool = True) -> str:
    """Return the statements that the ensemble of this name needs, in order, the call last.

    Followed backwards: the statements that bind, or change in place, a name that is needed. Without `sizes` the call
    loses what says how many seeds there are, or are computed again, which changes no row.

    Raises:
        ValueError: when the code has no such ensemble.
    """
    statements = ast.parse(code).body
    calls = [
        (i, call) for i, node in enumerate(statements) for found, call in _tables(node, "ensemble") if found == name
    ]
    if not calls:
        raise ValueError(f"no ensemble {name!r} in this chapter")
    at, call = calls[0]
    if not sizes:
        call.args = call.args[:2]
        call.keywords = [k for k in call.keywords if k.arg not in ("seeds", "live")]
    chosen, needed, before = {at}, _free(statements[at]), -1
    while len(chosen) > before:  # a function may use another that stands below it
        before = len(chosen)
        for i, statement in enumerate(statements[:at]):
            if i not in chosen and _bound(statement) & needed:
                chosen.add(i)
                needed |= _free(statement)
    return "\n".join(ast.unparse(statements[i]) for i in sorted(chosen))


def _scopes(table: symtable.SymbolTable) -> Iterator[symtable.SymbolTable]:
    for child in table.get_children():
        yield child
        yield from _scopes(child)


def _free(statement: ast.stmt) -> set[str]:
    """Names that a statement takes from around it, those local to its functions left out."""
    table = symtable.symtable(ast.unparse(statement), "chapter", "exec")
    names = {symbol.get_name() for symbol in table.get_symbols() if symbol.is_referenced()}
    inner = [symbol for scope in _scopes(table) for symbol in scope.get_symbols()]
    return names | {symbol.get_name() for symbol in inner if symbol.is_global() and symbol.is_referenced()}


def _bound(statement: ast.stmt) -> set[str]:
    """Names that a statement binds, whose items or attributes it sets, or whose methods it calls for their own sake."""
    table = symtable.symtable(ast.unparse(statement), "chapter", "exec")
    bound = {s.get_name() for s in table.get_symbols() if s.is_assigned() or s.is_imported() or s.is_namespace()}
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        return bound
    for node in ast.walk(statement):
        called = isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and node.value.func
        stored = isinstance(node, ast.Subscript | ast.Attribute) and isinstance(node.ctx, ast.Store) and node
        owner = called or stored
        if isinstance(owner, ast.Subscript | ast.Attribute):
            while isinstance(owner, ast.Subscript | ast.Attribute):
                owner = owner.value
            if isinstance(owner, ast.Name):
                bound.add(owner.id)
    return bound


# how tables are read and evidence is judged changes no row
READING = ("chapter.ensembles", "chapter.claims", "chapter.figures", "chapter.movable")


def ensemble_digest(code: str, name: str, root: Path = ROOT) -> str:
    """Return the address of an ensemble's rows, whatever else its chapter computes."""
    needed = slice_of(code, name, sizes=False)
    library = library_digest(needed, root, without=READING)
    return digest(what_runs(ast.parse(needed)), library, versions_digest(root))
