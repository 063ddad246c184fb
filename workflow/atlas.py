"""The atlas page: what each figure, table and statement of the papers came to, from book/atlas.yml and the evidence.

A card's verdict is ours; whether it still stands is worked out here: one whose evidence fails is shown in red.
"""

import csv
import json
import re
from pathlib import Path
from typing import NamedTuple

import yaml
from chapters import ROOT, chapters, preset_values, typed_values
from figure_data import kept
from notebooks import code_cells, default_values, figures_of, read_notebook, source
from scorecard import label as claim_label

PUBLISHED = ROOT / "results" / "published"
LETTERS = ("A", "B", "C")


class Paper(NamedTuple):
    """An edition of a paper."""

    letter: str
    authors: str
    edition: str
    key: str


PAPERS = {
    "A": Paper("A", "Li, Han, E and Li", "ICLR 2021", "li2021curse"),
    "A-JMLR": Paper("A", "Li, Han, E and Li", "JMLR 2022", "li2022approximation"),
    "B": Paper("B", "Wang, Li and Li", "ICLR 2024", "wang2024inverse"),
    "C": Paper("C", "Wang and Li", "ICML 2024", "wang2024stablessm"),
}
VERDICTS = {
    "reproduced": "the figure comes out, or the statement holds, in all that was tried",
    "reproduced in part": "some of it does, and the card says what does not, or what was not tried",
    "depends on the protocol": "it comes out or not, depending on choices that the card names",
    "contradicted": "done as described, the opposite comes out",
    "corrected": "as printed it does not hold in full; a change that the card gives makes it hold",
    "not tested": "the paper's experiment was not done here, or there is nothing to compute",
}
SOURCES = {  # what a card says of it
    "text": "",
    "secondary": " [Known to us from later papers or public code; not checked in the paper itself.]{.atlas-edition}",
}
NAME = re.compile(r"(Figure|Table|Theorem|Lemma|Definition|Remark|Equation|Appendix|Section) (\S+) of (A|A-JMLR|B|C)")
WANTED = {"id", "name", "title", "source", "says", "verdict", "why", "sections"}
KNOWN = WANTED | {"also", "aliases", "compare", "published", "picture", "evidence", "vary"}
ROLES = {"prf": "prf:ref", "math": "eq"}


def read(path: Path = ROOT / "book" / "atlas.yml") -> list[dict]:
    """Return the cards.

    Raises:
        ValueError: naming the card, on an unknown or missing field, an unknown verdict, a name of another shape, an id
            used twice, or a verdict without evidence.
    """
    cards = yaml.safe_load(path.read_text(encoding="utf-8"))
    ids = [card.get("id") for card in cards]
    if twice := sorted({str(i) for i in ids if ids.count(i) > 1}):
        raise ValueError(f"atlas: two cards have the same id: {', '.join(twice)}")
    for card in cards:
        name = f"atlas: card {card.get('id')}"
        if unknown := sorted(set(card) - KNOWN):
            raise ValueError(f"{name}: unknown field {unknown[0]!r}; the fields are: {', '.join(sorted(KNOWN))}")
        if missing := sorted(WANTED - set(card)):
            raise ValueError(f"{name}: lacks {', '.join(missing)}")
        for field, known in (("verdict", VERDICTS), ("source", SOURCES)):
            if card[field] not in known:
                raise ValueError(f"{name}: unknown {field} {card[field]!r}; expected one of: {', '.join(known)}")
        for wording in [card["name"], *card.get("also", [])]:
            if not NAME.fullmatch(wording):
                raise ValueError(f"{name}: expected a name like 'Figure 2 of B', got {wording!r}")
        if (card["verdict"] == "not tested") == bool(card.get("evidence")):
            raise ValueError(f"{name}: {card['verdict']!r} with {len(card.get('evidence', []))} pieces of evidence")
        if any(len(row) != 3 for row in rows_of(card)):
            raise ValueError(f"{name}: expected rows as 'quantity | theirs | ours' in compare")
    return cards


def rows_of(card: dict) -> list[list[str]]:
    return [line.strip().split(" | ") for line in card.get("compare", "").splitlines()]


