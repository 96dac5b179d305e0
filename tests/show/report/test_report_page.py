"""The page: one file, nothing that loads or runs, everything escaped, small, whole; and the command that writes it."""

import base64
import hashlib
import html
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.show import cases

from howdeep import cli
from howdeep.commands import COMMANDS
from howdeep.show.report.page import Page, Part, html_of, page_of, write_report
from howdeep.show.report.reading import collect
from howdeep.show.report.sections import DRAWING, Answer, Section, repeating
from howdeep.show.tables import Table

NASTY = "<script>alert('1')</script>"


class Outline(HTMLParser):
    """What a page consists of: its elements, its attributes, its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


def page_saying(text: str) -> Page:
    """Return a page in which everything that may come from data is one text."""
    table = Table(summary=text, heads=(text,), rows=((text,),), text=(0,))
    section = Section(heading=text, finding=text, tables=(table,), notes=(text,), command=text, small_print=text)
    return Page(
        answer=Answer(sentence=text, facts=((text, text),), verdict=text),
        comparison=section,
        left_out=(text,),
        parts=(Part(heading=text, facts=((text, text),), sections=(section,)),),
        further=((text, text),),
        command=text,
    )


@settings(max_examples=25, deadline=None)
@given(
    text=st.text(alphabet=st.characters(exclude_categories=("C", "Z")), min_size=1) | st.sampled_from([NASTY, '"><b>'])
)
def test_any_text_is_escaped_and_readable(text: str) -> None:
    found = Outline(html_of(page_saying(text)))
    plain = Outline(html_of(page_saying("plain")))
    assert found.tags == plain.tags
    assert [name for name, _ in found.attributes] == [name for name, _ in plain.attributes]
    assert found.text.count(text) >= plain.text.count("plain")


def test_names_of_classes_units_and_data_cannot_become_elements(tmp_path: Path) -> None:
    run = cases.run_folder(tmp_path / "run", classes=(NASTY, "<b>2</b>"), data="<i>data</i>")
    units = cases.lesion((1.0,) * 9)
    named = json.loads(json.dumps({"units": [vars(one) | {"name": NASTY} for one in units.units]}))
    place = cases.written(run / "lesion.json", "lesion", units, data=NASTY, target=NASTY, command=NASTY)
    place.write_text(json.dumps({**json.loads(place.read_text()), **named}))
    text = html_of(page_of(collect([run]), NASTY))
    found = Outline(text)
    assert not {"b", "i"} & set(found.tags)
    assert found.tags.count("script") == 1  # its own
    assert html.escape(NASTY, quote=False) in text.replace("&#39;", "'")


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of a run of 600 units and 100 classes with everything."""
    folder = tmp_path_factory.mktemp("large")
    size, left_out = write_report(
        [cases.large_run(folder / "run")], folder / "report.html", command="howdeep report run"
    )
    assert left_out == ()
    text = (folder / "report.html").read_text()
    assert len(text.encode()) == size
    return text


def test_600_units_with_everything_take_less_than_3_megabytes(large: str) -> None:
    assert len(large.encode()) < 3_000_000
    headings = re.findall(r"<h2>(.*?)</h2>", large)
    assert headings == [
        "Training",
        "Cut: a shallower network",
        "Evaluation",
        "Lesion: each unit taken out",
        "Lesion: units taken out at random",
        "Lesion: pairs of units taken out",
        "Lesion: units in another order",
        "Paths of the gradient",
        "Signal and gradient through the depth",
    ]


def test_every_unit_length_and_epoch_is_in_a_table(large: str) -> None:
    for summary in ("All 200 epochs", "All 600 units", "All 601 lengths", "All 100 classes", "All 100 draws"):
        assert re.search(f"<summary[^>]*>{summary}", large)
    assert re.search("<summary[^>]*>The 1,000 worst of 3,000 pairs", large)
    assert "There is no chart of 3,000 pairs" in large
    assert large.count("<tr>") > 200 + 3 * 600 + 601


def test_nothing_in_the_file_loads_or_runs(large: str) -> None:
    found = Outline(large)
    assert not {"link", "img", "iframe", "object", "embed", "base", "form", "use", "image"} & set(found.tags)
    (script,) = re.findall(r"<script>(.*?)</script>", large, re.DOTALL)
    assert not re.findall(r"https?:|import|fetch|XMLHttp|eval|innerHTML", script)
    links = [value or "" for name, value in found.attributes if name in ("href", "xlink:href", "src", "action")]
    assert links
    assert all(link.startswith("#") for link in links)
    assert not [name for name, _ in found.attributes if name.startswith("on")]
    assert "@import" not in large
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", large))
    policy = next(value for name, value in found.attributes if name == "content" and value and "default-src" in value)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    own = f"script-src 'sha256-{digest}'"
    assert policy == f"default-src 'none'; style-src 'unsafe-inline'; {own}; img-src data:"


