"""Which cells of a chapter a figure needs, followed backwards through the names that cells read, bind and change.

A cell is whole or left out. It counts as changing an object when it stores into it, calls a method or a function for
what it does and not for what it returns, draws from a generator or on a figure, or calls a function of the chapter
that does such a thing. A setting of a package, as in `plt.style.use("ggplot")`, changes all that is imported. A whole
changes with its parts (`x = y[0]`, `for x in y`). What a function reads is read wherever the function, or anything made
with it, is used. cmlib changes nothing of its caller's but the state of generators. Not seen is what a function changes
that goes by another name: `f = x.append`, `f = partial(g, x)`, one made by another function.

A cell that cannot be judged, such as one with a star import, belongs to every slice, and so does all that stands before
it; where a generator that nobody names is seeded, every cell may draw from it, and nothing is left out.
"""

import ast
import builtins
import symtable
from collections.abc import Iterator
from dataclasses import dataclass, field

# Made by these, an object is changed by whoever uses it: generators, iterators, drawings, files.
GENERATORS = {"Generator", "default_rng", "RandomState", "manual_seed"}
LIVE = GENERATORS | {"iter", "zip", "map", "filter", "enumerate", "reversed", "open", "subplots", "figure"}
CHANGING = {"append", "extend", "insert", "remove", "pop", "popitem", "clear", "sort", "reverse", "update", "add"}
CHANGING |= {"discard", "setdefault", "fill", "resize", "step", "backward"}
OPAQUE = {"exec", "eval", "globals", "locals", "vars", "setattr", "delattr", "get_ipython"}
NEW = {"len", "range", "sum", "min", "max", "abs", "round", "int", "float", "str", "bool"}  # shares nothing
SCOPES = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda
FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass
class Cell:
    """What a cell does to the names around it."""

    reads: set[str] = field(default_factory=set)  # from before it
    binds: set[str] = field(default_factory=set)
    settles: set[str] = field(default_factory=set)  # binds whatever happens
    changes: set[str] = field(default_factory=set)
    opaque: bool = False
    seeds: bool = False  # a generator that nobody names


def needed(sources: list[str], at: int) -> list[int]:
    """Return the numbers of the cells that the cell of this number needs, and its own, in order."""
    reader = Reader()
    cells = [reader.read(text) for text in sources[: at + 1]]
    if any(cell.seeds for cell in cells):
        return list(range(at + 1))
    chosen, wanted, everything = [at], set(cells[at].reads), cells[at].opaque
    for i in range(at - 1, -1, -1):
        cell = cells[i]
        if everything or cell.opaque or (cell.binds | cell.changes) & wanted:
            chosen.append(i)
            wanted = wanted - cell.settles | cell.reads
            everything |= cell.opaque
    return sorted(chosen)


@dataclass
class Names:
    """The names of a statement or an expression: read at once, read when a function in it runs, bound."""

    now: set[str]
    later: set[str]
    bound: set[str]


def names_of(node: ast.AST) -> Names:
    table = symtable.symtable(ast.unparse(node), "chapter", "exec")
    symbols = table.get_symbols()
    now = {symbol.get_name() for symbol in symbols if symbol.is_referenced()}
    bound = {s.get_name() for s in symbols if s.is_assigned() or s.is_imported() or s.is_namespace()}
    names = Names(now, set(), bound - {"lambda", "genexpr", "listcomp", "setcomp", "dictcomp"})
    for child in table.get_children():
        _of_scope(child, names, False)
    return names


def _of_scope(table: symtable.SymbolTable, names: Names, deferred: bool) -> None:
    # a comprehension or the body of a class runs at once
    at_once = table.get_type() == "class" or table.get_name() in ("listcomp", "setcomp", "dictcomp")
    deferred = deferred or not at_once
    found = {symbol.get_name() for symbol in table.get_symbols() if symbol.is_global() and symbol.is_referenced()}
    if not deferred or table.get_name() == "genexpr":
        names.now |= found
    if deferred:
        names.later |= found
    for child in table.get_children():
        _of_scope(child, names, deferred)


