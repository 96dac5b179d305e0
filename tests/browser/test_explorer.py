"""The page of ``howdeep explore``, driven as a user drives it; its numbers are those of the Python functions."""

import json
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect
from tests.browser.explorer_deep import STAGES, locked, pretend
from tests.browser.explorer_page import (
    Network,
    address,
    asked,
    drop,
    error,
    faint,
    open_network,
    out,
    serving,
    settled,
    small,
    too_wide,
    unit,
)
from tests.processes import start

from howdeep import cli

Opener = Callable[..., Page]
UNCHANGED = "the baseline network"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six units with stochastic depth: an open gate is not 1."""
    place = tmp_path_factory.mktemp("runs") / "run"
    options = ["--data", "digits", "--epochs", "2", "--survival", "linear:0.5"]
    options += ["--precision", "fp32", "--memory-format", "contiguous"]
    assert cli.run(["train", "cifar_resnet14", "--out", str(place), *options]) == 0
    return place


@pytest.fixture(scope="module")
def network(run: Path) -> Network:
    return open_network(run)


@pytest.fixture(scope="module")
def url(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    server = start(serving(run), tmp_path_factory.mktemp("server") / "said.txt")
    try:
        yield address(server)
    finally:
        server.process.kill()  # it has nothing to keep


@pytest.fixture(scope="module")
def window(browser: Browser, url: str) -> BrowserContext:
    """Where tabs open; one stays, and with it the process that the others need and that takes two seconds to begin."""
    window = browser.new_context(color_scheme="light")
    window.new_page().goto(url)
    return window


@pytest.fixture
def tab(browser: Browser, window: BrowserContext, url: str) -> Iterator[Opener]:
    """Opens pages; none of them may have said anything on its console."""
    pages: list[Page] = []
    said: list[str] = []

    def opened(*, width: int = 1280, at: str = "", touch: bool = False, pretended: int = 0) -> Page:
        page = browser.new_page(color_scheme="light", has_touch=True) if touch else window.new_page()
        pages.append(page)
        page.set_viewport_size({"width": width, "height": 800})
        page.set_default_timeout(30_000)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("console", lambda message: said.append(message.text))
        if pretended:
            pretend(page, pretended)
        page.goto(url + at)
        settled(page)
        return page

    yield opened
    for page in pages:
        page.close()
    assert [text for text in said if "Failed to load resource" not in text] == []


def test_the_error_shown_is_that_of_the_python_function(tab: Opener, network: Network) -> None:
    page = tab()
    assert error(page) == network.error(network.own)
    expect(page.locator("#change")).to_have_text(UNCHANGED)
    for number in (2, 5):
        unit(page, number).click()
    assert error(page) == network.error(network.without(2, 5))
    assert page.locator("#tile-units").inner_text() == "4 of 6"
    assert page.locator("#tile-paths").inner_text() == "16 of 64"
    assert page.url.endswith("#out=2,5")
    assert page.locator("#sure-now b").inner_text() == network.right(network.without(2, 5))
    unit(page, 2).click()
    assert error(page) == network.error(network.without(5))


@pytest.mark.parametrize("width", [1280, 400])
def test_the_first_screen_answers_three_questions(width: int, tab: Opener) -> None:
    """How good is it, and is all of its depth needed; which unit matters; what do I do next?"""
    page = tab(width=width)
    expect(page.locator("#finding")).to_contain_text("costs")
    for name in ("#error", "#finding", "#strip", "#hint"):
        box = page.locator(name).bounding_box()
        assert box is not None, name
        assert box["y"] + box["height"] <= 800, name


def test_steps_are_undone_and_done_again_by_buttons_keys_and_the_browser(tab: Opener, network: Network) -> None:
    page, undo, redo = tab(), "Control+z", "Control+Shift+z"
    expect(page.locator("#undo")).to_be_disabled()
    for number in (2, 5, 3):
        unit(page, number).click()
        settled(page)
    expect(page.locator("#redo")).to_be_disabled()
    page.locator("#undo").click()
    expect(page).to_have_url(re.compile("#out=2,5$"))
    assert error(page) == network.error(network.without(2, 5))
    page.go_back()
    expect(unit(page, 5)).to_have_attribute("data-state", "open")
    for key in (undo, redo, redo, redo, redo, undo):  # faster than the browser goes; what is beyond the last is nothing
        page.keyboard.press(key)
    expect(page).to_have_url(re.compile("#out=2,5$"))
    assert out(page) == [2, 5]
    said = page.get_by_role("img", name=re.compile("errors of 4 states: .* to .*; this is number 3"))
    expect(said).to_be_visible()
    unit(page, 1).click()
    expect(page.locator("#redo")).to_be_disabled()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowUp")
    expect(page).to_have_url(re.compile("#out=2,5&gate=1:0.2$"))
    page.keyboard.press(undo)
    expect(page).to_have_url(re.compile("#out=1,2,5$"))  # strokes of a key that scales are one step


def test_the_change_is_told_in_words_with_its_interval(tab: Opener, network: Network) -> None:
    page = tab(at="#out=1,2,3,4,5,6")
    points = float(error(page)[:-2]) - float(network.error(network.own)[:-2])
    text = page.locator("#change").inner_text()
    found = re.fullmatch(r"(▲|≈|▼) ([+−]?[\d.]+) points: (worse|no clear change|better) \((.+) to (.+)\)", text)
    assert found, text
    change, low, high = (float(found[place].replace("−", "-")) for place in (2, 4, 5))
    assert change == pytest.approx(points, abs=0.11)
    expected = ("▲", "worse") if low > 0 else ("▼", "better") if high < 0 else ("≈", "no clear change")
    assert (found[1], found[3]) == expected


def test_a_drag_sets_the_gate_and_the_first_line_that_says_so_goes(tab: Opener, network: Network) -> None:
    page = tab()
    expect(page.locator("#hint")).to_have_text("Click a unit to take it out, drag to scale it")
    box = unit(page, 1).bounding_box()
    assert box is not None
    x, y = box["x"] + 10, box["y"] + 10
    expect(page.locator("#finding")).not_to_be_empty()
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x, y + 45, steps=6)
    page.mouse.up()
    gate = float(unit(page, 1).get_attribute("aria-valuenow") or 0)
    assert 0 < gate < network.own[0]
    assert unit(page, 1).inner_text().split() == ["1", f"×{gate:g}"], "a gate keeps the number of its unit"
    expect(page.locator("#hint")).to_be_hidden()
    assert error(page) == network.error([gate, *network.own[1:]])
    expect(page.locator("#save")).to_be_disabled()
    expect(page.locator("#save-why")).to_contain_text("gates are set")
    assert unit(page, 1).bounding_box()["y"] == box["y"], "units do not move under the pointer"  # type: ignore[index]
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x, y + 200, steps=6)
    page.mouse.up()
    assert error(page) == network.error(network.without(1))
    assert out(page) == [1]


def test_a_shift_click_brings_a_range_into_the_state_of_the_last_one(tab: Opener, network: Network) -> None:
    page = tab()
    unit(page, 2).click()
    unit(page, 5).click(modifiers=["Shift"])
    assert out(page) == [2, 3, 4, 5]
    assert error(page) == network.error(network.without(2, 3, 4, 5))
    unit(page, 4).click()
    unit(page, 3).click(modifiers=["Shift"])
    assert out(page) == [2, 5]
    assert error(page) == network.error(network.without(2, 5))


def test_everything_works_by_keyboard(tab: Opener, network: Network) -> None:
    page = tab()
    reach(page, "#units-title .word")
    expect(page.locator("#about-unit")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#about-unit")).to_be_hidden()
    reach(page, ".cell")
    for key in ("ArrowRight", "ArrowRight", "Space"):
        page.keyboard.press(key)
    assert out(page) == [3]
    expect(page.locator("#unit")).to_contain_text("unit 3")
    said = re.compile(r"taken out, alone out: [+−]?\d+\.\d points of error")
    expect(unit(page, 3)).to_have_attribute("aria-valuetext", said)
    expect(page.locator("#finding")).to_have_text(
        re.compile(r"^(Unit \d costs most \(\+.* points alone\)|No unit costs)")
    )
    reach(page, "#legend .word")
    expect(page.locator("#about-gate")).to_be_visible()
    page.keyboard.press("Shift+Tab")
    for key in ("Shift+ArrowRight", "Shift+ArrowRight", "Space", "Home", "Shift+ArrowRight", "ArrowDown"):
        page.keyboard.press(key)
    assert error(page) == network.error([0.8, 0.7, None, None, None, network.own[5]])
    reach(page, "#one")
    page.keyboard.press("Enter")
    assert len(out(page)) == 4
    reach(page, "#restore")
    page.keyboard.press("Enter")
    assert error(page) == network.error(network.own)
    reach(page, "#file")
    reach(page, "#filter input")
    page.keyboard.press("ArrowRight")
    settled(page)
    assert set(verdicts(page)) == {"wrong"}
    reach(page, ".thumb")
    page.keyboard.press("End")  # among the first are those that are watched already
    chosen = page.evaluate("document.activeElement.dataset.image")
    page.keyboard.press("Enter")
    expect(page.locator(f"article[data-name='image {chosen}']")).to_be_visible()


RINGED = """() => [document.activeElement, document.activeElement.parentNode, document.activeElement.nextElementSibling]
    .some((node) => node && getComputedStyle(node).outlineStyle === "solid")"""


def reach(page: Page, selector: str) -> None:
    """Press Tab until something of a kind has the focus, visibly so."""
    for _ in range(25):
        page.keyboard.press("Tab")
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            assert page.evaluate(RINGED), f"nothing shows that {selector} has the focus"
            return
    raise AssertionError(f"{selector} is not reached by Tab")


def verdicts(page: Page) -> list[str | None]:
    return [thumb.get_attribute("data-verdict") for thumb in page.locator(".thumb").all()]


def test_an_image_that_is_dropped_is_told_of_as_the_same_image_of_the_sample(tab: Opener) -> None:
    page = tab(at="#out=4")
    source = page.locator("article img").first.get_attribute("src") or ""
    drop(page, "mine.png", page.request.get(page.url.split("#")[0] + source).body())
    mine = page.locator("article[data-name='your picture']")
    mine.wait_for()
    settled(page)
    cards = [card.locator(".class").all_inner_texts() for card in (mine, page.locator("article").nth(1))]
    assert cards[0] == cards[1]
    assert "%" in cards[0][0]
    mine.get_by_role("button").click()
    expect(mine).to_have_count(0)


def bomb(side: int) -> bytes:
    """Return a PNG of a few kilobytes that declares side × side pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(side + 1) * 9)) + chunk(b"IEND", b"")


