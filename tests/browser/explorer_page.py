"""The page of ``howdeep explore`` in a browser, and what Python says of the same network."""

import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from playwright.sync_api import Frame, Locator, Page, Request
from tests.processes import Running

from howdeep.analysis.evaluation import add_up
from howdeep.chain import Chain
from howdeep.data import Batch
from howdeep.explorer.images import draw_sample
from howdeep.runs.folder import open_run
from howdeep.runs.target import open_data_for, run_target

Gates = Sequence[float | None]
IMAGES = 24
"""Of the sample: each has a picture on the page, so that fewer are sooner there."""


@dataclass(frozen=True)
class Network:
    """A trained network and the sample of its validation images."""

    chain: Chain
    batches: Sequence[Batch]

    @property
    def own(self) -> list[float]:
        return [float(gate) for gate in self.chain.resolve(None)]  # type: ignore[arg-type]

    def error(self, gates: Gates) -> str:
        """Return the error as the page writes it; None takes a unit out."""
        plain = [0.0 if gate is None else gate for gate in gates]
        sums = add_up(self.chain, self.batches, autocast=torch.autocast("cpu", enabled=False), gates=plain)
        return f"{sums.error_percent:.1f}\u00a0%"

    def right(self, gates: Gates) -> str:
        """Return the mean probability of the right class as the page writes it."""
        plain = [0.0 if gate is None else gate for gate in gates]
        with torch.inference_mode():
            given = [
                self.chain(batch.images, plain).softmax(1).gather(1, batch.labels[:, None]) for batch in self.batches
            ]
        return f"{100 * torch.cat(given).mean().item():.1f}\u00a0%"

    def without(self, *numbers: int) -> list[float | None]:
        """Return the gates with units, counted from 1, taken out."""
        return [None if index + 1 in numbers else gate for index, gate in enumerate(self.own)]


def open_network(run: Path) -> Network:
    target = run_target(open_run(run), print)
    data = open_data_for(target, "digits", skip_broken=False)
    sample = draw_sample(target, data, split="val", images=IMAGES, seed=0, device=torch.device("cpu"))
    return Network(target.chain.eval(), sample.batches)


def serving(run: Path) -> list[str]:
    """Return the command that serves a run."""
    return ["explore", str(run), "--port", "0", "--precision", "fp32", "--images", str(IMAGES)]


def address(server: Running) -> str:
    """Return the address that a server prints, once it does."""
    while not (found := re.search(r"http://127\.0\.0\.1:\d+/", said := server.output.read_text())):
        assert server.process.exitcode is None, f"the server ended without an address: {said}"
        time.sleep(0.05)
    return found[0]


def settled(page: Page | Frame) -> None:
    """Wait until the numbers are those of the latest state."""
    page.locator("#reading[aria-busy=false]").wait_for()


def error(page: Page | Frame) -> str:
    settled(page)
    return page.locator("#error").inner_text()


def asked(request: Request) -> dict[str, Any]:
    """Return what the page asked."""
    return json.loads(request.post_data or "{}")


def unit(page: Page | Frame, number: int) -> Locator:
    """Return the cell at a place, counted from 1."""
    return page.locator(".cell").nth(number - 1)


def out(page: Page | Frame) -> list[int]:
    """Return the places at which a unit is taken out, counted from 1."""
    return [int(cell.get_attribute("data-place") or -1) + 1 for cell in page.locator(".cell[data-state=out]").all()]


def drop(page: Page | Frame, name: str, content: bytes = b"", *, zeros: int = 0) -> None:
    """Drop a file onto the page: its content and so many zeros."""
    page.evaluate(
        """([name, bytes, zeros]) => {
            const held = new DataTransfer();
            held.items.add(new File([new Uint8Array(bytes), new Uint8Array(zeros)], name));
            for (const kind of ["dragenter", "dragover", "drop"]) {
                const event = { bubbles: true, cancelable: true, dataTransfer: held };
                document.body.dispatchEvent(new DragEvent(kind, event));
            }
        }""",
        [name, list(content), zeros],
    )


def too_wide(page: Page | Frame) -> list[str]:
    """Return what reaches over the right edge of the window."""
    return page.evaluate(
        """() => document.documentElement.scrollWidth <= innerWidth ? [] :
            [...document.querySelectorAll("body *")]
                .filter((node) => node.getBoundingClientRect().right > innerWidth + 1)
                .map((node) => `${node.localName}#${node.id}.${node.className}`)"""
    )


def small(page: Page) -> list[str]:
    """Return what can be pressed and is less than 24 pixels wide or high."""
    return page.evaluate(
        """() => [...document.querySelectorAll("button, label, .cell, input:not([type=radio], [type=file])")]
            .filter((node) => node.checkVisibility() && !node.closest("[popover]"))
            .filter((node) => Math.min(...["width", "height"].map((side) => node.getBoundingClientRect()[side])) < 24)
            .map((node) => `${node.localName}#${node.id}.${node.className}`)"""
    )


def faint(page: Page) -> list[str]:
    """Return the texts of the page whose contrast with what lies under them is below 4.5."""
    return page.evaluate(
        """() => {
            const ink = (text) => {
                const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
                canvas.fillStyle = text;
                canvas.fillRect(0, 0, 1, 1);
                return [...canvas.getImageData(0, 0, 1, 1).data];
            };
            const light = ([red, green, blue]) => {
                const linear = (c) => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
                return 0.2126 * linear(red) + 0.7152 * linear(green) + 0.0722 * linear(blue);
            };
            const under = (node) => {
                for (; node; node = node.parentElement) {
                    const paper = ink(getComputedStyle(node).backgroundColor);
                    if (paper[3] === 255) return paper;
                }
                return [255, 255, 255];
            };
            const found = [];
            for (const node of document.querySelectorAll("body *:not(svg *)")) {
                const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim());
                if (!own || !node.checkVisibility() || node.closest("[popover]")) continue;
                const pair = [light(ink(getComputedStyle(node).color)), light(under(node))].sort((a, b) => b - a);
                const contrast = (pair[0] + 0.05) / (pair[1] + 0.05);
                if (contrast < 4.5) found.push(`${node.localName}#${node.id} ${node.innerText}: ${contrast}`);
            }
            return found;
        }"""
    )
