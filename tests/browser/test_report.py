"""The report in a browser that is offline: it asks for nothing, answers at once, fits a telephone, opens and prints."""

from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page
from tests.show import cases

from howdeep.show.report.page import write_report


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a run of 27 units with everything."""
    folder = tmp_path_factory.mktemp("report")
    run, place = cases.large_run(folder / "run", units=27, classes=10), folder / "report.html"
    write_report([run], place, command="howdeep report run")
    return place


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of three depths."""
    folder = tmp_path_factory.mktemp("comparison")
    errors = {"cifar_resnet8": 30, "cifar_resnet20": 5, "cifar_resnet56": 4}
    runs = [cases.run_folder(folder / name, name, wrong=wrong) for name, wrong in errors.items()]
    write_report(runs, folder / "report.html", command="howdeep report")
    return folder / "report.html"


@pytest.fixture(scope="module")
def window(browser: Browser, report: Path) -> BrowserContext:
    """Without a network. One page stays open, and with it the process that the next ones need."""
    window = browser.new_context(viewport={"width": 1280, "height": 800}, offline=True)
    window.new_page().goto(report.as_uri())
    return window


@pytest.fixture
def opened(window: BrowserContext, report: Path) -> Iterator[tuple[Page, list[str]]]:
    """The report, and everything that it asked for or complained of."""
    page, heard = window.new_page(), []
    page.on("request", lambda request: heard.append(request.url))
    page.on("console", lambda message: heard.append(message.text))
    page.on("pageerror", lambda error: heard.append(str(error)))
    page.goto(report.as_uri())
    yield page, heard
    page.close()


def test_it_asks_for_nothing_but_itself_and_complains_of_nothing(opened: tuple[Page, list[str]], report: Path) -> None:
    page, heard = opened
    page.wait_for_load_state("networkidle")
    page.locator("footer").scroll_into_view_if_needed()
    assert heard == [report.as_uri()]


@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("several", [False, True], ids=["one run", "several runs"])
def test_the_first_screen_answers_three_questions(
    several: bool, width: int, opened: tuple[Page, list[str]], comparison: Path
) -> None:
    """Is deeper better here, or how good is it; which unit matters, or which depth; what do I do next?"""
    page, _ = opened
    if several:
        page.goto(comparison.as_uri())
    page.set_viewport_size({"width": width, "height": 800})
    said = page.locator("h1").inner_text().replace("\N{NO-BREAK SPACE}", " ")
    assert ("layers are enough here" if several else "% test error") in said
    for name in ("h1", "header .verdict", "header .next", "header .lead svg" if several else "header .strip svg"):
        box = page.locator(name).bounding_box()
        assert box is not None, name
        assert box["height"] > 10, name
        assert box["y"] + box["height"] <= 800, name


def test_a_telephone_scrolls_in_one_direction_only(opened: tuple[Page, list[str]]) -> None:
    page, _ = opened
    page.set_viewport_size({"width": 400, "height": 800})
    for fold in page.locator("summary").all():
        fold.click()
    assert page.evaluate("document.documentElement.scrollWidth") == 400


def test_a_fold_opens_by_keyboard_and_shows_its_table(opened: tuple[Page, list[str]]) -> None:
    page, _ = opened
    assert not page.locator("details table").first.is_visible()
    page.locator("summary").first.focus()
    page.keyboard.press("Enter")
    assert page.locator("details table").first.is_visible()


def test_a_column_sorts_its_table_by_keyboard_numbers_by_size_and_what_is_not_known_last(
    opened: tuple[Page, list[str]],
) -> None:
    page, _ = opened
    page.locator("summary", has_text="All 10 classes").first.click()
    table = page.locator("details[open] table").first
    head = table.locator("th", has_text="error %")
    head.locator("button").focus()
    found = []
    for order in ("ascending", "descending"):
        page.keyboard.press("Enter")
        assert head.get_attribute("aria-sort") == order
        found.append([float(cell) for cell in table.locator("tbody td:nth-child(3)").all_inner_texts()])
    assert found[0] == sorted(found[0]) == found[1][::-1]
    cells = ["2 M", "–", "900 k", "1.2 h", "50 min", "−1.5 %", "+0.2 (−1 to +2)"]
    order = page.evaluate(
        "cells => cells.map(text => Object.assign(document.createElement('td'), {textContent: text}))"
        ".sort((one, other) => compared(one, other, 1)).map(cell => cell.textContent)",
        cells,
    )
    assert order == ["−1.5 %", "+0.2 (−1 to +2)", "50 min", "1.2 h", "900 k", "2 M", "–"]


def test_a_command_is_copied(opened: tuple[Page, list[str]], window: BrowserContext) -> None:
    page, _ = opened
    window.grant_permissions(["clipboard-read", "clipboard-write"])
    page.locator(".next button").click()
    page.locator(".next button", has_text="Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == page.locator(".next code").inner_text()


def test_letters_of_a_chart_do_not_lie_on_each_other(opened: tuple[Page, list[str]]) -> None:
    """Labels of one axis or legend: each ends before the next begins."""
    page, _ = opened
    boxes = page.evaluate(
        "[...document.querySelectorAll('figure.strip .role-axis-label, .charts .role-legend-label')]"
        ".map(group => [...group.querySelectorAll('text')].map(text => {"
        "const box = text.getBoundingClientRect(); return [box.left, box.right, box.top, box.bottom]}))"
    )
    assert sum(len(group) for group in boxes) > 20
    for group in boxes:
        for one, other in pairwise(group):
            apart = one[1] <= other[0] + 1 or other[1] <= one[0] + 1 or one[3] <= other[2] + 1 or other[3] <= one[2] + 1
            assert apart


def test_it_prints(opened: tuple[Page, list[str]]) -> None:
    page, _ = opened
    printed = page.pdf(format="A4")
    assert printed.startswith(b"%PDF")
    page.emulate_media(media="print")
    assert not page.locator("nav").is_visible()
    assert page.locator("summary").first.is_hidden()
    # Short tables are printed without being opened.
    assert page.locator("details:not([open]).short table").first.is_visible()
    # On A4 between its margins are 265 mm: sixty rows, a head and the summary fit onto one page.
    rows = page.locator(".short table tr").evaluate_all("rows => rows.map(row => row.getBoundingClientRect().height)")
    assert max(rows) * 62 <= 265 / 25.4 * 96


def test_axe_finds_nothing_in_either_scheme(opened: tuple[Page, list[str]], axe: Callable[[Page], list[str]]) -> None:
    page, _ = opened
    for fold in page.locator("summary").all():
        fold.click()
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert axe(page) == []
