"""What a run depends on, as a hash: the code executed, the library modules it uses, the lock and the values.

Docstrings, comments and layout of code do not count, nor do times of files.
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


def digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def content_digest(*paths: Path) -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()


def without_docstrings(tree: ast.AST) -> str:
    for node in ast.walk(tree):
        match getattr(node, "body", None):
            case [ast.Expr(value=ast.Constant(value=str())), *_]:
                node.body = node.body[1:] or [ast.Pass()]
    return ast.dump(tree)


def names_of(package: ast.Module) -> dict[str, str]:
    """Return name -> module of what the package's `__init__` offers; it is a table of names, no more."""
    found = {}
    for node in package.body:
        if isinstance(node, ast.ImportFrom):
            for name in node.names:
                module = name.name if node.module == "cmlib" else node.module.removeprefix("cmlib.")
                found[name.asname or name.name] = module
    return found


def modules_used(tree: ast.AST, offered: dict[str, str]) -> set[str]:
    """Return the modules of cmlib that a piece of code names; all of them where it takes the package as a whole."""
    used = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "cmlib":
            used |= {offered.get(name.name, name.name) for name in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("cmlib."):
            used.add(node.module.removeprefix("cmlib."))
        elif isinstance(node, ast.Import):
            used |= {n.name.removeprefix("cmlib.") for n in node.names if n.name.startswith("cmlib.")}
            if any(n.name == "cmlib" and n.asname for n in node.names):
                used |= {*offered.values()}
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "cmlib":
            used.add(offered.get(node.attr, node.attr))
    return used


@functools.cache
def library(root: Path = ROOT) -> dict[str, tuple[str, frozenset[str]]]:
    """Return module -> (hash of its syntax tree, modules it uses directly)."""
    offered = names_of(ast.parse((root / "cmlib" / "__init__.py").read_text(encoding="utf-8")))
    found = {}
    for path in sorted((root / "cmlib").rglob("*.py")):
        name = ".".join(path.relative_to(root / "cmlib").with_suffix("").parts).removesuffix(".__init__")
        tree = ast.parse(path.read_text(encoding="utf-8"))
        uses = frozenset() if name == "__init__" else frozenset(modules_used(tree, offered))
        found[name] = digest(without_docstrings(tree)), uses
    for path in sorted((root / "cmlib").rglob("*.html")):  # templates belong to every module
        found[path.name] = content_digest(path), frozenset()
    return found


def library_digest(code: str, root: Path = ROOT, without: tuple[str, ...] = ()) -> str:
    """Return a hash of all modules that the code uses, and that these use."""
    known = library(root)
    offered = names_of(ast.parse((root / "cmlib" / "__init__.py").read_text(encoding="utf-8")))
    waiting, reached = modules_used(ast.parse(code), offered), set()
    waiting |= {name for name in known if name.endswith(".html")}
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
    lock = content_digest(root / "requirements.lock")
    seen = [(source(cell), tags(cell)) for cell in cells]
    return digest(seen, library_digest(code, root), lock, values, tables)


def tables_read(code: str, root: Path = ROOT) -> dict[str, list[Path]]:
    """Return the files of results/ behind each ensemble of a chapter."""
    found = {}
    for name, _ in ensembles_of(code):
        files = sorted(path for path in (root / "results").glob(f"{name}.*") if path.suffix in (".csv", ".npz"))
        if files:
            found[name] = files
    return found


def ensembles_of(code: str) -> list[tuple[str, ast.Call]]:
    """Return (name, call) of each `ensemble("name", experiment, seeds, ...)` in the code."""
    return _ensembles(ast.parse(code))


def _ensembles(tree: ast.AST) -> list[tuple[str, ast.Call]]:
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    named = [call for call in calls if ast.unparse(call.func).split(".")[-1] == "ensemble" and call.args]
    return [(call.args[0].value, call) for call in named if isinstance(call.args[0], ast.Constant)]


def slice_of(code: str, name: str, sizes: bool = True) -> str:
    """Return the statements that the ensemble of this name needs, in order, the call last.

    Followed backwards: the statements that bind, or change in place, a name that is needed. Without `sizes` the call
    loses what says how many seeds there are, or are computed again, which changes no row.

    Raises:
        ValueError: when the code has no such ensemble.
    """
    statements = ast.parse(code).body
    calls = [(i, call) for i, node in enumerate(statements) for found, call in _ensembles(node) if found == name]
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


def ensemble_digest(code: str, name: str, root: Path = ROOT) -> str:
    """Return the address of an ensemble's rows, whatever else its chapter computes."""
    needed = slice_of(code, name, sizes=False)
    # how tables are read and evidence is judged changes no row
    library = library_digest(needed, root, without=("ensembles", "claims", "figures"))
    return digest(without_docstrings(ast.parse(needed)), library, content_digest(root / "requirements.lock"))
