"""The scorecard page, made from the claims that the chapters checked."""

import re
import subprocess
from datetime import UTC, datetime

from chapters import ROOT


def tally(claims: list[dict]) -> str:
    return f"{len(claims)} claims, {sum(claim['passed'] for claim in claims)} pass"


def git_commit() -> str | None:
    """Return the commit, marked where the tree differs from it; None outside git."""
    command = [
        "git",
        "-C",
        str(ROOT),
        "describe",
        "--always",
        "--dirty=-modified",
        "--abbrev=10",
        "--exclude=*",
    ]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def record(claims: list[dict], preset: str) -> dict:
    """Return what scorecard.json holds.

    Raises:
        ValueError: when two chapters use the same id.
    """
    ids = [claim["id"] for claim in claims]
    if repeated := sorted({i for i in ids if ids.count(i) > 1}):
        raise ValueError(f"two chapters check a claim of the same id: {', '.join(repeated)}")
    made = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    return {"preset": preset, "commit": git_commit(), "made": made, "claims": claims}


def page_body(scorecard: dict, titles: dict[str, str], bibliography: str) -> str:
    """Return the page below its introduction: the totals, and a table for each chapter."""
    keys = set(re.findall(r"^@\w+\{(\w+),", bibliography, re.MULTILINE))
    preset, commit = scorecard["preset"], scorecard["commit"]
    origin = f"a run at the {preset} preset"
    if preset == "committed":
        origin = "the outputs committed with the chapters"
    lines = [
        f"**{tally(scorecard['claims'])}.** From {origin}; page made {scorecard['made']}"
        + (f" at commit `{commit}`." if commit else "."),
        "The same as a file: [scorecard.json](/scorecard.json).",
    ]
    for chapter, title in titles.items():
        claims = [claim for claim in scorecard["claims"] if claim["chapter"] == chapter]
        if claims:
            lines += ["", f"## {title}", "", f"{tally(claims)} in {{doc}}`/book/{chapter}`.", ""]
            lines += [":::{list-table}", ":header-rows: 1", ":class: scorecard", ""]
            lines += ["* - Claim", "  - Source", "  - Expected", "  - Measured", "  - Result"]
            lines += [line for claim in claims for line in row(claim, keys)]
            lines += [":::"]
    return "\n".join(lines)


def row(claim: dict, keys: set[str]) -> list[str]:
    measured, verdict = claim["measured"], "PASS" if claim["passed"] else "FAIL"
    expected = re.sub(r"([<>])", r"\\\1", claim["expected"])  # "> 1" alone would be a quotation
    source = re.sub(r"\w+", lambda word: f"{{cite:t}}`{word[0]}`" if word[0] in keys else word[0], claim["source"])
    return [
        f"* - (claim-{claim['id'].lower().replace('.', '-')})=",
        f"    **{claim['id']}** {claim['says']}",
        f"  - {source}",
        f"  - {expected}",
        f"  - {measured:.3g}" if isinstance(measured, float) else f"  - {measured}",
        f"  - [{verdict}]{{.{verdict.lower()}}}",
    ]
