"""What the site says of itself, and where it leads while the address of its repository is set in `_config.yml`.

The workflow leaves `identity.json` beside the pages. Without an address the site names no other place.
"""

import json
from pathlib import Path
from urllib.parse import urlsplit

NOT_FOUND = """<h1>No page here</h1>
<p>There is no page at this address. Its chapter may have moved: try the contents beside this text, the
<a href="{root}search.html">search</a>, or the <a href="{root}index.html">first page</a>.</p>"""


def identity(srcdir):
    return json.loads((Path(srcdir) / "identity.json").read_text(encoding="utf-8"))


def configure(app, config):
    addresses = identity(app.srcdir)["addresses"]
    if not addresses:
        return
    config.html_theme_options.update(
        use_repository_button=True, use_issues_button=True, use_edit_page_button=True, repository_branch="main"
    )
    site = addresses["site"]
    config.html_baseurl = config.ogp_site_url = site
    config.ogp_site_name = config.html_title
    config.ogp_image = f"{site}_static/B-F1b.png"  # of pages without a figure of their own
    config.ogp_use_first_image = True
    config.ogp_social_cards = {"enable": False}
    config.sitemap_url_scheme = "{link}"
    config.sitemap_excludes = ["404.html", "search.html", "genindex.html", "prf-prf.html"]
    root = config.notfound_urls_prefix = urlsplit(site).path  # the 404 page is shown at any depth
    config.notfound_context = {"title": "No page here", "body": NOT_FOUND.format(root=root)}


def set_buttons(app, pagename, templatename, context, doctree):
    """Offer a chapter's notebook as it was executed, and places to run it; other pages are to be printed."""
    addresses, groups = identity(app.srcdir)["addresses"], context["header_buttons"]
    if not pagename.startswith("book/") or context.get("page_source_suffix") != ".ipynb":
        for group in groups:
            if group.get("label") == "download-buttons":
                group["buttons"] = [b for b in group["buttons"] if b["label"] != "download-source-button"]
        return
    notebook = f"notebooks/{pagename.removeprefix('book/')}.ipynb"
    for group in groups:
        for button in group.get("buttons", []):
            if button["label"] == "download-source-button":
                button |= {"url": context["pathto"](notebook, 1), "tooltip": "Download this chapter as a notebook"}
        if group.get("label") == "source-buttons":  # GitHub would open the notebook's JSON
            group["buttons"] = [b for b in group["buttons"] if b["label"] != "source-edit-button"]
    if addresses:
        places = [
            ("Binder", addresses["binder"] + f"{pagename}.ipynb", "_static/images/logo_binder.svg"),
            ("Colab", addresses["colab"] + notebook, "_static/images/logo_colab.png"),
            ("Codespaces", addresses["codespaces"], "fab fa-github"),
        ]
        buttons = [
            {"type": "link", "text": name, "tooltip": f"Run on {name}", "url": url, "icon": icon}
            for name, url, icon in places
        ]
        group = {"type": "group", "tooltip": "Run this chapter", "icon": "fas fa-rocket", "label": "launch-buttons"}
        groups.insert(0, group | {"buttons": buttons})


def describe(app, pagename, templatename, context, doctree):
    """Give the footer's template what it says of this copy and how to cite this page."""
    copy = context["copy"] = identity(app.srcdir)
    if doctree is not None:
        context["citation"] = bibtex(copy, pagename, app.env.titles[pagename].astext(), app.config.copyright)


def bibtex(copy, pagename, title, year):
    """Return the entry of one page."""
    where = f"{copy['title']}, version {copy['version']}"
    if copy["commit"]:
        where += f", commit {copy['commit'][:12]}"
    fields = {"author": copy["author"], "title": title.replace("&", r"\&"), "howpublished": where, "year": year}
    if copy["addresses"]:
        fields["url"] = f"{copy['addresses']['site']}{pagename}.html"
    key = f"companion-{pagename.rsplit('/', 1)[-1]}"
    return f"@misc{{{key},\n" + "".join(f"  {name} = {{{value}}},\n" for name, value in fields.items()) + "}"


def setup(app):
    if identity(app.srcdir)["addresses"]:  # each warns, or leaves relative addresses, where the site's is not known
        for name in ("sphinx_sitemap", "sphinxext.opengraph", "notfound.extension"):
            app.setup_extension(name)
    app.connect("config-inited", configure)
    app.connect("html-page-context", describe)
    app.connect("html-page-context", set_buttons, priority=900)  # after the theme's
    return {"parallel_read_safe": True, "version": "1"}
