"""Two layers of one chapter: the story, with its code in folds that say what they hold, and the record behind it."""

import ast
import copy
import re

from chapters import numbers
from notebooks import code_cells, source, tags

LONGEST_NAME = 70


def with_layers(notebook: dict, chapter: str) -> dict:
    """Put every cell's code into a fold with a name, and a map of the chapter under its title."""
    notebook, figure = copy.deepcopy(notebook), 0
    number = numbers().get(f"book/{chapter}")
    stem = f"Draw Figure {number}." if number else "Draw Figure "
    for cell in code_cells(notebook):
        about = cell["metadata"].setdefault("mystnb", {})
        figure += "figure" in about
        name = f"{stem}{figure}" if "figure" in about else fold_name(cell)
        judges = "hide-cell" in tags(cell)
        kept = [tag for tag in tags(cell) if tag not in ("hide-input", "hide-cell")]
        if "remove-input" not in kept and "remove-cell" not in kept:
            kept += ["hide-input"]
            about |= {"code_prompt_show": name, "code_prompt_hide": name}
        cell["metadata"]["tags"] = kept + (["judges"] if judges else [])
    with_map(notebook, chapter.rpartition("/")[2])
    return notebook


def fold_name(cell: dict) -> str:
    """Return what a cell holds, in a few words: its first comment, or the names that it defines or computes."""
    code = source(cell).strip()
    if "parameters" in tags(cell):
        return "Parameters"
    first = code.splitlines()[0] if code else ""
    if first.startswith("# "):
        return shortened(first[2:].rstrip("."))
    statements = ast.parse(code).body
    ids = re.findall(r"\bclaims\.(?:check|claim)\(\s*[rf]?\"([^\"]+)\"", code)
    if ids:
        return shortened("Judge " + re.sub(r"\{.*?\}", "…", ", ".join(dict.fromkeys(ids))))
    defined = [s.name for s in statements if isinstance(s, ast.FunctionDef | ast.ClassDef)]
    if defined:
        return shortened("Define " + ", ".join(defined))
    names = [name for statement in statements for name in assigned(statement)]
    if names:
        return shortened("Compute " + ", ".join(dict.fromkeys(names)))
    if any(isinstance(s, ast.Import | ast.ImportFrom) for s in statements):
        return "Import what the chapter uses"
    return "Print the numbers" if "print(" in code else shortened(first)


def assigned(statement: ast.stmt) -> list[str]:
    """Return the names that a statement at the top of a cell binds, loops and branches included."""
    if isinstance(statement, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef):
        return []
    bound = [node for node in ast.walk(statement) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]
    inner = {id(n) for c in ast.walk(statement) if isinstance(c, ast.comprehension) for n in ast.walk(c.target)}
    return [node.id for node in bound if id(node) not in inner and not node.id.startswith("_")]


def shortened(name: str) -> str:
    """Return a name of at most LONGEST_NAME characters, cut at a word."""
    if len(name) <= LONGEST_NAME:
        return name
    return name[: LONGEST_NAME + 1].rsplit(" ", 1)[0].rstrip(",") + " …"


def with_map(notebook: dict, name: str) -> None:
    """Give each section an address, and list the sections under the title, the one with the main result marked."""
    entries, main, pending = [], None, False
    for cell in notebook["cells"]:
        if cell["cell_type"] != "markdown":
            continue
        lines, fenced = [], False
        for line in source(cell).splitlines():
            fenced ^= line.lstrip().startswith("```")
            if line.startswith("## ") and not fenced:
                entries.append((f"map-{name}-{len(entries) + 1}", line.removeprefix("## ").strip()))
                lines += ["", f"({entries[-1][0]})="]
            if pending and line.strip():
                main, pending = len(entries) - 1, False
            pending |= line.strip() == f"(main-{name})="
            lines.append(line)
        cell["source"] = "\n".join(lines)
    if not entries:
        return
    links = [f"[{heading}](#{target})" for target, heading in entries]
    if main is not None:  # -1: it stands before the first section
        links[max(main, 0)] += f" (★ [main result](#main-{name}))"
    first = notebook["cells"][0]
    lines = source(first).splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("# ")) + 1
    lines[at:at] = ["", ":::{div} chapter-map", "**In this chapter** " + " · ".join(links), ":::", ""]
    first["source"] = "\n".join(lines)