def _at_once(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes that run with this one, those inside of functions left out."""
    yield node
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, SCOPES):
            yield from _at_once(child)


def _root(node: ast.AST) -> tuple[str | None, int]:
    """Return x and 3 for x[0].a.b, and x of what a chain of calls begins with."""
    depth = 0
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call | ast.Starred):
        depth += isinstance(node, ast.Attribute | ast.Subscript)
        node = node.func if isinstance(node, ast.Call) else node.value
    return (node.id if isinstance(node, ast.Name) else None), depth


def _called(call: ast.Call) -> str:
    """Return the last name of what is called."""
    return getattr(call.func, "attr", getattr(call.func, "id", ""))


def _arguments(call: ast.Call) -> list[ast.expr]:
    return [*call.args, *(keyword.value for keyword in call.keywords)]


def _thrown_away(node: ast.AST) -> list[ast.expr]:
    """Return the calls of a statement whose results nobody keeps."""
    if isinstance(node, ast.Assign):
        names = [name for target in node.targets for name in ast.walk(target) if isinstance(name, ast.Name)]
        if any(name.id != "_" for name in names):
            return []
    elif not isinstance(node, ast.Expr):
        return []
    values = node.value.elts if isinstance(node.value, ast.Tuple) else [node.value]
    return [value for value in values if isinstance(value, ast.Call)]


class Reader:
    """Reads the cells of a chapter in order, and remembers what its names stand for."""

    def __init__(self) -> None:
        self.imported: dict[str, str] = {}  # name -> package
        self.functions: dict[str, ast.AST] = {}
        self.behind: dict[str, set[str]] = {}  # name -> what functions it was made with will read
        self.parts: dict[str, set[str]] = {}  # name -> what it may be, or be a part of
        self.inside: dict[str, set[str]] = {}  # name -> what it was put together from
        self.live: set[str] = set()
        self.judged: dict[ast.AST, set[str]] | None = None  # function -> what it changes, while one statement is read
        self.cell = Cell()

    def read(self, text: str) -> Cell:
        self.cell = Cell()
        try:
            body = ast.parse(text).body
        except SyntaxError:  # a line for the shell, or a magic
            self.cell.opaque = True
            return self.cell
        for node in ast.walk(ast.Module(body, [])):
            star = isinstance(node, ast.ImportFrom) and node.names[0].name == "*"
            called = _called(node) if isinstance(node, ast.Call) else None
            if star or called in OPAQUE:
                self.cell.opaque = True
            if called in ("seed", "manual_seed") and not any(isinstance(n, ast.Call) for n in ast.walk(node.func)):
                self.cell.seeds |= _root(node.func)[0] in self.imported  # and not Generator().manual_seed(...)
        self.body(body, settled=self.cell.settles, sure=True)
        return self.cell

    def body(self, statements: list[ast.stmt], settled: set[str], sure: bool) -> None:
        for statement in statements:
            self.statement(statement, settled, sure)

    def statement(self, node: ast.stmt, settled: set[str], sure: bool) -> None:
        match node:
            case ast.For():
                self.takes(node.iter, settled)
                inner = settled | self.bind(node.target, node.iter, sure=False, loop=True)
                self.body(node.body, set(inner), sure=False)
                self.body(node.orelse, set(settled), sure=False)
            case ast.While() | ast.If():
                self.takes(node.test, settled)
                branches = [set(settled), set(settled)]
                self.body(node.body, branches[0], sure=False)
                self.body(node.orelse, branches[1], sure=False)
                if isinstance(node, ast.If):
                    settled |= branches[0] & branches[1]
            case ast.With():
                for item in node.items:
                    self.takes(item.context_expr, settled)
                    if item.optional_vars:
                        settled |= self.bind(item.optional_vars, item.context_expr, sure)
                whole = not any(_called(call) == "suppress" for call in ast.walk(node) if isinstance(call, ast.Call))
                self.body(node.body, settled if whole else set(settled), sure and whole)
            case ast.Try():
                self.body(node.body, set(settled), sure=False)
                for handler in node.handlers:
                    self.body(handler.body, settled | {handler.name or ""}, sure=False)
                    self.cell.binds |= {handler.name} - {None}
                self.body([*node.orelse, *node.finalbody], set(settled), sure=False)
            case ast.Import() | ast.ImportFrom():
                for alias in node.names:
                    name = (alias.asname or alias.name).split(".")[0]
                    self.imported[name] = (getattr(node, "module", None) or alias.name).split(".")[0]
                    self.note(name, settled)
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                self.takes(node, settled)
                names = names_of(node)
                self.functions[node.name] = node
                self.behind[node.name] = names.later | self.reached(names.now)
                self.note(node.name, settled)
            case ast.Assign():
                self.takes(node, settled)
                for target in node.targets:
                    settled |= self.bind(target, node.value, sure)
            case ast.AnnAssign() if node.value:
                self.takes(node, settled)
                settled |= self.bind(node.target, node.value, sure)
            case ast.AugAssign():
                self.takes(node, settled)
                root, _ = _root(node.target)
                if root:
                    read = names_of(node)
                    self.cell.reads |= {root} - settled
                    self.behind[root] = self.behind.get(root, set()) | read.later | self.reached(read.now)
                    parts, inside = self.origins(node.value)
                    self.inside[root] = self.inside.get(root, set()) | parts | inside
                if isinstance(node.target, ast.Name):
                    self.note(node.target.id, settled)
            case _:  # among them match, whose bindings are not certain
                self.takes(node, settled)
                names = names_of(node)
                self.cell.binds |= names.bound
                if isinstance(node, ast.Delete):
                    settled |= {target.id for target in node.targets if isinstance(target, ast.Name)}

    def note(self, name: str, settled: set[str]) -> None:
        self.cell.binds.add(name)
        settled.add(name)

    def takes(self, node: ast.AST, settled: set[str]) -> None:
        """Note what a statement or an expression reads and changes."""
        read = names_of(node)
        now = read.now if isinstance(node, SCOPES) else read.now | read.later
        self.cell.reads |= (now | self.reached(now)) - settled
        for inner in _at_once(node):
            if isinstance(inner, ast.NamedExpr):
                self.cell.binds.add(inner.target.id)
        self.cell.changes |= self.with_sharers(self.changed(node))

    def reached(self, names: set[str]) -> set[str]:
        """Return what functions behind these names will read."""
        found, waiting = set(), list(names)
        while waiting:
            further = self.behind.get(waiting.pop(), set()) - found
            found |= further
            waiting += further
        return found

    def bind(self, target: ast.expr, value: ast.expr, sure: bool, loop: bool = False) -> set[str]:
        """Let the names of a target stand for a value; return them."""
        if isinstance(target, ast.Tuple | ast.List):
            values = _one_each(value, target.elts, loop)
            return set().union(*(self.bind(t, v, sure, loop) for t, v in zip(target.elts, values, strict=True)))
        if isinstance(target, ast.Starred):
            return self.bind(target.value, value, sure, loop)
        parts, inside = self.origins(value)
        read = names_of(value)
        behind = read.later | self.reached(read.now)
        if not isinstance(target, ast.Name):  # x[0] = value
            root, _ = _root(target)
            if root:
                self.inside[root] = self.inside.get(root, set()) | parts | inside
                self.behind[root] = self.behind.get(root, set()) | behind
            return set()
        name = target.id
        if loop:
            parts, inside = parts | inside, set()
        live = self.is_live(value) and not (loop and isinstance(value, ast.Call))
        if not sure:  # it may still be what it was
            parts |= self.parts.get(name, set())
            inside |= self.inside.get(name, set())
            behind |= self.behind.get(name, set())
            live |= name in self.live
        self.parts[name], self.inside[name], self.behind[name] = parts - {name}, inside - {name}, behind
        (self.live.add if live else self.live.discard)(name)
        if isinstance(value, ast.Lambda):
            self.functions[name] = value
        elif sure:
            self.functions.pop(name, None)
        self.cell.binds.add(name)
        return {name}

    def origins(self, value: ast.AST) -> tuple[set[str], set[str]]:
        """Return the names of what a value may be or be a part of, and of what it was put together from."""
        match value:
            case ast.Name():
                known = value.id in self.imported or value.id in self.functions
                known |= hasattr(builtins, value.id) and value.id not in self.parts
                return (set() if known else {value.id}), set()
            case ast.Attribute() | ast.Subscript() | ast.Starred() | ast.NamedExpr() | ast.Await():
                return self.origins(value.value)
            case ast.Call():
                root, _ = _root(value.func)
                if (isinstance(value.func, ast.Name) and root in NEW) or root == "plt":
                    return set(), set()
                found = [self.origins(value.func), *map(self.origins, _arguments(value))]
                found = [(part - self.live, inner - self.live) for part, inner in found]  # what is drawn is new
            case ast.Lambda() | ast.Compare() | ast.Constant() | ast.JoinedStr():
                return set(), set()
            case ast.IfExp():
                found = [self.origins(value.body), self.origins(value.orelse)]
            case _:
                found = [self.origins(child) for child in ast.iter_child_nodes(value)]
                return set(), set().union(*(part | inner for part, inner in found))
        return set().union(*(part for part, _ in found)), set().union(*(inner for _, inner in found))

    def is_live(self, value: ast.AST) -> bool:
        match value:
            case ast.Name():
                return value.id in self.live
            case ast.Attribute() | ast.Subscript() | ast.Starred():
                return self.is_live(value.value)
            case ast.Call():
                made = self.functions.get(_root(value.func)[0] or "") if isinstance(value.func, ast.Name) else None
                return _called(value) in LIVE or (isinstance(made, FUNCTIONS | ast.ClassDef) and self.gives_live(made))
            case ast.GeneratorExp():
                return True
            case ast.ListComp() | ast.SetComp():
                return self.is_live(value.elt)
            case ast.DictComp():
                return self.is_live(value.value)
            case ast.Tuple() | ast.List():
                return any(map(self.is_live, value.elts))
            case ast.Dict():
                return any(map(self.is_live, value.values))
        return False

    def gives_live(self, function: ast.FunctionDef | ast.ClassDef) -> bool:
        if isinstance(function, ast.ClassDef):  # its objects hold what its methods make
            return any(isinstance(node, ast.Call) and _called(node) in GENERATORS for node in ast.walk(function))
        inner = [node for child in function.body for node in _at_once(child)]
        bound = {}
        for node in inner:
            if isinstance(node, ast.Assign) and len(node.targets) == 1:
                bound |= dict.fromkeys((n.id for n in ast.walk(node.targets[0]) if isinstance(n, ast.Name)), node.value)
        for node in inner:
            if isinstance(node, ast.Yield | ast.YieldFrom):
                return True
            if isinstance(node, ast.Return) and node.value:
                values = node.value.elts if isinstance(node.value, ast.Tuple) else [node.value]
                values = [bound.get(v.id, v) if isinstance(v, ast.Name) else v for v in values]
                if any(isinstance(v, ast.Call) and _called(v) in LIVE for v in values):
                    return True
        return False

    def changed(self, node: ast.AST) -> set[str]:
        """Return the names of the objects that a statement or an expression changes."""
        found: set[str] = set()
        thrown_away = _thrown_away(node)
        for inner in _at_once(node) if not isinstance(node, SCOPES) else ():
            match inner:
                case ast.AugAssign():
                    found |= self.with_wholes(inner.target, deep=not isinstance(inner.target, ast.Name))
                case ast.Subscript() | ast.Attribute() if not isinstance(inner.ctx, ast.Load):
                    found |= self.with_wholes(inner, deep=_root(inner)[1] > 1)
                    found |= self.imported.keys() if _root(inner)[0] in self.imported else set()
                case ast.Name() if inner.id in self.live:
                    found |= self.with_wholes(inner, deep=True)
                case ast.Call():
                    found |= self.changed_by_call(inner, inner in thrown_away)
        return found

    def with_sharers(self, changed: set[str]) -> set[str]:
        """Return the names whose objects are, hold or are parts of what changes."""
        found, before = set(changed), -1
        while changed and len(found) > before:
            before = len(found)
            for name in self.parts.keys() | self.inside.keys():
                if (self.parts.get(name, set()) | self.inside.get(name, set())) & found:
                    found.add(name)
        return found

    def changed_by_call(self, call: ast.Call, thrown_away: bool) -> set[str]:
        root, depth = _root(call.func)
        name, package = _called(call), self.imported.get(root or "")
        function = self.functions.get(name) if isinstance(call.func, ast.Name) else None
        found: set[str] = set()
        if function is not None:
            return self.changed_by(function, call)
        in_place = name in CHANGING or (name.endswith("_") and not name.startswith("_"))
        if isinstance(call.func, ast.Attribute) and package is None:
            own = any(self.changes_itself(f, name) for f in self.functions.values())
            if thrown_away or in_place or own:
                found |= self.with_wholes(call.func.value, deep=depth > 1 or name in ("step", "backward") or own)
        elif package is None and not hasattr(builtins, name):  # an object that is called
            own = any(self.changes_itself(f, n) for f in self.functions.values() for n in ("__call__", "forward"))
            if thrown_away or own:
                found |= self.with_wholes(call.func, deep=True)
        chained = any(isinstance(n, ast.Call) for n in ast.walk(call.func))
        given = set().union(*(set().union(*self.origins(argument)) for argument in _arguments(call)))
        if thrown_away and package not in (None, "cmlib") and not chained and not given:
            found |= self.imported.keys()
        function_of_another = package not in (None, "cmlib") or (isinstance(call.func, ast.Name) and name != "print")
        if function_of_another and (thrown_away or in_place):
            for argument in _arguments(call):
                found |= self.with_wholes(argument, deep=True)
        return found

    def changes_itself(self, made: ast.AST, method: str) -> bool:
        """Return whether a class of the chapter has a method of this name that changes its object."""
        if not isinstance(made, ast.ClassDef):
            return False
        own = [f for f in made.body if isinstance(f, FUNCTIONS) and f.name == method and f.args.args]
        return any(f.args.args[0].arg in self.inner_changes(f) for f in own)

    def changed_by(self, function: ast.AST, call: ast.Call) -> set[str]:
        """Return what a call of a function of the chapter changes: its arguments, or what stands around it."""
        if isinstance(function, ast.ClassDef):
            own = [f for f in function.body if isinstance(f, FUNCTIONS) and f.name == "__init__"]
            return self.changed_by(own[0], call) - {"self"} if own else set()
        changes = self.inner_changes(function)
        arguments = function.args
        names = [each.arg for each in (*arguments.posonlyargs, *arguments.args)]
        if isinstance(function, FUNCTIONS) and function.name == "__init__":
            names = names[1:]
        given = dict(zip(names, call.args, strict=False)) | {k.arg: k.value for k in call.keywords if k.arg}
        everything = {each.arg for each in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)}
        everything |= {each.arg for each in (arguments.vararg, arguments.kwarg) if each}
        found = changes - everything
        for name in changes & everything:
            # one that cannot be matched may be any of them
            for value in [given[name]] if name in given else _arguments(call):
                found |= self.with_wholes(value, deep=True)
        return found

    def inner_changes(self, function: ast.AST) -> set[str]:
        """Return the arguments and the names around it that a function changes."""
        if self.judged is None:  # what its own functions do may be another thing by the next statement
            self.judged = {}
            try:
                return self.inner_changes(function)
            finally:
                self.judged = None
        if function in self.judged:
            return self.judged[function]
        self.judged[function] = set()  # of one that calls itself
        inner = Reader()
        inner.judged = self.judged
        inner.imported, inner.functions, inner.live = self.imported, dict(self.functions), set(self.live)
        arguments = [each.arg for each in ast.walk(function.args) if isinstance(each, ast.arg)]
        inner.live -= set(arguments)
        body = function.body if isinstance(function.body, list) else [ast.Expr(function.body)]
        body = [_without_return(each) for each in body]
        inner.body(body, settled=set(), sure=True)
        declared = {name for node in ast.walk(function) if isinstance(node, ast.Global) for name in node.names}
        self.judged[function] = inner.cell.changes - (inner.cell.binds - set(arguments)) | declared
        return self.judged[function]

    def with_wholes(self, node: ast.AST, deep: bool) -> set[str]:
        """Return the name behind an expression that is changed, and what it is a part of."""
        parts, inside = self.origins(node)
        found, waiting = set(), [(name, deep) for name in parts] + [(name, True) for name in inside if deep]
        while waiting:
            name, deeply = waiting.pop()
            if name not in found:
                found.add(name)
                waiting += [(other, True) for other in self.parts.get(name, ())]
                waiting += [(other, True) for other in self.inside.get(name, ()) if deeply]
        return found


def _one_each(value: ast.expr, targets: list[ast.expr], loop: bool) -> list[ast.expr]:
    """Return for each target of an unpacking what it comes from, the whole value where that cannot be told."""
    if any(isinstance(target, ast.Starred) for target in targets):
        return [value] * len(targets)
    if isinstance(value, ast.Tuple | ast.List) and len(value.elts) == len(targets) and not loop:
        return value.elts
    if loop and isinstance(value, ast.Call) and isinstance(value.func, ast.Name):
        if value.func.id == "zip" and len(value.args) == len(targets):
            return value.args
        if value.func.id == "enumerate" and len(targets) == 2:
            return [ast.Constant(0), value.args[0]]
    if isinstance(value, ast.GeneratorExp) and not loop:  # drawn from on the spot, so nothing is left that changes
        return [ast.ListComp(value.elt, value.generators)] * len(targets)
    if isinstance(value, ast.Call) and _called(value) in ("zip", "map", "filter", "reversed") and not loop:
        return [ast.List(_arguments(value), ast.Load())] * len(targets)
    return [value] * len(targets)


def _without_return(statement: ast.stmt) -> ast.stmt:
    # outside of its function a statement may not return or yield
    class Plain(ast.NodeTransformer):
        def visit_Return(self, node: ast.Return) -> ast.stmt:
            return ast.Assign([ast.Name("returned", ast.Store())], node.value or ast.Constant(None), lineno=0)

        def visit_Yield(self, node: ast.Yield) -> ast.expr:
            return node.value or ast.Constant(None)

        def visit_YieldFrom(self, node: ast.YieldFrom) -> ast.expr:
            return node.value

        def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.stmt:
            return node  # its own returns are its own

        visit_Lambda = visit_FunctionDef

    import copy

    return ast.fix_missing_locations(Plain().visit(copy.deepcopy(statement)))
