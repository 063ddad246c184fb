"""Negative controls of chapters: on a wrong object each claim must fail.

A chapter's own cells run once at the smoke preset. A control then takes the variables as they stood before the cell of
one claim, puts a wrong object in place of a right one, and runs that very cell again.
"""

import json
from pathlib import Path

import pytest
import yaml

from cmlib import claims

ROOT = Path(__file__).resolve().parent.parent


def notebook(chapter):
    return json.loads((ROOT / "book" / f"{chapter}.ipynb").read_text(encoding="utf-8"))


def code_cells(chapter):
    return [cell for cell in notebook(chapter)["cells"] if cell["cell_type"] == "code"]


def claimed(chapter):
    """Ids of the claims that the committed chapter has checked."""
    return sorted(claim["id"] for claim in notebook(chapter)["metadata"]["cmlib"]["claims"])


def run(chapter, folder):
    """Return the variables before each code cell, of a run at the smoke preset in which every claim passed."""
    smoke = yaml.safe_load((ROOT / "workflow" / "presets.yml").read_text())["smoke"][chapter]
    variables, before = {}, []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CMLIB_OUTPUT", str(folder))
        for cell in code_cells(chapter):
            before.append(dict(variables))
            exec("".join(cell["source"]), variables)
            if "parameters" in cell["metadata"].get("tags", []):
                variables |= smoke
    return before


def assert_fails(chapter, before, claim, control):
    """Run the claim's cell again on the control's wrong objects; the claim must fail, and no other before it."""
    printed = ["".join("".join(out.get("text", "")) for out in cell["outputs"]) for cell in code_cells(chapter)]
    index = next(i for i, text in enumerate(printed) if f"{claim} · measured" in text)
    variables = dict(before[index])
    variables |= control(variables)
    with pytest.raises(claims.ClaimFailed, match=f"^{claim} "):
        exec("".join(code_cells(chapter)[index]["source"]), variables)
