"""Two networks side by side: a run and a cut of it, each a page of its own in a frame."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Frame, Page, expect
from tests.browser.explorer_page import (
    Network,
    address,
    drop,
    error,
    open_network,
    out,
    serving,
    settled,
    too_wide,
    unit,
)
from tests.processes import start

from howdeep import cli


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Six units, and the same without the third."""
    run = tmp_path_factory.mktemp("runs") / "run"
    plain = ["--data", "digits", "--precision", "fp32", "--device", "cpu"]
    assert cli.run(["train", "cifar_resnet14", "--out", str(run), "--epochs", "1", "--threads", "1", *plain]) == 0
    cut = run.with_name("cut")
    few = ["--calibration-images", "50", "--statistics-images", "50", "--limit", "50", "--threads", "1"]
    assert cli.run(["cut", str(run), "--remove", "3", "--out", str(cut), *few, *plain]) == 0
    return run, cut


@pytest.fixture(scope="module")
def networks(runs: tuple[Path, Path]) -> list[Network]:
    return [open_network(run) for run in runs]


@pytest.fixture(scope="module")
def url(runs: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    run, cut = runs
    server = start([*serving(run), "--beside", str(cut)], tmp_path_factory.mktemp("server") / "said.txt")
    try:
        yield address(server)
    finally:
        server.process.kill()


@pytest.fixture
def page(browser: Browser, url: str) -> Iterator[Page]:
    """The outer page; neither it nor a frame may have said anything on the console."""
    page, said = browser.new_page(viewport={"width": 1280, "height": 800}), []
    page.set_default_timeout(90_000)  # two pages at once, perhaps on a busy machine
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("console", lambda message: said.append(message.text))
    page.goto(url)
    yield page
    page.close()
    assert said == []


def test_a_cut_is_called_one(page: Page) -> None:
    assert [frame.locator("#name").inner_text() for frame in frames(page)] == [
        "cifar_resnet14",
        "cifar_resnet14 cut to 5 units",
    ]


def frames(page: Page) -> list[Frame]:
    """Return the pages of both networks, once they have answered."""
    expect(page.locator("iframe")).to_have_count(2)
    found = [handle.content_frame() for handle in page.locator("iframe").element_handles()]
    for frame in found:
        assert frame is not None
        settled(frame)
    return found  # type: ignore[return-value]


def test_the_line_above_says_how_they_differ(page: Page, networks: list[Network]) -> None:
    before, after = (network.error(network.own)[:-2] for network in networks)
    change = float(after) - float(before)
    found = re.fullmatch(
        rf"6 units and 5 units: error {before} → {after} %, (\S+) points \(95 %: \S+ to \S+, n = 24\); \S+ → \S+ ms",
        page.locator("#finding").inner_text(),
    )
    assert found
    assert float(found[1].replace("−", "-")) == pytest.approx(change, abs=0.11)


def test_each_network_has_its_own_state_and_the_address_holds_both(page: Page, networks: list[Network]) -> None:
    one, two = frames(page)
    unit(one, 2).click()
    unit(two, 5).click()
    unit(two, 1).click()
    assert (out(one), out(two)) == ([2], [1, 5])
    assert error(one) == networks[0].error(networks[0].without(2))
    assert error(two) == networks[1].error(networks[1].without(1, 5))
    one.locator("#undo").click()
    assert (out(one), out(two)) == ([], [1, 5]), "undone is what was done to this network, not what was done last"
    one.locator("#redo").click()
    expect(one.locator(".cell[data-state=out]")).to_have_count(1)
    page.reload()
    assert [out(frame) for frame in frames(page)] == [[2], [1, 5]]


def test_both_look_at_the_same_images(page: Page, url: str) -> None:
    one, two = frames(page)
    before = one.locator(".card").count()
    two.locator(".thumb").nth(20).click()
    expect(one.locator("[data-name='image 20']")).to_be_visible()
    expect(one.locator(".card")).to_have_count(before + 1)
    drop(one, "mine.png", page.request.get(f"{url}1/api/images/3.png").body())
    for frame in (one, two):
        expect(frame.locator("[data-name='your picture']")).to_be_visible()


@pytest.mark.parametrize(("width", "beside"), [(1280, True), (400, False)])
def test_they_stand_beside_each_other_where_there_is_room(page: Page, width: int, beside: bool) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    shown = frames(page)
    one, two = (frame.bounding_box() for frame in page.locator("iframe").all())
    assert one is not None
    assert two is not None
    assert (one["y"] == two["y"], one["x"] == two["x"]) == (beside, not beside)
    assert too_wide(page) == []
    assert [too_wide(frame) for frame in shown] == [[], []]


def test_axe_finds_nothing_in_either_scheme(page: Page, axe: Callable[[Page], list[str]]) -> None:
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        frames(page)
        assert axe(page) == []
