"""The scorecard page: what each claim and each check came to, and the ensembles they speak of."""

import csv
import re
import subprocess
from datetime import UTC, datetime
from html import escape

from chapters import ROOT
from evidence import tally

DRIFT = ROOT / "results" / "drift.csv"
WORDS = {"PASS": "pass", "FAIL": "fail", "OPEN": "open", "NOT REACHED": "fail"}


def git_commit() -> str | None:
    """Return the project's commit, marked where the tree differs from it; None where the project is no checkout."""
    git = ["git", "-C", str(ROOT)]
    try:
        top = subprocess.run([*git, "rev-parse", "--show-toplevel"], capture_output=True, text=True, check=True)
        if top.stdout.strip() != str(ROOT):  # a repository around the project
            return None
        command = [*git, "describe", "--always", "--dirty=-modified", "--abbrev=10", "--exclude=*"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def record(evidence: list[dict], preset: str) -> dict:
    """Return what scorecard.json holds.

    Raises:
        ValueError: when two chapters use the same id.
    """
    ids = [row["id"] for row in evidence]
    if repeated := sorted({i for i in ids if ids.count(i) > 1}):
        raise ValueError(f"two statements have the same id: {', '.join(repeated)}")
    made = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    drift = ranges()
    evidence = [row | {"range": drift.get(row["id"])} for row in evidence]
    return {"preset": preset, "commit": git_commit(), "made": made, "evidence": evidence}


def ranges() -> dict[str, dict]:
    """Return id -> its row of the drift table."""
    if not DRIFT.exists():
        return {}
    with DRIFT.open(newline="", encoding="utf-8") as file:
        return {row["id"]: row for row in csv.DictReader(file)}


def page_body(scorecard: dict, titles: dict[str, str], bibliography: str, ensembles: list[dict]) -> str:
    """Return the page below its introduction: totals and failures, then claims, checks and ensembles."""
    keys = set(re.findall(r"^@\w+\{(\w+),", bibliography, re.MULTILINE))
    preset, commit, evidence = scorecard["preset"], scorecard["commit"], scorecard["evidence"]
    origin = f"a run at the {preset} preset"
    if preset == "committed":
        origin = "the outputs committed with the chapters"
    lines = [
        f"**{tally(evidence)}.** From {origin}; page made {scorecard['made']}"
        + (f" at commit `{commit}`." if commit else "."),
        "The same as a file: [scorecard.json](/scorecard.json).",
    ]
    for kind, heading in (("claim", "Claims"), ("check", "Checks")):
        lines += ["", f"## {heading}"]
        for chapter, title in titles.items():
            own = [row for row in evidence if row["chapter"] == chapter and row["kind"] == kind]
            if own:
                lines += ["", f"### {title}: {heading.lower()}", "", f"In {{doc}}`/book/{chapter}`.", ""]
                lines += table(own, keys, labels=True)
    lines += ["", "## Ensembles", "", *ensemble_table(ensembles)]
    return "\n".join(lines)


def table(rows: list[dict], keys: set[str], labels: bool = False) -> list[str]:
    """Return a list table of statements of one kind; with labels it is where links to them lead."""
    rivals = rows[0]["kind"] == "claim"
    heads = ["Statement", "Source", "Expected", "Measured", *(["Rival"] if rivals else []), "Result"]
    lines = [":::{list-table}", ":header-rows: 1", ":class: scorecard", ""]
    lines += [f"{'* -' if i == 0 else '  -'} {head}" for i, head in enumerate(heads)]
    for row in rows:
        back = [f"{{ref}}`judged <at-{label(row['id'])}>`"]
        back += [f"{{ref}}`{page.rpartition('/')[2]} <used-{page}-{label(row['id'])}>`" for page in row.get("used", [])]
        name = [
            f"* - ({label(row['id'])})=",
            f"    **{row['id']}** {plain(row['says'])}",
            "",
            "    [" + " · ".join(back) + "]{.used}",
        ]
        lines += name if labels else [f"* - **{row['id']}** {plain(row['says'])}"]
        lines += [f"  - {cited(row['source'], keys)}", f"  - {plain(expected(row))}", f"  - {number(row['measured'])}"]
        seen = row.get("range") or {}
        if labels and seen.get("least") != seen.get("greatest"):
            lines[-1] += re.sub(r"(?<= )-", "\N{MINUS SIGN}", f"; seen from {seen['least']} to {seen['greatest']}")
        if rivals:
            lines.append(f"  - {number(row['rival'])}: {plain(row['against'])}")
        lines.append(f"  - [{row['verdict']}]{{.{WORDS[row['verdict']]}}}")
    return [*lines, ":::"]


def ensemble_table(ensembles: list[dict]) -> list[str]:
    if not ensembles:
        return ["None."]
    lines = [":::{list-table}", ":header-rows: 1", ""]
    heads = ("Table", "Chapter", "Jobs", "Seconds a job", "Computed on", "State", "Files")
    lines += [f"{'* -' if i == 0 else '  -'} {head}" for i, head in enumerate(heads)]
    for row in ensembles:
        files = " · ".join(f"[{name.rsplit('.', 1)[-1]}](ensembles/{name})" for name in row["files"]) or "none"
        cells = [f"**{row['name']}**", f"{{doc}}`/book/{row['chapter']}`", row["jobs"], row["seconds"]]
        cells += [plain(row["machine"]), row["state"], files]
        lines += [f"{'* -' if i == 0 else '  -'} {cell}" for i, cell in enumerate(cells)]
    return [*lines, ":::"]


def label(id: str) -> str:
    return f"claim-{id.lower().replace('.', '-')}"


def plain(text: str) -> str:
    """Return the text with nothing in it that a page would take for HTML; mathematics stays as it is."""
    parts = re.split(r"(\$[^$]*\$)", text)
    return "".join(part if i % 2 else escape(part, quote=False) for i, part in enumerate(parts))


def cited(source: str, keys: set[str]) -> str:
    return re.sub(r"\w+", lambda word: f"{{cite:t}}`{word[0]}`" if word[0] in keys else word[0], plain(source))


def expected(row: dict) -> str:
    """Return the bound in words, from its numbers."""
    bounds = row.get("bounds") or {}
    if "equal" in bounds:
        return f"{bounds['equal']}" + (f" ± {float(bounds['within']):g}" if "within" in bounds else "")
    words = {"above": "above", "below": "below"}
    return " and ".join(f"{word} {float(bounds[end]):g}" for end, word in words.items() if end in bounds)


def number(sample: dict | None) -> str:
    """Return a measured number as pages show it: three digits; with its spread and how many, for an ensemble."""
    if sample is None or sample["value"] is None:
        return "not computed"
    value = sample["value"]
    text = value if isinstance(value, str) else f"{value:.3g}" if isinstance(value, float) else str(value)
    if sample.get("n") is not None:
        text += f" ± {float(sample['spread']):.2g} (n = {int(sample['n'])})"
    return plain(text).replace("-", "\N{MINUS SIGN}") if re.match(r"-?[\d.inf]", text) else plain(text)
