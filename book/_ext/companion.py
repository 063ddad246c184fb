"""What the book adds to Sphinx: the {claim} role, and one thing less, the script of thebe."""

import json
from pathlib import Path

from docutils import nodes
from sphinx.addnodes import index, pending_xref
from sphinx.util.docutils import SphinxRole


class ClaimRole(SphinxRole):
    """{claim}`B-F1b-left-shift` shows the number measured, with its spread, linked to its row of the scorecard."""

    def run(self):
        scorecard = Path(self.env.srcdir) / "scorecard.json"
        rows = json.loads(scorecard.read_text(encoding="utf-8"))["evidence"] if scorecard.exists() else []
        found = {row["id"]: row for row in rows}.get(self.text)
        if found is None:
            message = self.inliner.reporter.warning(f"no claim {self.text!r} was checked", line=self.lineno)
            return [nodes.problematic(self.rawtext, self.rawtext)], [message]
        text = shown(found["measured"])
        classes = ["fail"] if found["verdict"] in ("FAIL", "NOT REACHED") else []
        label = "claim-" + self.text.lower().replace(".", "-")
        number = nodes.inline("", "", classes=["measured", *classes])
        used = f"used-{self.env.docname}-{label}"
        standard = self.env.get_domain("std")
        if used not in standard.anonlabels:  # the row leads back to the first on each page
            number["ids"] = [f"used-{label}"]
            standard.note_hyperlink_target(used, self.env.docname, number["ids"][0])
        options = {
            "refdomain": "std",
            "reftype": "ref",
            "reftarget": label,
            "refexplicit": True,
            "refwarn": True,
        }
        number += pending_xref(self.rawtext, nodes.inline("", text), refdoc=self.env.docname, **options)
        return [number], []


def shown(measured):
    """Return three digits of a number; an ensemble's mean or share with its spread and how many."""
    if measured is None or measured["value"] is None:
        return "(not computed)"
    value = measured["value"]
    text = f"{value:.3g}" if isinstance(value, float) else str(value)
    if measured.get("n") is not None:
        text += f" ± {float(measured['spread']):.2g} (n = {measured['n']})"
    return text.replace("-", "\N{MINUS SIGN}")


def drop_thebe(app, pagename, templatename, context, doctree):
    # it is injected even where switched off, loads from another host and fails with the network away
    kept = [
        script for script in context.get("script_files", []) if "thebe" not in f"{script}{script.attributes}"
    ]
    context["script_files"] = kept


def entries_lead_to_sections(app, doctree):
    # in the search, several index entries of one section are then one result, which bears the section's title
    for node in doctree.findall(index):
        section = node.parent
        while section and not isinstance(section, nodes.section):
            section = section.parent
        within = section is not None and not isinstance(section.parent, nodes.document)
        place = section["ids"][0] if within else ""
        node["entries"] = [
            (kind, value, place if target.startswith("index-") else target, *rest)
            for kind, value, target, *rest in node["entries"]
        ]


def setup(app):
    app.add_role("claim", ClaimRole())
    app.connect("doctree-read", entries_lead_to_sections)
    app.connect("html-page-context", drop_thebe, priority=900)
    return {"parallel_read_safe": True, "version": "1"}
