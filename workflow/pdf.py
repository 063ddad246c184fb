"""Print the whole book as one PDF: Sphinx puts its pages onto one, Chromium sets it with book/_static/print.css.

python workflow/pdf.py writes _build/curse-of-memory.pdf from the committed outputs; it exits with 1, naming what is
broken, where a picture, a formula or a link is, or something would be cut at the margin.
"""

import shutil
import subprocess
import sys
import time
from pathlib import Path

import yaml
from chapters import ROOT
from identity import identity
from playwright.sync_api import Page, sync_playwright
from stage import STAGE, stage

PDF = ROOT / "_build" / "curse-of-memory.pdf"
BUILT = ROOT / "_build" / "pdf"
FLAGS = ["--headless", "--no-sandbox"]
# wide enough for the text on A4 within its margins, at 96 pixels an inch
VIEWPORT = {"width": 665, "height": 980}
# links to files beside the site, which are not beside a PDF
BESIDE = 'article a[href]:not([href^="#"], [href^="http"])'
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
# the title page and the contents, from what is on the page; parts as in _toc.yml
FRONT = """([line, parts]) => {
  const front = document.createElement('div'), title = document.querySelector('article h1');
  front.className = 'front-matter';
  front.append(Object.assign(document.createElement('p'), {textContent: line}));
  for (const [caption, pages] of parts) {
    const list = document.createElement('ul');
    for (const page of pages) {
      const chapter = document.getElementById('document-' + page).nextElementSibling;
      const heading = chapter.querySelector('h2').cloneNode(true);
      heading.querySelector('.headerlink')?.remove();
      const link = Object.assign(document.createElement('a'), {href: '#document-' + page});
      link.append(...heading.childNodes);
      list.appendChild(document.createElement('li')).append(link);
    }
    front.append(Object.assign(document.createElement('p'), {textContent: caption, className: 'caption'}), list);
  }
  title.after(front);
}"""


def one_page() -> Path:
    """Return an HTML file that holds every page of the staged book.

    Raises:
        ValueError: when Sphinx refuses.
    """
    shutil.rmtree(BUILT, ignore_errors=True)
    command = [str(Path(sys.executable).with_name("jupyter-book")), "build", str(STAGE), "--path-output", str(BUILT)]
    command += ["--builder", "custom", "--custom-builder", "singlehtml", "-n", "-W", "--keep-going", "-q"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        raise ValueError(done.stderr)
    folder = BUILT / "_build" / "singlehtml"
    # written into the folder of the first page, with links that start from the folder above
    text = (folder / "book" / "intro.html").read_text(encoding="utf-8").replace('href="book/intro.html#', 'href="#')
    (folder / "book.html").write_text(text, encoding="utf-8")
    return folder / "book.html"


def show(page: Page, path: Path) -> list[str]:
    """Open the page as it will be printed, and return what is broken there."""
    page.emulate_media(media="print", color_scheme="light")
    page.set_default_timeout(600_000)  # several thousand formulas
    page.goto(path.as_uri(), wait_until="load")
    page.evaluate("window.MathJax ? MathJax.startup.promise.then(() => null) : null")
    page.evaluate("document.querySelectorAll('details:not(.hide, .record)').forEach(fold => { fold.open = true; })")
    page.evaluate(f"document.querySelectorAll('{BESIDE}').forEach(link => link.removeAttribute('href'))")
    return page.evaluate(TROUBLES)


def main() -> int:
    start = time.monotonic()
    chromium = shutil.which("chromium")
    if chromium is None:
        print("pdf: expected chromium on the PATH", file=sys.stderr)
        return 1
    stage("committed")
    contents = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    parts = [[part["caption"], [page["file"] for page in part["chapters"]]] for part in contents["parts"]]
    about = identity()
    line = f"Version {about['version']}" + (f", commit {about['commit']}" if about["commit"] else "")
    line = ". ".join([line, *filter(None, [about["addresses"].get("site")])])
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=FLAGS)
        page = browser.new_page(viewport=VIEWPORT)
        troubles = show(page, one_page())
        page.evaluate(FRONT, [line, parts])
        page.pdf(path=PDF, prefer_css_page_size=True, print_background=True, outline=True, tagged=True)
        browser.close()
    for trouble in troubles:
        print(f"pdf  {trouble}")
    print(f"pdf  {PDF}  {PDF.stat().st_size / 1e6:.0f} MB  {time.monotonic() - start:.0f} s")
    return 1 if troubles else 0


if __name__ == "__main__":
    sys.exit(main())
