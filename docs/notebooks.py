"""A hook of mkdocs: every notebook is a page of the site too, with what its cells showed when they were executed."""

import json
from html import escape
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Add a page for every notebook."""
    for file in [one for one in files if one.src_uri.endswith(".ipynb")]:
        page = "\n\n".join(map(_text, json.loads(file.content_string)["cells"]))
        files.append(File.generated(config, file.src_uri.replace(".ipynb", ".md"), content=page))


def on_page_markdown(markdown: str, **_: object) -> str:
    """Lead to the pages where links lead to notebooks, which is what they are without the site."""
    return markdown.replace(".ipynb)", ".md)")


def _text(cell: dict[str, Any]) -> str:
    """Return a cell as Markdown: its source, and below it what it showed."""
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        return source
    return "\n\n".join([f"```python\n{source}\n```", *map(_shown, cell["outputs"])])


def _shown(output: dict[str, Any]) -> str:
    """Return an output as HTML in one block: blank lines would end it."""
    data = output.get("data", {"text/plain": output.get("text", "")})
    html = "".join(data["text/html"]) if "text/html" in data else f"<pre>{escape(''.join(data['text/plain']))}</pre>"
    return f'<div class="shown">{"&#10;".join(html.strip().splitlines())}</div>'
