"""A hook of mkdocs: docstrings mark names as Sphinx does, ``:func:`name` ``; the site shows the name alone."""

import re


def on_page_content(html: str, **_: object) -> str:
    """Return a page without the roles before its names."""
    return re.sub(r":(?:attr|class|data|func|meth|mod):(?=<code>)", "", html)
