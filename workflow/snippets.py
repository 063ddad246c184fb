"""The Python of a page, for the type checker and for the test that runs it.

python workflow/snippets.py README.md >_build/readme.py
"""

import sys
from pathlib import Path


def python_of(text: str) -> str:
    """Return the blocks that open with ```python, every other line empty, so that numbers of lines stay the page's."""
    lines, inside = [], False
    for line in text.splitlines():
        fence = line.startswith("```")
        lines.append(line if inside and not fence else "")
        inside = line == "```python" or (inside and not fence)
    if inside:
        raise ValueError("expected a block of Python to be closed, got the end of the page")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(python_of(Path(sys.argv[1]).read_text(encoding="utf-8")), end="")
