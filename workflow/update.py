"""Put the outputs of a chapter's last run at the book preset into the chapter, whose prose may be newer.

python workflow/update.py linear/memory-kernels
"""

import shutil
import sys

from chapters import ROOT, RUNS
from figure_data import gathered, keep, numbers_digest
from notebooks import merged, normalised, read_notebook, record_of

# shown in README
PICTURES = {"linear/memory-kernels": "B-F1b.png"}


def update(chapter: str) -> bool:
    """Return whether the notebook changed."""
    path, run = ROOT / "book" / f"{chapter}.ipynb", RUNS / "book" / chapter
    new, numbers = read_notebook(run / "executed.ipynb"), gathered(run / "figures")
    text = normalised(merged(read_notebook(path), new), record_of(new) | {"figures": numbers_digest(numbers)})
    changed = text != path.read_text(encoding="utf-8")
    if changed:
        path.write_text(text, encoding="utf-8")
    keep(chapter, numbers)
    if picture := PICTURES.get(chapter):
        shutil.copyfile(run / "figures" / picture, ROOT / "book" / "_static" / picture)
    return changed


if __name__ == "__main__":
    for chapter in sys.argv[1:]:
        print(f"{chapter}  {'updated' if update(chapter) else 'no change'}")