def test_every_id_is_there_once_and_every_reference_has_one(large: str) -> None:
    found = Outline(large)
    ids = [value for name, value in found.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    used = [value[1:] for name, value in found.attributes if name == "href" and value]
    used += [target[1:] for target in re.findall(r"url\(([^)]*)\)", large)]
    used += [value for name, value in found.attributes if name == "aria-describedby" and value]
    assert set(used) <= set(ids)


def test_a_chart_does_not_repeat_the_finding_above_it(large: str) -> None:
    finding = re.search(r'<p class="finding">(From the last unit[^<]*)</p>', large)
    assert finding is not None
    labels = large.count('aria-label="From the last unit')  # for those who do not see the chart
    assert (labels, large.count("From the last unit")) == (1, 2)


@pytest.mark.usefixtures("undrawn")
def test_what_cannot_be_told_is_left_out_in_one_line_and_the_rest_stays(tmp_path: Path) -> None:
    run = cases.run_folder(tmp_path / "run")
    place = cases.written(run / "flow.json", "flow", cases.flow_of(3))
    place.write_text(place.read_text().replace('"input_gradient": 1.0', '"input_gradient": "much"'))
    (run / "paths.json").write_text('{"record": "paths"')
    page = page_of(collect([run]), "howdeep report")
    assert [re.sub(r".*/|[ :].*", "", line.split(" ")[0]) for line in page.left_out] == ["paths.json", "flow.json"]
    assert [section.heading for section in page.parts[0].sections] == ["Training", "Evaluation"]
    assert "flow.json was left out" in html_of(page)


@pytest.mark.usefixtures("undrawn")
def test_commands_that_would_add_something_are_named_and_those_that_ran_are_not(tmp_path: Path) -> None:
    run = cases.run_folder(tmp_path / "a run")
    cases.written(run / "flow.json", "flow", cases.flow_of(9))
    further = {shows: command for command, shows in page_of(collect([run]), "x").further}
    assert set(further) == {
        "what every unit is worth",
        "through how many branches the gradient flows",
        "how many units can go, and what that saves",
    }
    assert further["what every unit is worth"] == f"howdeep lesion '{run}' --json '{run}/lesion.json'"


def test_the_next_command_follows_from_what_there_is_and_charts_have_one_that_repeats_them() -> None:
    drawing = {name for name, command in COMMANDS.items() if hasattr(command, "check_files")}
    assert drawing == set(DRAWING)
    before = "howdeep lesion 'a run' --kind random --json 'a run/random.json' --seed 3 --overwrite"
    assert repeating(before, "lesion") == "howdeep lesion 'a run' --kind random --seed 3 --figure lesion.svg"
    for command in (None, "howdeep demo", "python mine.py", "howdeep cut run --figure cut.svg --json x"):
        assert repeating(command, "cut") == command


@pytest.mark.usefixtures("undrawn")
def test_what_to_do_next_is_what_has_not_been_done(tmp_path: Path) -> None:
    run, found = cases.run_folder(tmp_path / "run"), []
    for kind, record in (("lesion", cases.lesion((1.0,) * 9)), ("cut", cases.cut(9, 2)), ("", None)):
        found.append(page_of(collect([run]), "x").next)
        _ = record and cases.written(run / f"{kind}.json", kind, record)
    assert [command.split()[1] for command, _ in found if command] == ["lesion", "cut", "explore"]  # type: ignore[union-attr]


@pytest.mark.usefixtures("undrawn")
def test_an_evaluation_of_fewer_images_does_not_hide_the_test(tmp_path: Path) -> None:
    run = cases.run_folder(tmp_path / "run", n=100)
    cases.written(run / "few.json", "evaluation", cases.evaluation(1, 10), split="test")
    page = page_of(collect([run]), "x")
    assert [section.heading for section in page.parts[0].sections].count("Evaluation") == 2
    assert "n = 100" in page.answer.sentence
    cases.written(run / "all.json", "evaluation", cases.evaluation(5, 100), split="test")
    assert [one.heading for one in page_of(collect([run]), "x").parts[0].sections].count("Evaluation") == 2


def test_the_command_writes_the_page_and_says_how_large_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    cases.run_folder(tmp_path / "run")
    assert cli.run(["report", "run"]) == 0
    printed = capsys.readouterr()
    assert printed.out == ""
    size = (tmp_path / "report.html").stat().st_size
    assert printed.err == f"report.html: {size / 1000:,.0f} kB\n"
    before = (tmp_path / "report.html").read_bytes()
    assert cli.run(["report", "run"]) == 2
    assert "report.html exists" in capsys.readouterr().err
    assert (tmp_path / "report.html").read_bytes() == before
    (tmp_path / "run" / "broken.json").write_text("{")
    assert cli.run(["report", "run", "--overwrite"]) == 0
    assert capsys.readouterr().err.splitlines()[0].startswith("run/broken.json is damaged: ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "nowhere"),
        ([], "RUN"),
        (["run", "--out", "no/where.html"], "there is no folder no"),
        (["run", "--out", "page.pdf"], ".html"),
        (["run", "--out", "run"], ".html"),
        (["bad.json"], "bad.json is damaged"),
        (["run/run.json"], "run/run.json is not a record"),
    ],
)
def test_a_mistake_is_one_line_with_status_2_and_nothing_is_written(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    cases.run_folder(tmp_path / "run")
    (tmp_path / "bad.json").write_text("{")
    before = sorted(tmp_path.rglob("*"))
    assert cli.run(["report", *arguments]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert said in line
    assert sorted(tmp_path.rglob("*")) == before
