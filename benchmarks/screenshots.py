"""Pictures of the report and of the interactive page for the documentation, of the public network on CIFAR-10."""

import contextlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from bench_explorer import served, serving
from common import howdeep
from subjects import CIFAR10, MEAN, STD, weights

FIGURES = Path(__file__).parents[1] / "docs" / "figures"
NETWORK, LIMIT = "cifar_resnet56", 1000
OUT = (3, 5, 9, 14, 22)
"""Units that are out in the pictures of the page."""
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu")


def report(folder: Path) -> Path:
    """Measure the public network into a run folder, on some test images, and return its report."""
    constants = ("--mean", *MEAN, "--std", *STD)
    run, data = Path(NETWORK), Path(CIFAR10.name)
    on = ("--data", data, "--split", "test", "--limit", LIMIT)
    with contextlib.chdir(folder):  # the report repeats names of folders as they are given
        data.symlink_to(CIFAR10)
        howdeep("import", weights(NETWORK), "--network", NETWORK, "--out", run, *constants)
        howdeep("evaluate", run, *on, "--json", run / "evaluate.json")
        howdeep("lesion", run, *on, "--json", run / "lesion.json")
        howdeep("lesion", run, *on, "--kind", "random", "--max-k", 8, "--draws", 5, "--json", run / "random.json")
        howdeep("paths", run, "--data", data, "--limit", 100, "--json", run / "paths.json")
        howdeep("flow", run, "--data", data, "--limit", 200, "--json", run / "flow.json")
        howdeep("report", run, "--out", "report.html")
    return folder / "report.html"


@contextlib.contextmanager
def beside(folder: Path) -> Iterator[str]:
    """Yield the address of the page of the public network beside a cut of it."""
    with contextlib.chdir(folder):
        on = ("--data", CIFAR10)
        howdeep("cut", NETWORK, *on, "--remove", *OUT, "--limit", LIMIT, "--out", "cut")
        with serving([NETWORK, *map(str, on), "--beside", "cut"]) as address:
            yield address


def shown(browser: Browser, address: str, *, width: int, height: int, dark: bool = False) -> Page:
    """Open an address as a reader would."""
    scheme = "dark" if dark else "light"
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
    page.goto(address)
    return page


def main() -> None:
    executable = shutil.which("chromium")
    if executable is None:
        sys.exit("screenshots need Chromium: Debian's package is called chromium")
    FIGURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=list(FLAGS))
        place = report(Path(folder))
        shown(browser, place.as_uri(), width=1000, height=900).screenshot(path=FIGURES / "report.png")
        with served() as address:
            for name, size, dark in (
                ("explorer", (1280, 900), False),
                ("explorer_dark", (1280, 900), True),
                ("explorer_narrow", (400, 900), False),
            ):
                where = f"{address}#out={','.join(map(str, OUT))}"
                page = shown(browser, where, width=size[0], height=size[1], dark=dark)
                page.wait_for_selector("#costs .ramp", timeout=120_000)
                page.wait_for_selector("#reading[aria-busy=false]", timeout=120_000)
                page.screenshot(path=FIGURES / f"{name}.png")
        with beside(Path(folder)) as address:
            page = shown(browser, address, width=1280, height=900)
            page.wait_for_selector("iframe + iframe")
            for frame in page.frames[1:]:
                frame.wait_for_selector("#costs .ramp", timeout=120_000)
                frame.wait_for_selector("#reading[aria-busy=false]", timeout=120_000)
            page.screenshot(path=FIGURES / "explorer_beside.png")
        browser.close()


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(str(error))
