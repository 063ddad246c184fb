"""Put the built site on a branch of origin, as its one commit: Pages shows it, and Colab opens the notebooks in it.

python workflow/pages.py
"""

import os
import subprocess
from pathlib import Path

from chapters import ROOT
from identity import PAGES_BRANCH, commit
from publish import HTML

COMMITTER = {"GIT_AUTHOR_NAME": "pages", "GIT_AUTHOR_EMAIL": "pages@localhost"}
COMMITTER |= {"GIT_COMMITTER_NAME": "pages", "GIT_COMMITTER_EMAIL": "pages@localhost"}


def git(*command: str, **environment: str) -> str:
    done = subprocess.run(
        ["git", *command], cwd=ROOT, env=os.environ | environment, check=True, stdout=subprocess.PIPE, text=True
    )
    return done.stdout.strip()


def push(folder: Path = HTML) -> str:
    """Push a folder's content as the branch's only commit; return its hash."""
    (folder / ".nojekyll").touch()  # or Pages leaves out the folders whose names begin with _
    index = ROOT / "_build" / "pages.index"  # the checkout's own is left alone
    index.unlink(missing_ok=True)
    git(f"--work-tree={folder}", "add", "--all", "--force", str(folder), GIT_INDEX_FILE=str(index))
    tree = git("write-tree", GIT_INDEX_FILE=str(index))
    made = git("commit-tree", tree, "-m", f"The site of {commit()}", **COMMITTER)
    git("push", "--force", "origin", f"{made}:refs/heads/{PAGES_BRANCH}")
    return made


if __name__ == "__main__":
    print(f"pages  {push()[:10]} is {PAGES_BRANCH} of origin")