class Book:
    """What the cards may speak of: the evidence, the pictures, the places and the values of the book."""

    def __init__(self, evidence: list[dict], preset: str):
        self.evidence = {row["id"]: row for row in evidence}
        self.pictures, self.places = {}, {}  # figure -> (chapter, label, alt); label -> (role, chapter or none)
        preset = "book" if preset == "committed" else preset
        self.values = {chapter: dict(values) for chapter, values in preset_values(preset).items()}
        for path in sorted((ROOT / "book").rglob("*.md")):
            self._add_places(path.read_text(encoding="utf-8"), None)
        for chapter in chapters():
            notebook = read_notebook(ROOT / "book" / f"{chapter}.ipynb")
            self.values[chapter] = default_values(notebook) | self.values[chapter]
            self.places[chapter] = ("doc", chapter)
            self._add_places("\n".join(source(c) for c in notebook["cells"] if c["cell_type"] == "markdown"), chapter)
            for cell in code_cells(notebook):
                name = cell["metadata"].get("mystnb", {}).get("figure", {}).get("name")
                for figure in figures_of(cell):
                    self.pictures[figure["figure"]] = (chapter, name, figure["alt"])

    def _add_places(self, text: str, chapter: str | None) -> None:
        for found in re.finditer(r"^\((\S+)\)=$|\{(prf|math)[^}]*\}[^\n]*\n:label: (\S+)", text, re.MULTILINE):
            self.places[found[1] or found[3]] = (ROLES.get(found[2], "ref"), chapter)

    def link(self, place: str) -> str:
        """Return the role that leads to a label or a chapter."""
        role, chapter = self.places[place]
        if place.startswith("note-"):  # their headings have formulas, which a link would show as they are typed
            return f"{{ref}}`a note on the proofs <{place}>`"
        return f"{{doc}}`/book/{chapter}`" if role == "doc" else f"{{{role}}}`{place}`"

    def chapter_of(self, card: dict) -> str | None:
        """Return the chapter that a card's values and its command are of."""
        if "picture" in card:
            return self.pictures[card["picture"]][0]
        return next((chapter for _, chapter in map(self.places.get, card["sections"]) if chapter), None)

    def check(self, card: dict) -> None:
        """Raise a ValueError, naming the card, where it speaks of what the book does not have."""
        name = f"atlas: card {card['id']}"
        wanted = {"picture": [card["picture"]] if "picture" in card else []}
        wanted |= {"section": card["sections"], "evidence": card.get("evidence", [])}
        text = "\n".join(str(card.get(field, "")) for field in ("says", "why", "compare"))
        wanted["evidence"] = wanted["evidence"] + re.findall(r"\{claim\}`([^`]+)`", text)
        known = {"picture": self.pictures, "section": self.places, "evidence": self.evidence}
        for kind, given in wanted.items():
            if unknown := [item for item in given if item not in known[kind]]:
                raise ValueError(f"{name}: no {kind} {unknown[0]!r} in the book")
        chapter = self.chapter_of(card)
        if unknown := [p for p in re.findall(r"\{param\}`([^`]+)`", text) if p not in self.values.get(chapter, {})]:
            raise ValueError(f"{name}: {chapter} has no parameter {unknown[0]!r}")
        if "vary" in card:
            typed_values(chapter, card["vary"])

    def standing(self, card: dict) -> str:
        """Return "fails", "open" or "stands": what a card's evidence says of its verdict."""
        found = {self.evidence[id]["verdict"] for id in card.get("evidence", [])}
        return "fails" if found & {"FAIL", "NOT REACHED"} else "open" if "OPEN" in found else "stands"


def label(card: dict) -> str:
    return f"atlas-{card['id'].lower().replace('.', '-')}"


def paper(card: dict) -> str:
    return PAPERS[NAME.fullmatch(card["name"])[3]].letter


def slug(words: str) -> str:
    return words.lower().replace(" ", "-")


def badge(verdict: str) -> str:
    return f"[{verdict}]{{.verdict .is-{slug(verdict)}}}"


def index_entries(card: dict) -> list[str]:
    """Return what finds the card in the search: number, number and paper, number and authors, title, other words."""
    found = [card["title"], *card.get("aliases", [])]
    for wording in [card["name"], *card.get("also", [])]:
        kind, number, of = NAME.fullmatch(wording).groups()
        base = f"{kind} {number.strip('()')}"
        found += [base, f"{base} of {of}", f"{base} of {PAPERS[of].authors}"]
    return list(dict.fromkeys(found))


