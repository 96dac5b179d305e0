"""Documentation that executes: what a reader would type does what the page says."""

import contextlib
import io
import re
import shlex
from pathlib import Path
from types import ModuleType

import onnxruntime
import pyarrow.parquet as pq
import pytest
from PIL import Image
from sklearn.datasets import load_digits
from tests.golden import outputs, records

import howdeep
from howdeep import cli
from howdeep.costs import cost as costing
from howdeep.costs import measuring
from howdeep.data import open_data
from howdeep.data.splits import FILLERS, WORDS
from howdeep.runtime.precision import Trial
from howdeep.runtime.timing import Timing
from howdeep.search import candidates, phases

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"


def blocks(page: Path) -> list[tuple[str, str]]:
    return re.findall(r"^```(sh|python)\n(.*?)^```", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def test_every_block_of_the_guide_executes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one process, on a third of the digits: starting fifty would take minutes, and a peak of memory needs its own.

    And at a speed that is known, as a busy machine may be refused a search of seconds.
    """
    values, labels = load_digits(return_X_y=True)
    monkeypatch.setattr("sklearn.datasets.load_digits", lambda **_: (values[:600], labels[:600]))
    known = [Trial("fp32", "contiguous", 0.2, 3, None, 0.0, 1)]
    monkeypatch.setattr(candidates, "trials_of", lambda config, steps, tried=None: known)
    monkeypatch.setattr(candidates, "latencies", lambda *_, **__: [Timing(1.0, (1.0, 1.0), 1)])
    monkeypatch.setattr(phases, "_pace", lambda candidate, done: candidate.seconds_per_step)
    monkeypatch.setattr(phases.Clock, "spent", 1.0)
    monkeypatch.setattr(costing, "peak_of_training", lambda spec, setting, checkpointing: None)
    monkeypatch.setattr(measuring, "SECONDS", 0.02)
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


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("page", ["photos", "timm"])
def test_a_page_about_photos_executes(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the real weights, a few photos of three classes, and images and epochs of a size that suits a test."""
    weights = SHARED / "weights" / "timm" / "tf_efficientnet_lite0.safetensors"
    data = SHARED / "data" / "sign" / "train.parquet"
    if not weights.exists() or not data.exists():
        pytest.skip(f"needs {weights} and {data}")
    monkeypatch.setattr(measuring, "SECONDS", 0.02)
    monkeypatch.chdir(tmp_path)
    Path("lite0.safetensors").symlink_to(weights)
    rows = pq.read_table(data).to_pylist()
    for sign in range(3):
        (folder := Path("photos") / f"sign {sign}").mkdir(parents=True)
        for number, row in enumerate([row for row in rows if row["label"] == sign][:12]):
            (folder / f"{number}.jpg").write_bytes(row["image"]["bytes"])
    for kind, text in blocks(ROOT / "docs" / f"{page}.md"):
        text = (
            text.replace("96", "64")
            .replace("128", "64")
            .replace("epochs 4", "epochs 1")
            .replace("epochs=2", "epochs=1")
        )
        if kind == "python":
            exec(text, {})
        for line in text.splitlines() if kind == "sh" else []:
            program, *arguments = shlex.split(line)
            assert (program, cli.run(arguments)) == ("howdeep", 0), line
    for place in tmp_path.glob("*.onnx"):
        assert onnxruntime.InferenceSession(place).get_outputs()[0].shape[1] == 3


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


@pytest.mark.parametrize("page", ["README.md", "docs/timm.md", "docs/stochastic_depth.md"])
def test_python_prints_what_the_page_says(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is printed was written by ``tests/golden/outputs.py``: no number there depends on the machine."""
    monkeypatch.chdir(tmp_path)
    path, found = ROOT / page, [text for kind, text in blocks(ROOT / page) if kind == "python"]
    told = {text: shown for kind, text, shown in outputs.BLOCK.findall(path.read_text()) if kind == "python"}
    assert found
    for text in found:
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(text, {})
        assert printed.getvalue() == told.get(text, "")


PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]


def test_every_link_to_a_file_leads_somewhere() -> None:
    for page in [*PAGES, *(ROOT / "docs" / "notebooks").glob("*.ipynb")]:
        links = [link for link in re.findall(r"\]\(([^)#]+)\)", page.read_text()) if "://" not in link]
        assert not [link for link in links if not (page.parent / link).exists()], page


def test_every_command_of_a_page_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for kind, text in [block for page in PAGES if page.stem != "guide" for block in blocks(page)]:
        for line in text.replace("\\\n", "").splitlines() if kind == "sh" else []:
            program, *arguments = shlex.split(line)
            assert program != "howdeep" or cli._understood(arguments) is not None, line


def test_every_output_of_a_page_is_one_that_a_script_writes() -> None:
    for page in [ROOT / name for name in outputs.PAGES if name.endswith(".md")]:
        shown = outputs.BLOCK.findall(page.read_text())
        assert len(shown) == page.read_text().count("```text\n") > 0, page
        assert all(below.strip() for _, _, below in shown), page


def test_what_the_readme_measured_stands_in_the_results() -> None:
    row = r"^\| (.*) \| ([\d.]+ ?%?) \| (`python .*`) \|$"
    rows = re.findall(row, (ROOT / "README.md").read_text(), flags=re.MULTILINE)
    results = (ROOT / "docs" / "results.md").read_text()
    assert len(rows) == 3
    for what, value, command in rows:
        section = results[results.index(f"\n{command}: ") :].split("\n## ")[0]
        found = re.findall(r"^\| (.*?) \| ([\d.]+ ?%?) *\|", section, flags=re.MULTILINE)
        assert [one for one in found if what.endswith(one[0]) and one[1].strip() == value], what


def test_the_page_about_json_is_that_of_the_records() -> None:
    """A record that changes is a change of the page: ``python tests/golden/records.py``."""
    assert records.PAGE.read_text() == records.page()


def test_the_page_about_python_has_every_public_name_once() -> None:
    named = re.findall(r"^::: howdeep\.(\w+)$", (ROOT / "docs" / "python.md").read_text(), flags=re.MULTILINE)
    assert sorted(named) == howdeep.__all__


def test_the_home_page_says_no_number_that_the_measured_results_do_not_have() -> None:
    told = re.findall(r"\d+\.\d+(?: ± \d+\.\d+)?", (ROOT / "docs" / "index.md").read_text())
    results = (ROOT / "docs" / "results.md").read_text()
    assert told
    assert not [number for number in told if number not in results]


def test_no_public_name_is_that_of_a_module() -> None:
    """A module of the same name would take a function's place once something imports it."""
    modules = {path.stem for path in Path(howdeep.__file__).parent.glob("*")}
    assert {"chain", "data", "training"} <= modules
    assert not modules & set(howdeep.__all__)
    assert not any(isinstance(getattr(howdeep, name), ModuleType) for name in howdeep.__all__)
