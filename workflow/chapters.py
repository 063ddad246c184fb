"""Which chapters there are, and which values a preset gives to each one's parameters."""

from pathlib import Path

import yaml
from notebooks import declared_parameters, read_notebook

ROOT = Path(__file__).resolve().parent.parent
RUNS = ROOT / "_build" / "run"
PRESETS = ("smoke", "book", "paper")
_TYPES = {"int": int, "float": float, "bool": bool, "str": str}


def pages(root: Path = ROOT) -> list[str]:
    """Return every page of the table of contents, in reading order, as written there."""
    toc = yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))
    parts = toc.get("parts", [toc])
    return [toc["root"]] + [page["file"] for part in parts for page in part.get("chapters", [])]


def chapters(root: Path = ROOT) -> list[str]:
    """Return the pages that are notebooks, as folder/name below book/."""
    return [page.removeprefix("book/") for page in pages(root) if (root / f"{page}.ipynb").exists()]


def numbers(root: Path = ROOT) -> dict[str, int]:
    """Return page -> its number, as Sphinx counts through the numbered parts of the table of contents."""
    parts = yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8")).get("parts", [])
    files = [page["file"] for part in parts if part.get("numbered") for page in part["chapters"]]
    return {file: number for number, file in enumerate(files, start=1)}


def typed_values(chapter: str, values: dict, root: Path = ROOT) -> dict:
    """Return the values as the chapter's parameter cell types them.

    Raises:
        ValueError: on a name the chapter does not declare, or a value of another type.
    """
    declared = declared_parameters(read_notebook(root / "book" / f"{chapter}.ipynb"))
    for name in values:
        if name not in declared:
            known = ", ".join(declared) or "none"
            raise ValueError(f"{chapter} has no parameter {name!r}; its parameters are: {known}")
    return {name: _typed(chapter, name, value, declared[name]) for name, value in values.items()}


def _typed(chapter: str, name: str, value: object, annotation: str) -> object:
    if annotation.startswith("list["):
        if isinstance(value, list):
            return [_typed(chapter, name, item, annotation[5:-1]) for item in value]
    elif annotation not in _TYPES:
        kinds = ", ".join(_TYPES)
        raise ValueError(f"{chapter}: parameter {name!r} is annotated {annotation}; use {kinds} or list[...]")
    elif annotation == "float" and type(value) is int:
        return float(value)
    elif type(value) is _TYPES[annotation]:
        return value
    # YAML reads 1e-3 as text: 1.0e-3 is a number
    hint = "; write 1.0e-3, not 1e-3" if isinstance(value, str) and "float" in annotation else ""
    raise ValueError(f"{chapter}: parameter {name!r} expects {annotation}, got {value!r}{hint}")


def preset_values(preset: str, root: Path = ROOT) -> dict[str, dict]:
    """Return chapter -> values of a preset; the book preset is the notebooks' own defaults.

    Raises:
        ValueError: on an unknown preset, chapter or parameter, or a value of the wrong type.
    """
    if preset not in PRESETS:
        raise ValueError(f"unknown preset {preset!r}; the presets are: {', '.join(PRESETS)}")
    table = yaml.safe_load((root / "workflow" / "presets.yml").read_text(encoding="utf-8")) or {}
    known = chapters(root)
    for name, values in table.items():
        if name not in PRESETS or name == "book":
            raise ValueError(f"presets.yml: expected smoke or paper, got {name!r}")
        for chapter in values or {}:
            if chapter not in known:
                raise ValueError(f"presets.yml: {name} names {chapter!r}, which is no chapter in _toc.yml")
            typed_values(chapter, values[chapter] or {}, root)
    chosen = table.get(preset) or {}
    return {chapter: typed_values(chapter, chosen.get(chapter) or {}, root) for chapter in known}
