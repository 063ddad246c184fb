"""Which copy of the book this is: the address of its repository, its version and its commit."""

import re
import subprocess
from pathlib import Path

import yaml
from chapters import ROOT

REPOSITORY = re.compile(r"https://github\.com/([\w-]+)/([\w.-]+?)/?")
# A branch of the repository holds the built site: Pages shows it, and Colab opens the notebooks in it.
PAGES_BRANCH = "gh-pages"


def addresses(root: Path = ROOT) -> dict[str, str]:
    """Return the addresses that follow from the repository's, the one setting; none while it is empty.

    Raises:
        ValueError: unless `repository: url` in `_config.yml` is empty or that of a repository on GitHub.
    """
    url = yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))["repository"]["url"]
    if not url:
        return {}
    found = REPOSITORY.fullmatch(url)
    if found is None:
        raise ValueError(
            f"_config.yml: expected the repository's url to be empty or https://github.com/OWNER/NAME: {url}"
        )
    owner, name = found.groups()
    host = f"{owner.lower()}.github.io"
    return {
        "repository": f"https://github.com/{owner}/{name}",
        "site": f"https://{host}/" + ("" if name.lower() == host else f"{name}/"),
        "binder": f"https://mybinder.org/v2/gh/{owner}/{name}/main?urlpath=lab/tree/",
        "colab": f"https://colab.research.google.com/github/{owner}/{name}/blob/{PAGES_BRANCH}/",
        "codespaces": f"https://codespaces.new/{owner}/{name}?quickstart=1",
    }


def commit(root: Path = ROOT) -> str | None:
    """Return the commit checked out, "-modified" where files differ from it; None outside a checkout."""
    if not (root / ".git").exists():  # a repository around a copy of the project is another's
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty=-modified", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):  # no git, or no commit
        return None


def identity(root: Path = ROOT) -> dict:
    """Return what the site says of itself: addresses, commit, and the title, author, version and licence to cite.

    Raises:
        ValueError: on an address that is none.
    """
    cited = yaml.safe_load((root / "CITATION.cff").read_text(encoding="utf-8"))
    author = " and ".join(f"{{{person['name']}}}" for person in cited["authors"])
    return {
        "addresses": addresses(root),
        "commit": commit(root),
        "author": author,
        **{key: str(cited[key]) for key in ("title", "version", "license")},
    }