def test_what_is_no_usable_image_is_a_message_and_the_page_goes_on(tab: Opener, network: Network) -> None:
    page, sent = tab(), []
    page.on("request", lambda request: sent.append(request.url) if "upload" in request.url else None)
    for name, content, message in (
        ("text.png", b"only a text", "not an image"),
        ("bomb.png", bomb(10_000), "cannot be used"),
    ):
        drop(page, name, content)
        expect(page.locator("#notice-text")).to_contain_text(message)
        page.locator("#notice-close").click()
        expect(page.locator("#notice")).to_be_hidden()
    assert len(sent) == 2
    drop(page, "large.png", zeros=50_000_000)
    expect(page.locator("#notice-text")).to_have_text("Large.png is too large: 50 MB, and at most 20 MB are taken")
    assert len(sent) == 2, "what is too large is not even sent"
    unit(page, 1).click()
    assert error(page) == network.error(network.without(1))


def test_at_400_pixels_everything_is_in_the_window_and_readable(tab: Opener, network: Network) -> None:
    """In light colours; the dark ones, which are the same in any width, are looked at below."""
    page = tab(width=400)
    unit(page, 6).click()
    assert error(page) == network.error(network.without(6))
    for answer in ("#error", "#finding", "#units-title", ".cell >> nth=5"):
        expect(page.locator(answer)).to_be_in_viewport()
    page.mouse.wheel(0, 500)
    expect(page.locator("#error")).to_be_in_viewport()
    assert too_wide(page) == []
    assert faint(page) == []
    assert small(page) == []
    wrong = re.compile(r"Confusion: \d+ of 24 images wrong")
    expect(page.get_by_role("img", name=wrong)).to_be_attached()
    assert len(page.locator(".figure svg").all()) == 2


