"""A search is answered once: on a clock, in a folder that is locked; the same command again finds the answer there."""

import json
from collections.abc import Callable
from typing import TypeVar

import torch
from rich.console import Console

from howdeep.data import Dataset, augmentation_record
from howdeep.runs.folder import provenance
from howdeep.runs.resume import Journal, require_same, surroundings
from howdeep.runtime import device as devices
from howdeep.runtime.process import stopped
from howdeep.search.answer import ANSWER
from howdeep.search.options import FitOptions, require_asked
from howdeep.search.phases import Clock, Left
from howdeep.training.log import print_line
from howdeep.util.files import folder_locked, write_whole
from howdeep.util.records import Shown, from_json, read_from, tagged, to_json

Answer = TypeVar("Answer", bound=Shown)


def answered(
    kind: type[Answer],
    options: FitOptions,
    steps: str,
    console: Console,
    opened: Callable[[], Dataset],
    search: Callable[[Clock], Answer | None],
    since: float | None,
) -> Answer | None:
    """Return the answer that lies in the folder, of the same options and images; else what a search finds.

    Args:
        kind: Of the answer.
        options: What is asked.
        steps: What the finished steps of the search are called, in the folder.
        console: Where lines and the time that is left go.
        opened: Returns the images, those that the search was begun with.
        search: Finds the answer, and writes it.
        since: When the time of the search began (see :class:`Clock`).

    Raises:
        UserError: Options or images are others than before, or another process writes there.
        Stopped: A signal arrived; the same options resume.
    """
    if (path := options.out / ANSWER).exists():
        with read_from(path, "name another --out"):
            record = json.loads(path.read_bytes())
            asked, around, answer = record["asked"], record["surroundings"], from_json(kind, record)
        require_asked(asked, options, str(options.out))
        opened()
        require_same(options.out, around, surroundings(devices.pick(options.device), options.runtime))
        print_line(console, f"{options.out} has its answer; nothing to do")
        return answer
    with (
        stopped("the same command resumes"),
        folder_locked(options.out),
        Clock(Journal.open(options.out / steps, {}), since) as clock,
        console.status(Left(clock, options.budgets.train_seconds)),
    ):
        return search(clock)


def write_answer(answer: Shown, options: FitOptions, dataset: Dataset, device: torch.device) -> None:
    """Write an answer into its folder, with what it depends on.

    Args:
        answer: What was found.
        options: What was asked.
        dataset: The images of the network that is recommended.
        device: Where.
    """
    origin = {"data": options.data, "asked": options.asked(), **provenance(device)}
    origin["surroundings"] = surroundings(device, options.runtime)
    origin["augmentation"] = augmentation_record(dataset, flip=options.flip)
    record = tagged(type(answer).__name__.lower(), {**to_json(answer), **origin})
    write_whole(options.out / ANSWER, json.dumps(record, indent=1).encode())
