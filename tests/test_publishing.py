"""What leads out of a copy of the book: nothing without an address, everything from it; workflows, container, Pages."""

import base64
import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import nbformat
import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "workflow"))

import identity  # noqa: E402
import pages  # noqa: E402
import pdf  # noqa: E402
import release  # noqa: E402
from stage import with_installation  # noqa: E402

ADDRESS = "https://github.com/Example/curse-of-memory"
SITE = "https://example.github.io/curse-of-memory/"
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


@pytest.fixture
def project(tmp_path):
    for name in ("_config.yml", "CITATION.cff"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def with_address(project, address):
    config = yaml.safe_load((project / "_config.yml").read_text(encoding="utf-8"))
    config["repository"]["url"] = address
    (project / "_config.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    return project


# ---- the one setting -----------------------------------------------------------------------------


@pytest.mark.parametrize("address", [ADDRESS, ADDRESS + "/"])
def test_addresses_follow_from_that_of_the_repository(project, address):
    found = identity.addresses(with_address(project, address))
    assert found["repository"] == ADDRESS and found["site"] == SITE


def test_site_of_an_owner_lies_at_the_root_of_its_host(project):
    address = "https://github.com/Example/example.github.io"
    assert identity.addresses(with_address(project, address))["site"] == "https://example.github.io/"


@pytest.mark.parametrize(
    "address", ["https://github.com/example", "https://example.org/a/b", "git@github.com:a/b.git", f"{ADDRESS}/tree/x"]
)
def test_address_that_is_none_is_refused(project, address):
    with pytest.raises(ValueError, match="expected the repository's url to be empty or https://github.com/OWNER/NAME"):
        identity.addresses(with_address(project, address))


def test_copy_outside_a_checkout_has_no_commit(project):
    assert identity.commit(project) is None


def test_commit_says_when_files_differ_from_it(project):
    git = ["git", "-C", str(project), "-c", "user.name=n", "-c", "user.email=e"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "first"]):
        subprocess.run(git + command, check=True)
    commit = identity.commit(project)
    assert re.fullmatch("[0-9a-f]{40}", commit)
    (project / "CITATION.cff").write_text("title: another\n")
    assert identity.commit(project) == f"{commit}-modified"


# ---- a site of two pages, without an address and with one ------------------------------------------


def build(folder, address):
    """Build a site of a text and a chapter; return the folder of its pages."""
    for name in ("_config.yml", "CITATION.cff"):
        shutil.copy(ROOT / name, folder)
    with_address(folder, address)
    for name in ("_ext", "_extra", "_static", "_templates"):
        shutil.copytree(ROOT / "book" / name, folder / "book" / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "book" / "references.bib", folder / "book")
    (folder / "extra").mkdir()
    shutil.copy(ROOT / "LICENSE", folder / "extra" / "LICENSE.txt")
    toc = {"format": "jb-book", "root": "book/intro", "chapters": [{"file": "book/linear/one"}]}
    (folder / "_toc.yml").write_text(yaml.safe_dump(toc))
    (folder / "book" / "intro.md").write_text("# First\n\nSee {cite:t}`wang2024inverse`.\n\n```{bibliography}\n```\n")
    (folder / "book" / "linear").mkdir()
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# One & all\n\nText.")])
    picture = base64.b64encode((ROOT / "book" / "_static" / "B-F1b.png").read_bytes() + b"another").decode()
    output = nbformat.v4.new_output("display_data", {"image/png": picture})
    folded = {"tags": ["hide-input"]}
    notebook.cells.append(nbformat.v4.new_code_cell("draw()", outputs=[output], metadata=folded))
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, folder / "book" / "linear" / "one.ipynb")
    (folder / "identity.json").write_text(json.dumps(identity.identity(folder) | {"commit": "a1" * 20}))
    command = [str(Path(sys.executable).with_name("jupyter-book")), "build", str(folder), "-n", "-W", "-q"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "_build" / "html"


@pytest.fixture(scope="module")
def without(tmp_path_factory):
    return build(tmp_path_factory.mktemp("without"), "")


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    return build(tmp_path_factory.mktemp("published"), ADDRESS)


def test_site_without_an_address_names_no_place_for_itself(without):
    for name in ("book/intro", "book/linear/one"):
        page = (without / f"{name}.html").read_text()
        assert "github" not in re.sub("(?s)<script.*?</script>", "", page)
        assert "canonical" not in page and "og:" not in page and "launch-buttons" not in page
    assert not (without / "sitemap.xml").exists() and not (without / "404.html").exists()


def test_footer_says_which_copy_this_is_and_how_to_cite_the_page(without, published):
    for site, address in ((without, None), (published, f"{SITE}book/linear/one.html")):
        page = (site / "book/linear/one.html").read_text()
        foot = page[page.index('class="page-footer"') :]
        assert "Version 0." in foot and "a1a1a1a1a1" in foot and "../../LICENSE.txt" in foot and "MIT licence" in foot
        assert r"title = {One \&amp; all}" in foot
        assert (f"url = {{{address}}}" in foot) == (address is not None)
        assert ("issues/new" in foot) == (address is not None)


def test_chapter_is_offered_as_notebook_and_runs_elsewhere(published):
    page = (published / "book/linear/one.html").read_text()
    assert re.findall(r'<a href="([^"]+)" target="_blank"', page) == [
        "https://mybinder.org/v2/gh/Example/curse-of-memory/main?urlpath=lab/tree/book/linear/one.ipynb",
        "https://colab.research.google.com/github/Example/curse-of-memory/blob/gh-pages/notebooks/linear/one.ipynb",
        "https://codespaces.new/Example/curse-of-memory?quickstart=1",
        ADDRESS,
        f"{ADDRESS}/issues/new?title=Issue%20on%20page%20%2Fbook/linear/one.html&body=Your%20issue%20content%20here.",
        "../../notebooks/linear/one.ipynb",
    ]
    text = (published / "book/intro.html").read_text()
    assert f'href="{ADDRESS}/edit/main/book/intro.md"' in text  # a notebook's JSON is nothing to edit
    assert "mybinder" not in text and "_sources" not in text


@pytest.mark.parametrize(("name", "folder"), [("book/intro", "_static"), ("book/linear/one", "_images")])
def test_published_page_has_its_address_and_a_card_with_a_picture(published, name, folder):
    page = (published / f"{name}.html").read_text()
    assert f'<link rel="canonical" href="{SITE}{name}.html"' in page
    assert f'property="og:url" content="{SITE}{name}.html"' in page
    picture = re.search(rf'property="og:image" content="{SITE}([^"]+)"', page)[1]
    assert picture.startswith(folder) and (published / picture).exists()


def test_sitemap_lists_the_pages(published):
    sitemap = (published / "sitemap.xml").read_text()
    assert re.findall("<loc>(.*?)</loc>", sitemap) == [f"{SITE}book/intro.html", f"{SITE}book/linear/one.html"]


def test_links_of_the_404_page_start_from_the_root_of_its_host(published):
    targets = re.findall(r"""(?:href|src)=["']([^"'#]+)""", (published / "404.html").read_text())
    local = {target.partition("?")[0] for target in targets if not target.startswith("https://")}
    assert {"/curse-of-memory/book/linear/one.html", "/curse-of-memory/search.html"} <= local
    assert [t for t in local if not (published / t.removeprefix("/curse-of-memory/")).exists()] == []


# ---- notebooks for Colab ---------------------------------------------------------------------------


@pytest.mark.parametrize(("addresses", "commit"), [({}, "a" * 40), ({"repository": ADDRESS}, None)])
def test_notebook_stays_as_it_is_where_there_is_nothing_to_fetch(addresses, commit):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# One")])
    assert with_installation(notebook, {"addresses": addresses, "commit": commit}) == notebook


def test_notebook_for_colab_begins_by_fetching_this_commit():
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# One")])
    copy = {"addresses": {"repository": ADDRESS}, "commit": "a" * 40 + "-modified"}
    made = nbformat.from_dict(with_installation(notebook, copy))
    nbformat.validate(made)
    assert made.cells[1:] == notebook.cells
    fetching = f"!git clone --quiet {ADDRESS}.git\n%cd curse-of-memory\n!git checkout --quiet {'a' * 40}\n"
    assert fetching in made.cells[0].source


# ---- Pages, workflows, container -------------------------------------------------------------------


def git(folder, *command):
    who = ["-c", "user.name=n", "-c", "user.email=e"]
    done = subprocess.run(["git", "-C", str(folder), *who, *command], check=True, capture_output=True, text=True)
    return done.stdout.split()


def test_site_is_pushed_as_the_only_commit_of_its_branch(tmp_path, monkeypatch):
    checkout, remote, html = tmp_path / "checkout", tmp_path / "remote", tmp_path / "html"
    (checkout / "_build").mkdir(parents=True)
    (html / "_static").mkdir(parents=True)
    (html / "_static" / "a.css").write_text("a")
    git(tmp_path, "init", "-q", "--bare", str(remote))
    git(checkout, "init", "-q")
    git(checkout, "commit", "-q", "--allow-empty", "-m", "first")
    git(checkout, "remote", "add", "origin", str(remote))
    monkeypatch.setattr(pages, "ROOT", checkout)
    pages.push(html)
    (html / "_static" / "a.css").rename(html / "_static" / "b.css")
    pages.push(html)
    assert git(remote, "ls-tree", "-r", "--name-only", "gh-pages") == [".nojekyll", "_static/b.css"]
    assert git(remote, "rev-list", "--count", "gh-pages") == ["1"]
    assert git(checkout, "status", "--porcelain", "--untracked-files=no") == []


def conforms(*paths):
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows"]
    return subprocess.run([*command, *map(str, paths)], capture_output=True, timeout=60).returncode == 0


def test_workflows_conform_to_their_schema(tmp_path):
    assert {path.stem for path in WORKFLOWS} == {"ci", "matrix", "pages", "release"}
    assert conforms(*WORKFLOWS)
    wrong = tmp_path / "wrong.yml"
    wrong.write_text(WORKFLOWS[0].read_text().replace("runs-on:", "runs-in:"))
    assert not conforms(wrong)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflow_has_least_rights_ends_and_pins_what_it_uses(path):
    workflow = yaml.safe_load(path.read_text())
    assert workflow["permissions"] == {"contents": "read"} and "group" in workflow["concurrency"]
    for name, job in workflow["jobs"].items():
        assert job["timeout-minutes"] <= 120
        assert "permissions" not in job or (path.stem, name) in {("pages", "pages"), ("release", "release")}
        assert all(re.fullmatch(r"actions/[\w-]+@v\d+", step["uses"]) for step in job["steps"] if "uses" in step)


def test_targets_and_stages_that_workflows_and_container_use_exist():
    container = (ROOT / ".binder" / "Dockerfile").read_text()
    devcontainer = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())
    texts = "\n".join([container, devcontainer["postCreateCommand"], *(path.read_text() for path in WORKFLOWS)])
    used = set(re.findall(r"(?:^|run: |tools |RUN )make ([a-z]+)", texts, re.MULTILINE))
    assert used == {"environment", "pages", "release"}
    assert used <= set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    stages = set(re.findall(r"^FROM \S+ AS (\w+)", container, re.MULTILINE))
    assert {*re.findall(r"--target (\w+)", texts), devcontainer["build"]["target"]} == stages
    dockerfile = ROOT / ".devcontainer" / devcontainer["build"]["dockerfile"]
    assert dockerfile.samefile(ROOT / ".binder" / "Dockerfile")