def test_charts_follow_the_scheme_of_the_browser(tab: Opener) -> None:
    page = tab()
    with page.expect_request("**/api/answer") as sent:
        page.emulate_media(color_scheme="dark")
    assert asked(sent.value)["dark"] is True
    settled(page)
    assert faint(page) == []


def test_axe_finds_nothing_in_either_scheme(tab: Opener, axe: Callable[[Page], list[str]]) -> None:
    page = tab(at="#out=2&gate=3:0.5")
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        settled(page)
        page.locator(".figure svg").nth(1).wait_for()
        assert axe(page) == []


def test_two_tabs_do_not_disturb_each_other(tab: Opener, network: Network) -> None:
    one, other = tab(), tab(at="#out=6")
    with one.expect_request("**/api/answer") as first, other.expect_request("**/api/answer") as second:
        unit(one, 1).click()
        unit(other, 3).click()
    assert asked(first.value)["tab"] != asked(second.value)["tab"], "the server tells them apart by this"
    assert error(one) == network.error(network.without(1))
    assert error(other) == network.error(network.without(3, 6))
    assert (out(one), out(other)) == ([1], [3, 6])


def test_a_new_request_ends_the_one_that_is_still_running(tab: Opener, network: Network) -> None:
    page, ended = tab(), []
    page.on("requestfailed", lambda request: ended.append(asked(request)["gates"]))
    page.route("**/api/answer", lambda route: None)
    unit(page, 1).click()
    expect(page.locator("#busy")).to_be_visible()
    page.unroute("**/api/answer")
    unit(page, 2).click()
    assert error(page) == network.error(network.without(1, 2))
    assert ended[0] == [None, *network.own[1:]]  # Chromium also calls every stream that was read to its end aborted
    expect(page.locator("#busy")).to_be_hidden()
    expect(page.locator("#notice")).to_be_hidden()