def summary(cards: list[dict], book: Book) -> str:
    """Return one sentence that counts the verdicts, for the first page; in red, those whose evidence fails."""
    words = []
    for verdict in VERDICTS:
        if n := sum(card["verdict"] == verdict for card in cards):
            said = f"{'is' if n == 1 else 'are'} {verdict}"
            if verdict.startswith("depends"):
                said = verdict if n == 1 else verdict.replace("depends", "depend")
            words.append(f"{n} {said}")
    text = f"Of {len(cards)} figures, tables and statements of the papers, {', '.join(words[:-1])} and {words[-1]}: "
    text += "the {doc}`atlas </book/atlas>` has a card for each."
    if failing := [card for card in cards if book.standing(card) == "fails"]:
        links = ", ".join(f"{{ref}}`{card['name']} <{label(card)}>`" for card in failing)
        text += f" [On this copy the evidence fails]{{.fail}} for {links}."
    return text


def page_body(cards: list[dict], book: Book, files: dict[str, dict[str, str]]) -> str:
    """Return the page below its introduction: counts, filters, cards.

    Args:
        files: figure -> what it is -> path from the page.

    Raises:
        ValueError: where a card speaks of what the book does not have.
    """
    for card in cards:
        book.check(card)
    lines = [*counts(cards), "", *filters(), ""]
    for letter in LETTERS:
        keys = ",".join(entry.key for entry in PAPERS.values() if entry.letter == letter)
        lines += [f"## Paper {letter}", "", f"{PAPERS[letter].authors} {{cite:p}}`{keys}`.", ""]
        for card in cards:
            if paper(card) == letter:
                lines += rendered(card, book, files.get(card.get("picture"), {}))
    return "\n".join(lines)


def counts(cards: list[dict]) -> list[str]:
    """Return the table of verdicts: what each means, and numbers that lead to the cards that they count."""
    heads = ("Verdict", *LETTERS, "all")
    lines = ['<table class="atlas-counts">', "<caption>How many cards have which verdict</caption>"]
    lines += ["<thead><tr>", *(f'<th scope="col">{head}</th>' for head in heads), "</tr></thead>", "<tbody>"]
    for verdict, meaning in VERDICTS.items():
        lines.append(f'<tr><th scope="row"><span class="verdict is-{slug(verdict)}">{verdict}</span>')
        lines.append(f"<p>{meaning}</p></th>")
        for column in heads[1:]:
            n = sum(card["verdict"] == verdict and column in (paper(card), "all") for card in cards)
            words = f"{n} {verdict}, {column if column == 'all' else f'paper {column}'}"
            address = f"?paper={column}&amp;verdict={slug(verdict)}#cards"
            lines.append(f'<td><a href="{address}" aria-label="{words}">{n}</a></td>' if n else "<td>0</td>")
        lines.append("</tr>")
    return [*lines, "</tbody></table>"]


def filters() -> list[str]:
    """Return two groups of radio buttons: the style sheet filters by them, a script keeps the address in step."""
    lines = ['<form class="atlas-filters" id="cards">']
    for group, values in (("paper", LETTERS), ("verdict", VERDICTS)):
        lines.append(f"<fieldset><legend>{group.capitalize()}</legend>")
        for value in ("all", *values):
            id = f"only-{group}-{slug(value)}"
            checked = " checked" if value == "all" else ""
            box = f'<input type="radio" name="{group}" value="{slug(value)}" id="{id}"{checked}>'
            lines.append(f'<label for="{id}">{box} {value}</label>')
        lines.append("</fieldset>")
    return [*lines, '<p role="status"></p>', "</form>"]


def rendered(card: dict, book: Book, files: dict[str, str]) -> list[str]:
    """Return the section of one card."""
    standing, chapter = book.standing(card), book.chapter_of(card)
    classes = f"atlas-card paper-{paper(card)} verdict-{slug(card['verdict'])} evidence-{standing}"
    lines = [f":::{{rst-class}} {classes}", ":::", f"({label(card)})=", f"### {card['name']}", ""]
    for entry in index_entries(card):
        lines += [f":::{{index}} single: {entry}", ":::"]
    edition = PAPERS[NAME.fullmatch(card["name"])[3]].edition
    base = card["name"].split(" of ")[0]
    also = "".join(f"; {wording}" for wording in card.get("also", []) if not wording.startswith(base))
    title = card["title"][0].upper() + card["title"][1:]
    lines += ["", f"[{title}]{{.atlas-title}} [{edition}{also}]{{.atlas-edition}}", ""]
    warning = {"fails": "[evidence fails]{.verdict .is-failing} ", "open": "[evidence open]{.verdict .is-open} "}
    lines += [f"{warning.get(standing, '')}{badge(card['verdict'])} {card['why'].strip()}", ""]
    if "PNG" in files:
        _, name, alt = book.pictures[card["picture"]]
        options = [f":alt: {alt}", ":loading: lazy", ":class: atlas-picture", f":target: {chapter}.html#{name}"]
        lines += [f":::{{image}} {files['PNG']}", *options, ":::", ""]
    verb = "shows" if card["name"].startswith("Figure") else "says"
    lines += [f"*What it {verb}.* {card['says'].strip()}{SOURCES[card['source']]}", ""]
    lines += links(card, book, files)
    table = rows_of(card) + (published_rows(card, book) if "published" in card else [])
    if table:
        lines += [":::{list-table}", ":header-rows: 1", ":class: atlas-rows", ""]
        for row in [["compared", "theirs", "ours"], *table]:
            lines += [f"{'* -' if i == 0 else '  -'} {cell}" for i, cell in enumerate(row)]
        lines += [":::", ""]
    text = "\n".join([*lines, *command(card, chapter)])
    values = book.values.get(chapter, {})
    return re.sub(r"\{param\}`([^`]+)`", lambda found: shown(values[found[1]]), text).splitlines()


