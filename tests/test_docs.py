"""Documentation that executes: what a reader would type does what the page says."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from howdeep import cli
from howdeep.costs import cost as costing
from howdeep.costs import measuring
from howdeep.costs import measuring as peak
from howdeep.data import open_data
from howdeep.data.split_names import FILLERS, WORDS

ROOT = Path(__file__).parents[1]


def blocks(page: Path) -> list[tuple[str, str]]:
    return re.findall(r"^```(sh|python)\n(.*?)^```", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def execute(kind: str, text: str, folder: Path) -> None:
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = ["sh", "-euc", text] if kind == "sh" else [sys.executable, "-c", text]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env={**os.environ, "PATH": programs})
    assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"


def test_every_block_of_the_guide_executes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one process: starting fifty would take minutes. So peaks of memory are those of this process, too."""
    monkeypatch.setattr(costing, "peak_of_training", peak._peak)
    monkeypatch.setattr(measuring, "SECONDS", 0.1)
    found = blocks(ROOT / "docs" / "guide.md")
    assert len(found) > 5
    monkeypatch.chdir(tmp_path)
    session: dict = {}
    for kind, text in found:
        if kind == "python":
            exec(text, session)
        for line in text.splitlines() if kind == "sh" else []:
            program, *arguments = shlex.split(line)
            assert (program, cli.run(arguments)) == ("howdeep", 0), line


def test_data_may_lie_as_the_guide_says(tmp_path: Path) -> None:
    guide = (ROOT / "docs" / "guide.md").read_text()
    (layout,) = re.findall(r"^```text\n(.*?)^```", guide, flags=re.MULTILINE | re.DOTALL)
    for number, name in enumerate(layout.split()):
        (tmp_path / name).parent.mkdir(parents=True)
        Image.new("L", (8, 8), 50 * number).save(tmp_path / name)
    found = open_data(str(tmp_path / "flowers"))
    assert found.classes == ("rose", "tulip")
    assert [len(found.split(name)) for name in ("train", "val")] == [2, 2]
    for split, words in WORDS.items():
        assert f"| {split} | {', '.join(words)} |" in guide
    fillers = [f"`{word}`" for word in FILLERS]
    assert f"joined to {', '.join(fillers[:-1])} or {fillers[-1]}" in guide


def test_commands_end_with_the_statuses_of_the_guide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = re.findall(r"^\| ([\d +signal]+) \| ", (ROOT / "docs" / "guide.md").read_text(), flags=re.MULTILINE)
    (tmp_path / "d" / "a").mkdir(parents=True)
    (tmp_path / "d" / "b").mkdir()
    Image.new("L", (8, 8)).save(tmp_path / "d" / "a" / "1.png")
    (tmp_path / "d" / "b" / "1.png").write_bytes(b"no image")
    found = [cli.run(["networks", "cifar_resnet8"]), cli.run(["check", str(tmp_path / "d")]), cli.run(["no"])]
    found.append(cli._unprinted(BrokenPipeError()))

    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_understood", interrupted)
    assert told == [*map(str, found), "128 + signal"]
    assert cli.run(["networks"]) == 128 + 2


def test_the_python_of_the_readme_executes(tmp_path: Path) -> None:
    python = [text for kind, text in blocks(ROOT / "README.md") if kind == "python"]
    assert python
    for text in python:
        execute("python", text, tmp_path)


MORE_PAGES = [
    f"docs/{name}.md" for name in ("fit", "degradation", "scaling", "dissect", "unravel", "report", "explore")
]


@pytest.mark.parametrize(
    "page", ["README.md", "CONTRIBUTING.md", "docs/guide.md", "docs/theory.md", "docs/design.md", *MORE_PAGES]
)
def test_every_link_to_a_file_leads_somewhere(page: str) -> None:
    path = ROOT / page
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", path.read_text()) if "://" not in link]
    missing = [link for link in links if not (path.parent / link).exists()]
    assert not missing


def test_public_names_are_what_they_say_whatever_was_imported_before() -> None:
    """A module of the same name would take a function's place once something imports it."""
    program = (
        "import importlib, pathlib, types, howdeep\n"
        "root = pathlib.Path(howdeep.__file__).parent\n"
        "for path in sorted(root.glob('*')):\n"
        "    if path.stem not in ('__main__', '__pycache__', 'py'):\n"
        "        importlib.import_module(f'howdeep.{path.stem}')\n"
        "wrong = [name for name in howdeep.__all__ if isinstance(getattr(howdeep, name), types.ModuleType)]\n"
        "raise SystemExit(str(wrong) if wrong else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
