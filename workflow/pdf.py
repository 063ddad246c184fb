"""Print the whole book as one PDF: the pages of the built site become one, Chromium sets it with print.css.

python workflow/pdf.py writes _build/curse-of-memory.pdf; it exits with 1, naming what is broken, where a picture, a
formula or a link is, or something would be cut at the margin.
"""

import posixpath
import shutil
import sys
import time
from collections import Counter
from pathlib import Path
from urllib.parse import unquote

import yaml
from bs4 import BeautifulSoup, Tag
from chapters import ROOT, pages
from identity import identity
from playwright.sync_api import Page, sync_playwright
from publish import HTML

PDF = ROOT / "_build" / "curse-of-memory.pdf"
BOOK = PDF.with_suffix(".html")
FLAGS = ["--headless", "--no-sandbox"]
# wide enough for the text on A4 within its margins, at 96 pixels an inch
VIEWPORT = {"width": 665, "height": 980}
TROUBLES = """() => {
  const found = [];
  const name = e => e.closest('section[id]')?.id + ': ' + (e.alt || e.textContent).trim().slice(0, 60);
  for (const e of document.querySelectorAll('article img'))
    if (e.offsetParent && !e.naturalWidth) found.push('broken picture in ' + name(e));
  for (const e of document.querySelectorAll('mjx-merror')) found.push('formula that is none in ' + name(e));
  for (const e of document.querySelectorAll('article a[href^="#"]'))
    if (!document.getElementById(decodeURIComponent(e.getAttribute('href').slice(1))))
      found.push('link to nowhere in ' + name(e));
  const edge = document.querySelector('article').getBoundingClientRect().right + 1;
  for (const e of document.querySelectorAll('article :is(pre, td, th, p, img, svg, mjx-container)'))
    if (e.offsetParent && e.getBoundingClientRect().right > edge) found.push('cut at the margin in ' + name(e));
  return found;
}"""


def one_page(site: Path, names: list[str]) -> BeautifulSoup:
    """Return the pages of a site as one, in this order, with links that stay within it."""
    whole = BeautifulSoup((site / f"{names[0]}.html").read_text(encoding="utf-8"), "html.parser")
    parts = {n: BeautifulSoup((site / f"{n}.html").read_text(encoding="utf-8"), "html.parser").article for n in names}
    counts = Counter(tag["id"] for part in parts.values() for tag in part.find_all(id=True))

    def anchor(page: str, name: str) -> str:
        return f"{page}--{name}" if counts[name] > 1 else name  # two pages may have a section of one name

    for page, part in parts.items():
        for tag in part.find_all(id=True):
            tag["id"] = anchor(page, tag["id"])
        for link in part.find_all("a", href=True):
            path, _, name = unquote(link["href"]).partition("#")
            path = posixpath.normpath(posixpath.join(posixpath.dirname(page), path)) if path else f"{page}.html"
            target = path.removesuffix(".html")
            if target in parts:
                link["href"] = "#" + (anchor(target, name) if name else target)
            elif "://" not in link["href"]:
                del link["href"]  # a file beside the site is not beside a PDF
    whole.article.clear()
    for page, part in parts.items():
        part.name, part.attrs = "div", {"id": page, "class": "page"}
        whole.article.append(part)
    for picture in whole.select("img[loading]"):
        del picture["loading"]  # on paper none comes into view later
    for tag in whole.select("link[href], [src], [srcset]"):  # from the folder of their page
        page = tag.find_parent(class_="page")
        folder = (site / (page["id"] if page else names[0])).parent
        for name in {"href", "src"} & tag.attrs.keys():
            tag[name] = absolute(tag[name], folder)
        if "srcset" in tag.attrs:
            choices = [choice.split() for choice in tag["srcset"].split(",")]
            tag["srcset"] = ", ".join(" ".join([absolute(choice[0], folder), *choice[1:]]) for choice in choices)
    return whole


def absolute(address: str, folder: Path) -> str:
    if address.startswith(("data:", "http:", "https:")):
        return address
    path, mark, version = address.partition("?")
    return (folder / unquote(path)).resolve().as_uri() + mark + version


def add_contents(whole: BeautifulSoup, line: str, parts: list[tuple[str, list[str]]]) -> None:
    """Put the version and the table of contents under the book's title."""

    def new(name: str, *within: Tag | str, **attributes: str) -> Tag:
        tag = whole.new_tag(name, attrs=attributes)
        tag.extend(within)
        return tag

    front = new("div", new("p", line), **{"class": "front-matter"})
    for caption, names in parts:
        entries = new("ul")
        for name in names:
            title = whole.find(id=name).h1
            entries.append(new("li", new("a", *BeautifulSoup(title.decode_contents(), "html.parser"), href=f"#{name}")))
        front.extend([new("p", caption, **{"class": "caption"}), entries])
    for mark in front.select(".headerlink"):
        mark.decompose()
    whole.article.h1.insert_after(front)


def show(page: Page, path: Path) -> list[str]:
    """Open the page as it will be printed, and return what is broken there."""
    page.emulate_media(media="print", color_scheme="light")
    page.set_default_timeout(600_000)  # several thousand formulas
    page.goto(path.as_uri(), wait_until="load")
    page.evaluate("window.MathJax ? MathJax.startup.promise.then(() => null) : null")
    page.evaluate("document.querySelectorAll('details:not(.hide, .record)').forEach(fold => { fold.open = true; })")
    return page.evaluate(TROUBLES)


def main() -> int:
    start = time.monotonic()
    chromium = shutil.which("chromium")
    if chromium is None:
        print("pdf: expected chromium on the PATH", file=sys.stderr)
        return 1
    contents = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))["parts"]
    about = identity()
    line = f"Version {about['version']}" + (f", commit {about['commit']}" if about["commit"] else "")
    whole = one_page(HTML, pages())
    add_contents(whole, line, [(part["caption"], [page["file"] for page in part["chapters"]]) for part in contents])
    BOOK.write_text(str(whole), encoding="utf-8")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=FLAGS)
        page = browser.new_page(viewport=VIEWPORT)
        troubles = show(page, BOOK)
        page.pdf(path=PDF, prefer_css_page_size=True, print_background=True, outline=True, tagged=True)
        browser.close()
    for trouble in troubles:
        print(f"pdf  {trouble}")
    print(f"pdf  {PDF}  {PDF.stat().st_size / 1e6:.0f} MB  {time.monotonic() - start:.0f} s")
    return 1 if troubles else 0


if __name__ == "__main__":
    sys.exit(main())
