"""For pytest --nbval: also compare the numbers between ⟨ and ⟩, which nbval masks."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT / "workflow"))

from compare import cells_apart  # noqa: E402


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    result = yield
    if hasattr(item, "test_outputs"):
        chapter = str(item.path.relative_to(ROOT / "book").with_suffix(""))
        kept = [dict(output) for output in item.cell.outputs]
        found = [dict(output) for output in item.test_outputs]
        if apart := cells_apart(chapter, item.cell.execution_count, kept, found):
            item.raise_cell_error("Numbers differ by more than drift allows", "\n".join(apart))
    return result