def test_a_server_that_is_gone_is_told_and_asked_again(tab: Opener, network: Network) -> None:
    """It is asked all the time, so that old numbers are dimmed before anybody clicks."""
    page = tab()
    page.route("**/static/icon.svg", lambda route: route.abort())
    expect(page.locator("#notice-text")).to_contain_text("The server does not answer")
    expect(page.locator("#reading")).to_have_css("opacity", "0.45")
    page.unroute("**/static/icon.svg")
    expect(page.locator("#notice")).to_be_hidden()
    expect(page.locator("#reading")).to_have_css("opacity", "1")
    page.route("**/api/answer", lambda route: route.abort())
    unit(page, 1).click()
    expect(page.locator("#notice-text")).to_contain_text("The numbers are those of before")
    with page.expect_request("**/api/answer"):
        page.locator("#notice-retry").click()
    page.unroute("**/api/answer")
    expect(page.locator("#notice")).to_be_hidden()
    assert error(page) == network.error(network.without(1))


def test_a_greedy_cut_leaves_as_many_units_as_asked_for_and_can_be_cancelled(tab: Opener, network: Network) -> None:
    page = tab()
    page.locator("#cut-n").fill("4")
    page.locator("#cut").click()
    expect(page.locator("#tile-units")).to_have_text("4 of 6")
    assert error(page) == network.error(network.without(*out(page)))
    held = []
    page.route("**/api/greedy", lambda route: held.append(route))
    page.locator("#cut").click()
    with page.expect_request("**/api/cancel") as cancelled:
        page.locator("#work-cancel").click()
    assert asked(cancelled.value)["tab"] == asked(held[0].request)["tab"]
    expect(page.locator("#work")).to_be_hidden()
    assert len(out(page)) == 2
    page.locator("#cut").click()
    expect(page.locator("#work")).to_be_visible()
    unit(page, out(page)[0]).click()
    expect(page.locator("#work")).to_be_hidden()
    assert error(page) == network.error(network.without(*out(page)))
    assert len(out(page)) == 1, "what is clicked meanwhile ends the cut"
    told = "async () => (await import('/static/dom.js')).howFar({ step: 12, of: 3000, seconds_left: 540 })"
    assert page.evaluate(told) == "step 12 of 3,000, about 9 min"


def test_random_lesions_and_exchanges_are_as_many_as_asked_for(tab: Opener) -> None:
    page = tab()
    page.locator("#some-k").fill("99")
    page.locator("#some").click()
    assert (len(out(page)), page.locator("#some-k").input_value()) == (6, "6")
    page.locator("#some-k").fill("2")
    page.locator("#some").click()
    assert len(out(page)) == 2
    page.locator("#restore").click()
    settled(page)
    with page.expect_request("**/api/answer") as sent:
        page.locator("#shuffle").click()
    order = asked(sent.value)["order"]
    assert sorted(order) == list(range(6))
    assert order == [1, 0, 2, 3, 4, 5], "only units 1 and 2 are alike"
    settled(page)
    expect(page.locator("#tile-units-more")).to_contain_text("τ 0.87")
    expect(page.locator("#save-why")).to_contain_text("units stand at other places")
    expect(page.locator("#notice")).to_be_hidden()
    assert page.url.endswith("#moved=1:2,2:1")
    page.locator("#undo").click()
    expect(page.locator("#tile-units-more")).to_have_text("")
    page.locator("#redo").click()
    expect(page.locator("#tile-units-more")).to_contain_text("τ 0.87")


