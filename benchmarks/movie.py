"""The moving picture of the page: units of the public network are taken out, by hand and by a cut."""

import io
import shutil
import sys
from dataclasses import dataclass, field

from PIL import Image
from playwright.sync_api import Locator, Page, sync_playwright

from bench_explorer import served
from screenshots import FIGURES, FLAGS, shown

PLACE = FIGURES / "explorer.apng"
WIDTH, HEIGHT, COLORS = 1000, 620, 128
IMAGES = 128
EASY, HARD, HALF = 17, 10, 8
"""Units that are clicked: one that is hardly missed, the one that is missed most; and one that is dragged to a half."""
LEFT = 24
"""Units that the cut leaves."""
ARROW = """place => {
    const arrow = document.getElementById("arrow") ?? document.body.appendChild(document.createElement("div"));
    arrow.id = "arrow";
    const shape = '<path d="M2 1v18l5-5 3 8 3-1-3-8h7z" stroke="#fff" fill="#000"/>';
    arrow.innerHTML = `<svg width="24" height="24">${shape}</svg>`;
    arrow.style.cssText = `position: fixed; z-index: 9; pointer-events: none; left: ${place[0]}px; top: ${place[1]}px`;
}"""


@dataclass
class Film:
    """Frames of a page, each with its milliseconds, and a pointer, which a browser does not draw into pictures."""

    page: Page
    frames: list[Image.Image] = field(default_factory=list)
    durations: list[int] = field(default_factory=list)
    at: tuple[float, float] = (WIDTH / 2, HEIGHT - 40)

    def shot(self, milliseconds: int) -> None:
        """Take a frame, once the numbers are those of the state."""
        self.page.wait_for_selector("#reading[aria-busy=false]", timeout=300_000)
        self.page.evaluate(ARROW, list(self.at))
        self.frames.append(Image.open(io.BytesIO(self.page.screenshot())).convert("RGB"))
        self.durations.append(milliseconds)

    def move(self, to: tuple[float, float], steps: int = 8) -> None:
        """Move the pointer, slower at both ends."""
        start = self.at
        for step in range(1, steps + 1):
            share = (step / steps) ** 2 * (3 - 2 * step / steps)
            self.at = tuple(a + share * (b - a) for a, b in zip(start, to, strict=True))  # type: ignore[assignment]
            self.page.mouse.move(*self.at)
            self.shot(50)

    def click(self, target: Locator, milliseconds: int) -> None:
        self.move(middle(target))
        self.page.mouse.down()
        self.page.mouse.up()
        self.shot(milliseconds)

    def drag(self, target: Locator, pixels: int, milliseconds: int) -> None:
        self.move(middle(target))
        self.page.mouse.down()
        self.move((self.at[0], self.at[1] + pixels))
        self.page.mouse.up()
        self.shot(milliseconds)

    def save(self) -> None:
        """Write all frames with one palette, which is that of the last and of the middle one."""
        both = Image.new("RGB", (WIDTH, 2 * HEIGHT))
        both.paste(self.frames[len(self.frames) // 2])
        both.paste(self.frames[-1], (0, HEIGHT))
        palette = both.quantize(COLORS)
        first, *others = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in self.frames]
        first.save(PLACE, "PNG", save_all=True, append_images=others, duration=self.durations, loop=0, optimize=True)


def middle(target: Locator) -> tuple[float, float]:
    """Return the middle of what a locator finds."""
    box = target.bounding_box()
    assert box is not None
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def play(film: Film) -> None:
    """Show what the page does."""
    page = film.page
    units = page.locator(".cell")
    film.shot(1500)
    film.click(units.nth(EASY - 1), 2000)
    film.click(units.nth(HARD - 1), 2500)
    film.click(page.locator("#undo"), 1500)
    film.drag(units.nth(HALF - 1), 45, 2000)
    film.click(page.locator("#restore"), 1200)
    page.locator("#cut-n").fill(str(LEFT))
    film.click(page.locator("#cut"), 600)
    page.locator(".cell[data-state=out]").nth(units.count() - LEFT - 1).wait_for(timeout=300_000)
    film.shot(4000)


def main() -> None:
    executable = shutil.which("chromium")
    if executable is None:
        sys.exit("the picture needs Chromium: Debian's package is called chromium")
    with sync_playwright() as playwright, served(IMAGES) as address:
        browser = playwright.chromium.launch(executable_path=executable, args=list(FLAGS))
        page = shown(browser, address, width=WIDTH, height=HEIGHT)
        page.wait_for_selector("#costs .ramp", timeout=300_000)
        page.set_default_timeout(300_000)
        film = Film(page)
        play(film)
        film.save()
        browser.close()
    print(f"{PLACE}: {len(film.frames)} frames, {PLACE.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
