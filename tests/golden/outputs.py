"""What commands print, written into the pages: into each block of text that directly follows a block of commands.

A line ``…`` in such a block stands for lines that the page leaves out, up to the first that begins with the word with
which the page goes on. Charts that a page shows and that its commands draw are written beside them. Notebooks are
executed, and keep what they show. Needs ``../shared``; one page is ``python tests/golden/outputs.py docs/cut.md``.
"""

import contextlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import nbformat
import pyarrow.parquet as pq
from nbclient import NotebookClient

from howdeep.data import open_data

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared"
PAGES = (
    "README.md",
    *(f"docs/{name}.md" for name in ("photos", "timm", "fit", "cut", "stochastic_depth")),
    *(f"docs/notebooks/{name}.ipynb" for name in ("take_apart", "my_module")),
)
PHOTOS = 90
"""Photos of every class of waste in the folder ``photos`` that the commands find."""
BLOCK = re.compile(r"^```(sh|python)\n((?:(?!```).*\n)*)```\n\n```text\n((?:(?!```).*\n)*)```$", re.MULTILINE)
LEFT_OUT = "…"


def give() -> None:
    """Put into this folder what a reader has: photos in a folder per class, and published weights."""
    Path("lite0.safetensors").symlink_to(SHARED / "weights" / "timm" / "tf_efficientnet_lite0.safetensors")
    trash = SHARED / "data" / "trash"
    folders = [Path("photos") / name for name in open_data(str(trash)).classes]
    for folder in folders:
        folder.mkdir(parents=True)
    seen: Counter[int] = Counter()
    for row in pq.read_table(trash / "train.parquet").to_pylist():
        seen[row["label"]] += 1
        if seen[row["label"]] <= PHOTOS:
            name = f"{seen[row['label']]:03}.jpg"
            (folders[row["label"]] / name).write_bytes(row["image"]["bytes"])


def printed(kind: str, text: str) -> list[str]:
    """Return the lines that a block prints in this folder, as a terminal of 80 columns shows them."""
    lines = text.replace("\\\n", "").splitlines()
    commands = [["-m", *shlex.split(line)] for line in lines] if kind == "sh" else [["-c", text]]
    environment = os.environ | {"COLUMNS": "80", "NO_COLOR": "1"}
    said = ""
    for command in commands:
        ran = subprocess.run(
            [sys.executable, *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
        )
        said += ran.stdout
        if ran.returncode:
            sys.exit(f"{shlex.join(command)} ended with {ran.returncode}:\n{said}")
    return [line.rstrip() for line in said.strip("\n").splitlines()]


def shortened(lines: list[str], as_before: list[str]) -> list[str]:
    """Return the lines without those that the page leaves out."""
    if LEFT_OUT not in as_before:
        return lines
    first = as_before.index(LEFT_OUT)
    word = as_before[first + 1].split()[0]
    again = next(number for number, line in enumerate(lines) if number >= first and line.split()[:1] == [word])
    return [*lines[:first], LEFT_OUT, *lines[again:]]


def written(page: Path) -> None:
    """Run the blocks of a page in a folder of their own and write what they print."""

    def again(found: re.Match[str]) -> str:
        kind, text, before = found.groups()
        lines = shortened(printed(kind, text), before.splitlines())
        return "\n".join([f"```{kind}", f"{text}```", "", "```text", *lines, "```"])

    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        if "lite0.safetensors" in page.read_text():
            give()
        text = BLOCK.sub(again, page.read_text())
        for chart in set(re.findall(r"\]\((?:docs/)?figures/([\w.]+)\)", text)) & set(os.listdir()):
            shutil.copy(chart, ROOT / "docs" / "figures")
    page.write_text(text)


def executed(notebook: Path) -> None:
    """Run the cells of a notebook in a folder of their own and write what they show."""
    cells = nbformat.read(notebook, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(cells, record_timing=False, resources={"metadata": {"path": folder}}).execute()
    nbformat.write(cells, notebook)


if __name__ == "__main__":
    for page in [ROOT / name for name in sys.argv[1:] or PAGES]:
        (executed if page.suffix == ".ipynb" else written)(page)