def test_a_cut_is_saved_and_what_was_saved_is_shown(tab: Opener, network: Network) -> None:
    page = tab()
    expect(page.locator("#save")).to_be_disabled()
    expect(page.locator("#save-why")).to_contain_text("nothing is taken out")
    unit(page, 2).click()
    saved = {"run": "runs/r-cut-to-5-units", "command": "howdeep cut runs/r", "sentence": "Less.", "next": ["x y"]}
    lines = [{"progress": 0.5, "text": "cutting"}, {"saved": saved}]
    page.route("**/api/save", lambda route: route.fulfill(body="\n".join(map(json.dumps, lines))))
    with page.expect_request("**/api/save") as sent:
        page.locator("#save").click()
    assert asked(sent.value)["gates"] == network.without(2)
    expect(page.locator("#saved")).to_contain_text("Saved: runs/r-cut-to-5-units")
    assert page.locator("#saved code").all_inner_texts() == ["howdeep cut runs/r", "x y"]
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy: x y").click()
    expect(page.locator("#live")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == "x y"


def test_large_cells_carry_their_numbers_in_the_window_of_a_telephone(tab: Opener) -> None:
    page = tab(width=400, pretended=27)
    assert too_wide(page) == []
    assert page.locator(".number").all_inner_texts() == [str(number) for number in range(1, 28)]
    assert page.locator(".stage-title").all_inner_texts() == list(STAGES)
    rows = {round(cell.bounding_box()["y"]) for cell in page.locator(".cell").all()}  # type: ignore[index]
    assert len(rows) == 3
    assert faint(page) == []
    assert page.locator(".first").all_inner_texts()[:3] == ["100", "50.0", "33.3"]
    assert page.locator("[data-chosen] .number").all_inner_texts() == ["9"]
    told = page.locator("#keep")
    unit(page, 8).hover()
    expect(told).to_contain_text("first 8 units alone with the head")
    expect(told).to_contain_text("12.5\u00a0% error (11.5 to 13.5)")
    expect(told.locator("code")).to_have_text("howdeep cut r --first 8")
    unit(page, 9).focus()
    page.mouse.move(0, 0)
    for part in ("0.9 ms", "9\u00a0M MACs", "recommended by the probe", "--first 9"):
        expect(told).to_contain_text(part)


def test_a_touch_takes_a_unit_out_and_one_that_becomes_a_scroll_does_not(tab: Opener, network: Network) -> None:
    page = tab(width=400, touch=True)
    unit(page, 2).tap()
    assert error(page) == network.error(network.without(2))
    finger = {"pointerId": 2, "pointerType": "touch", "button": 0}
    page.evaluate("Element.prototype.setPointerCapture = () => {}")  # no finger is really there
    unit(page, 3).dispatch_event("pointerdown", {**finger, "clientY": 100})
    unit(page, 3).dispatch_event("pointermove", {**finger, "clientY": 140})
    expect(unit(page, 3)).to_have_attribute("data-state", "gated")
    unit(page, 3).dispatch_event("pointercancel", finger)
    expect(unit(page, 3)).to_have_attribute("data-state", "open")
    assert error(page) == network.error(network.without(2))


def test_six_hundred_units_are_in_rows_and_one_of_them_says_why_it_stays(tab: Opener) -> None:
    page = tab(width=400, pretended=600)
    assert too_wide(page) == []
    assert small(page) == []
    assert page.locator(".row-label").all_inner_texts() == [str(first) for first in range(1, 600, 10)]
    assert len(page.locator(".cell[tabindex='0']").all()) == 1
    stays = locked(600)
    unit(page, stays).click(force=True)  # Playwright does not click what is disabled
    expect(page.locator("#unit")).to_contain_text("not removable")
    assert "differ in shape" in (unit(page, stays).get_attribute("aria-label") or "")
    page.keyboard.press("PageDown")
    page.keyboard.press("Space")
    settled(page)
    assert out(page) == [stays + 10]
    assert page.locator("#tile-paths").inner_text() == "2599 of 2600"
