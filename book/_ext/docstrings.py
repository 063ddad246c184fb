"""Docstrings of cmlib as Sphinx should read them: bars are absolute values, keys of references are citations.

Examples stay as they are typed.
"""

import re

KEY = re.compile(r"\b[a-z]+\d{4}[a-z]+\b")


def readable(app, what, name, obj, options, lines):
    # in reStructuredText |x| would be a substitution and `x` a reference
    example = False  # from >>> to the next empty line
    for i, line in enumerate(lines):
        example = bool(line.strip()) and (example or line.lstrip().startswith(">>>"))
        if example:
            continue
        parts = re.split(r"`([^`]+)`", line)
        parts[::2] = [re.sub(r"([|*\\])", r"\\\1", text) for text in parts[::2]]
        parts[1::2] = [f"``{code}``" for code in parts[1::2]]
        lines[i] = KEY.sub(lambda key: f":cite:t:`{key[0]}`", "".join(parts))


def setup(app):
    app.connect("autodoc-process-docstring", readable, priority=100)  # before napoleon's
    return {"parallel_read_safe": True, "version": "1"}