def shown(value: object) -> str:
    """Return a parameter's value as a text has it."""
    if isinstance(value, list):
        return ", ".join(map(shown, value))
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def links(card: dict, book: Book, files: dict[str, str]) -> list[str]:
    """Return where a card leads to: sections, evidence and files."""
    lines = [":::{div} atlas-links", f"**In the book:** {' · '.join(map(book.link, card['sections']))}"]
    if "evidence" in card:
        found = []
        for row in (book.evidence[id] for id in card["evidence"]):
            found.append(f"{{ref}}`{row['id']} <{claim_label(row['id'])}>`")
            if row["verdict"] != "PASS":
                found[-1] = f"[{row['verdict']}]{{.badge-{row['verdict'].split()[0].lower()}}} {found[-1]}"
        lines += ["", f"**Evidence:** {' · '.join(found)}"]
    if "published" in card:
        names = {"their numbers (CSV)": ".csv", "where these are from": ".json"}
        files = files | {words: f"published/{card['published']}{suffix}" for words, suffix in names.items()}
    if files:
        lines += ["", f"**Files:** {' · '.join(f'[{words}]({path})' for words, path in files.items())}"]
    return [*lines, ":::", ""]


def command(card: dict, chapter: str | None) -> list[str]:
    """Return the command that computes a card's figure, or its chapter, with another value."""
    if "evidence" not in card:
        return []
    values = {name: f"'{value}'" if isinstance(value, list) else value for name, value in card.get("vary", {}).items()}
    given = " ".join(f"-p {name} {value}" for name, value in values.items())
    line = f".venv/bin/python workflow/execute.py {chapter} {given}".strip()
    if "picture" in card:
        line = f"make figure ID={card['id']}" + (f' ARGS="{given}"' if given else "")
    notebook = f'<a href="../notebooks/{chapter}.ipynb" download>notebook</a>'
    words = "Again, with another value" if given else "Again"
    return [":::{div} atlas-links", f"**{words}** ({notebook}):", "", "```sh", line, "```", ":::", ""]


def reaches(level: float, curve: list[tuple[float, float]]) -> float:
    """Return the first radius drawn at which an error is at a level or above it."""
    return next(radius for radius, error in curve if error >= level)


def published_rows(card: dict, book: Book) -> list[list[str]]:
    """Return rows that set a published table beside the numbers drawn in our figure, for all widths."""
    lines = (PUBLISHED / f"{card['published']}.csv").read_text(encoding="utf-8").splitlines()
    about = json.loads((PUBLISHED / f"{card['published']}.json").read_text(encoding="utf-8"))
    theirs, ours = {}, kept(book.chapter_of(card))[card["picture"]]
    for row in csv.DictReader(line for line in lines if not line.startswith("#")):
        theirs.setdefault((row["model"], row["m"]), []).append((float(row["beta"]), float(row["E"])))
    radii, rows = [float(radius) for radius in ours["radii"]], []
    for model, name in about["ours"].items():
        widths = [m for known, m in theirs if known == model]
        curves = [[theirs[model, m] for m in widths]]
        curves.append([list(zip(radii, map(float, ours[f"{name}, m={m}, trained"]), strict=True)) for m in widths])
        starts, ends = (
            [[curve[0][1] for curve in side] for side in curves],
            [[reaches(1, c) for c in s] for s in curves],
        )
        for words, sides in (("error at rest", starts), ("radius at which it has come to 1", ends)):
            cells = [", ".join(f"{value:.2g}" for value in side) for side in sides]
            rows.append([f"{name}, $m$ = {', '.join(widths)}: {words}", *cells])
    return rows