# ---- a release ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("commit", [None, "a" * 40 + "-modified"])
def test_release_is_of_one_commit(monkeypatch, capsys, commit):
    monkeypatch.setattr(release, "identity", lambda: {"commit": commit})
    assert release.main() == 1
    assert "expected a checkout without changes" in capsys.readouterr().err


def test_archive_holds_one_folder_and_its_checksum_is_right(tmp_path, monkeypatch):
    monkeypatch.setattr(release, "RELEASE", tmp_path / "release")
    site = tmp_path / "html"
    (site / "book").mkdir(parents=True)
    release.RELEASE.mkdir()
    (site / "book" / "intro.html").write_text("<!doctype html>")
    release.archive("book-1.0-site", site)
    with zipfile.ZipFile(release.RELEASE / "book-1.0-site.zip") as made:
        assert "book-1.0-site/book/intro.html" in made.namelist()
        assert all(name.startswith("book-1.0-site/") for name in made.namelist())
    check = ["sha256sum", "--check", "--strict"]
    done = subprocess.run(check, cwd=release.RELEASE, input=release.checksums(), text=True, capture_output=True)
    assert done.returncode == 0 and done.stdout == "book-1.0-site.zip: OK\n"


# ---- the PDF ---------------------------------------------------------------------------------------


def test_pages_become_one_whose_links_stay_within_it(tmp_path):
    pages = {
        "book/intro": """<link href="../_static/a.css?v=1"><article>
            <h1 id="shared">First<a class="headerlink">#</a></h1>
            <a href="#shared"></a><a href="linear/one.html"></a><a href="linear/one.html#shared"></a>
            <a href="linear/one.html#own"></a><a href="../data.csv"></a><a href="https://doi.org/1"></a></article>""",
        "book/linear/one": """<article><h1 id="shared">One</h1><p id="own"></p><a href="../intro.html#shared"></a>
            <img loading="lazy" src="../../_images/k.png" srcset="../../_images/k.png 1x, ../../_images/k2.png 2x">
            </article>""",
    }
    for name, text in pages.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"{name}.html").write_text(text)
    whole = pdf.one_page(tmp_path, list(pages))
    first, one = "book/intro--shared", "book/linear/one--shared"
    links = [link.get("href") for link in whole.article.find_all("a", class_=False)]
    assert links == [f"#{first}", "#book/linear/one", f"#{one}", "#own", None, "https://doi.org/1", f"#{first}"]
    ids = [tag["id"] for tag in whole.find_all(id=True)]
    assert ids == ["book/intro", first, "book/linear/one", one, "own"]
    root = tmp_path.as_uri()
    assert whole.link["href"] == f"{root}/_static/a.css?v=1" and whole.img["src"] == f"{root}/_images/k.png"
    assert "loading" not in whole.img.attrs
    assert whole.img["srcset"] == f"{root}/_images/k.png 1x, {root}/_images/k2.png 2x"
    pdf.add_contents(whole, "Version 1", [("Part", ["book/linear/one"])])
    front = whole.find(class_="front-matter")
    assert front.get_text("|", strip=True) == "Version 1|Part|One" and front.a["href"] == "#book/linear/one"


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
@pytest.mark.parametrize(
    ("body", "said"),
    [
        ('<p>Text and <a href="#s">a link</a>, <a href="data.csv">another</a>.</p>', []),
        ('<img src="none.png" alt="A kernel">', ["broken picture in s: A kernel"]),
        ('<a href="#t">Theorem</a>', ["link to nowhere in s: Theorem"]),
        ("<mjx-merror>\\frac</mjx-merror>", ["formula that is none in s: \\frac"]),
        ('<pre style="width: 200mm">x = 1</pre>', ["cut at the margin in s: x = 1"]),
        ('<details><p style="width: 200mm">unfolded</p></details>', ["cut at the margin in s: unfolded"]),
    ],
)
def test_what_is_broken_on_paper_is_named(tmp_path, body, said):
    from playwright.sync_api import sync_playwright

    page = tmp_path / "book.html"
    page.write_text(f'<!doctype html><body><article><section id="s">{body}</section></article>')
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=pdf.FLAGS)
        assert pdf.show(browser.new_page(viewport=pdf.VIEWPORT), page) == said
        browser.close()
