"""Put into _build/release what a release holds, and the checksums of all of it.

The site, the PDF and the executed notebooks, to read offline; the library as wheel and source distribution; a bill of
materials of the book's environment.

python workflow/release.py
"""

import hashlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from chapters import ROOT
from identity import identity
from pdf import PDF
from publish import HTML

RELEASE = ROOT / "_build" / "release"
SBOM_TOOL = "cyclonedx-bom==7.5.0"


def call(*command: str | Path) -> None:
    subprocess.run([*map(str, command)], cwd=ROOT, check=True)


def archive(name: str, folder: Path) -> None:
    """Zip a folder's content, below one folder of the archive's name."""
    with tempfile.TemporaryDirectory() as above:
        shutil.copytree(folder, Path(above) / name)
        shutil.make_archive(str(RELEASE / name), "zip", above, name)


def library(commit: str) -> None:
    """Build the library's distributions from the commit: setuptools leaves things behind where it works."""
    with tempfile.TemporaryDirectory() as copy:
        call("git", "archive", "--output", f"{copy}/source.tar", commit)
        shutil.unpack_archive(f"{copy}/source.tar", copy)
        build = f"from setuptools import build_meta; build_meta.build_sdist({str(RELEASE)!r})"
        subprocess.run([sys.executable, "-c", build], cwd=copy, check=True, stdout=subprocess.DEVNULL)
    (sdist,) = RELEASE.glob("*.tar.gz")
    options = ["--quiet", "--no-build-isolation", "--no-deps", "--no-index", "--wheel-dir", RELEASE]
    call(sys.executable, "-m", "pip", "wheel", *options, sdist)


def bill_of_materials(path: Path) -> None:
    """Write what is installed beside this Python, in the format CycloneDX; the tool has an environment of its own."""
    with tempfile.TemporaryDirectory() as folder:
        call(sys.executable, "-m", "venv", folder)
        call(f"{folder}/bin/pip", "install", "--quiet", "--disable-pip-version-check", SBOM_TOOL)
        command = [f"{folder}/bin/cyclonedx-py", "environment", "--pyproject", "pyproject.toml"]
        call(*command, "--output-reproducible", "--output-file", path, sys.executable)


def checksums() -> str:
    """Return a line for each file of the release, as `sha256sum --check` reads them."""
    files = sorted(RELEASE.iterdir())
    return "".join(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in files)


def main() -> int:
    this = identity()
    if this["commit"] is None or this["commit"].endswith("-modified"):
        print("release: expected a checkout without changes: a release is of one commit", file=sys.stderr)
        return 1
    call(sys.executable, "workflow/build.py", "site")
    call(sys.executable, "workflow/pdf.py")
    shutil.rmtree(RELEASE, ignore_errors=True)
    RELEASE.mkdir()
    name = f"curse-of-memory-{this['version']}"
    archive(f"{name}-site", HTML)
    archive(f"{name}-notebooks", HTML / "notebooks")
    shutil.copy(PDF, RELEASE / f"{name}.pdf")
    library(this["commit"])
    bill_of_materials(RELEASE / f"{name}.cdx.json")
    (RELEASE / "SHA256SUMS").write_text(checksums(), encoding="utf-8")
    for file in sorted(RELEASE.iterdir()):
        print(f"release  {file.relative_to(ROOT)}  {file.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
