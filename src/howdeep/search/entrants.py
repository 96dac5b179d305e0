"""Published networks that are compared, each with its weights, for images of every size that is asked for."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import isqrt
from pathlib import Path
from time import perf_counter

import torch
from torch import nn

from howdeep.analysis.depths import Depth
from howdeep.analysis.features import places_of, read_at
from howdeep.analysis.study import SplitBatches, prepared
from howdeep.chain import Chain
from howdeep.convert.classifier import replace_classifier
from howdeep.convert.libraries import is_library_name, published_as
from howdeep.data import NORMALIZATIONS, Dataset, Normalization
from howdeep.data.recorded import recorded
from howdeep.data.sampling import sample, trainable
from howdeep.deploying.latency import latencies, starting_seconds
from howdeep.networks.counting import describe_chain
from howdeep.runs import folder as runs
from howdeep.runs.target import Target
from howdeep.runtime.precision import true_fp32
from howdeep.runtime.timing import RUNS, SECONDS, Timing, fastest_threads, threads_of
from howdeep.search.options import FitOptions
from howdeep.search.sharing import FIT, FIT_A_NUMBER, Speed
from howdeep.survival import Survival
from howdeep.training.config import TrainConfig
from howdeep.training.images import open_training_data
from howdeep.training.start import Start as Beginning
from howdeep.training.start import start_of
from howdeep.training.state import Position
from howdeep.transform.truncation import truncated
from howdeep.util.errors import UserError
from howdeep.util.files import write_whole
from howdeep.util.text import Report, first_few

BATCH = 32
"""Images of a batch of forward passes."""
BYTES = 27
"""What a pixel of them takes: three colours as a byte, and as a number before and after normalisation."""
TRIES = 3
"""Batches by which the speed is measured."""
FIRST, PROBE = "first", "probe"
"""What is kept of a network, in its folder: its first units as run folders, and the probe's features."""
SHARED_WITH_TRAINING = ("data", "resize", "flip", "skip_broken", "seed", "device", "precision", "threads", "workers")
"""Options that training has too."""


@dataclass(frozen=True)
class Entrant:
    """A published network for images of some size: how it is opened, read and trained."""

    network: str
    """Its name."""
    weights: Path | None
    """File of its weights; None downloads them."""
    asked_size: int | None
    """Side of its images; None is the published one."""
    options: FitOptions
    report: Report

    @cached_property
    def config(self) -> TrainConfig:
        """How it is trained: with a new classifier, and norms that normalise as they were published."""
        return TrainConfig(
            network=self.network,
            weights=None if self.weights is None else str(self.weights),
            pretrained=self.weights is None,
            size=self.asked_size,
            recipe="finetune",
            classifier="new",
            norm_statistics="frozen",
            **{name: getattr(self.options, name) for name in SHARED_WITH_TRAINING},
        )

    @property
    def beginning(self) -> Beginning:
        """Where its trainings begin."""
        return self._opened_in[0]

    @cached_property
    def _opened_in(self) -> tuple[Beginning, float]:
        """Where its trainings begin, and the seconds that opening it took; its library is imported once."""
        if is_library_name(self.network):
            published_as(self.network)
        started = perf_counter()
        try:
            return start_of(self.config, self.report), perf_counter() - started
        except UserError as error:
            raise UserError(f"--from {self.network}: {error}") from None

    @property
    def target(self) -> Target:
        """The network with its weights."""
        assert self.beginning.target is not None, "it has given weights"
        return self.beginning.target

    @property
    def size(self) -> int:
        """Side of its images in pixels."""
        assert self.beginning.prepared.size is not None, "published networks are for square images"
        return self.beginning.prepared.size

    @property
    def text(self) -> str:
        """Which one it is, in a few words."""
        return f"{self.network} at {self.size}"

    @property
    def folder(self) -> Path:
        """Where what is kept of it lies."""
        return self.options.out / "networks" / f"{file_name(self.network)}-{self.size}"

    @cached_property
    def opened(self) -> Dataset:
        """All images as it reads them: those that were there when this was begun.

        Raises:
            UserError: They are not usable, or others.
        """
        known = runs.read_images_of(self.folder)
        opened = open_training_data(self.config, known, self.folder, self.beginning.prepared)
        if opened.channels != self.target.channels:
            here = f"{self.options.data} has {opened.channels}"
            raise UserError(f"{self.network} reads images of {self.target.channels} channels and {here}")
        if known is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_whole(self.folder / runs.IMAGES, recorded(opened).to_bytes())
        return opened

    @cached_property
    def dataset(self) -> Dataset:
        """The images that the options leave, as it reads them."""
        return trainable(self.opened, self.options.limit, self.options.seed)

    def training_data(self, images: int, validation: int) -> Dataset:
        """Return the data with so many training and validation images: samples, as :meth:`batches` draws them."""
        if images < len(self.dataset.split("train")):
            dataset = trainable(self.opened, images, self.options.seed)
        else:
            dataset = self.dataset
        return replace(dataset, validation=sample(dataset.split("val"), validation, self.options.seed))

    @cached_property
    def normalization(self) -> Normalization:
        """How its pixels are normalised: as it was published, or by the training images."""
        return self.target.normalization or NORMALIZATIONS["per_channel"](self.dataset.split("train"))

    def batches(self, split: str, images: int | None, device: torch.device) -> SplitBatches:
        """Return images of a split as it reads them: a stratified sample, or all of them."""
        taken = sample(self.dataset.split(split), images, self.options.seed)
        return SplitBatches(taken, self.normalization, BATCH, device)

    def stem(self, device: torch.device) -> tuple[Timing, int]:
        """Return the latency of its stem alone under a classifier, and its parameters: nothing of it costs less."""
        one = torch.zeros(1, self.target.channels, self.size, self.size)
        with torch.no_grad():
            features = places_of(self.target.chain, one)[0].features
        alone = truncated(self.target.chain, 0, nn.Linear(features, len(self.dataset.classes)))
        counted = describe_chain(alone, tuple(one.shape[1:]), name=self.network, family="")
        return self.latency(alone, device), counted.parameters

    def latency(self, chain: Chain, device: torch.device) -> Timing:
        """Return how long one image takes, norms folded."""
        one = torch.zeros(1, self.target.channels, self.size, self.size, device=device)
        one = one.contiguous(memory_format=torch.channels_last)
        folded = prepared(chain.eval(), one, precision="fp32", device=device).chain
        return latencies([folded], one, self.options.where)[0]

    def speed(self, device: torch.device) -> Speed:
        """Return how fast it reads images, by a batch of them."""
        batches = self.batches("train", BATCH, device)
        chain = prepared(self.target.chain, batches[0].images, precision="fp32", device=device).chain
        threads = fastest_threads(chain, lambda: batches[0].images, self.options.threads, device)
        places, exact = places_of(chain, batches[0].images[:1]), torch.autocast("cpu", enabled=False)

        def seconds_of(images: int) -> float:
            """Return what a batch takes, decoding included: the fastest of some, as others only slow it down."""
            seconds = []
            for _ in range(TRIES):
                started = perf_counter()
                read_at(chain, places, self.batches("train", images, device)[0].images, exact)
                seconds.append(perf_counter() - started)
            return min(seconds)

        with true_fp32(), threads_of(threads):
            alone, whole = seconds_of(1), seconds_of(batches.images)
        # Every depth is timed; in the mean they take half of what the whole network does.
        starting = starting_seconds(chain, batches[0].images[:1], self.options.where)
        fixed = min(SECONDS, RUNS * (1 + len(chain)) * alone / 2) + len(places) * (FIT + starting / 2)
        numbers = sum(place.features for place in places) * len(self.dataset.classes)
        fits = FIT_A_NUMBER * numbers
        return Speed(whole / batches.images, fits, fixed, self._opened_in[1], len(places), threads)

    def up_to(self, depth: Depth) -> Chain:
        """Return the network up to a depth, under a classifier of the data's classes that is not fitted yet."""
        classes = len(self.dataset.classes)
        if depth.head == "pooled":
            return truncated(self.target.chain, depth.units, nn.Linear(depth.fitted.features, classes))
        chain = truncated(self.target.chain, depth.units, None)
        replace_classifier(chain, torch.zeros(1, self.target.channels, self.size, self.size), classes, seed=0)
        return chain

    def first_units(self, depth: Depth) -> Path:
        """Return the run folder of the network up to a depth, as :meth:`up_to` returns it."""
        place, dataset, target = self.folder / f"{FIRST}-{depth.units}-{depth.head}", self.dataset, self.target
        if runs.is_run(place) and runs.open_run(place).begun:
            return place
        runs.forget(place)
        prepared = self.beginning.prepared
        record = runs.record_of(
            spec={**(target.network or {}), "classes": len(dataset.classes)},
            survival=Survival(),
            data=runs.data_record(dataset, source=self.options.data, resize=prepared.resize, crop=prepared.crop),
            normalization=self.normalization,
            where=torch.device("cpu"),
            more={
                "cut_from": self.network,
                "first": {"units": depth.units, "head": depth.head, "features": depth.fitted.features},
                "seed": self.options.seed,
            },
        )
        run = runs.create(place, record, recorded(dataset))
        run.save(0, tensors={"weights": self.up_to(depth).state_dict()}, state=Position().to_json())
        return place


def entrants(options: FitOptions, report: Report) -> list[Entrant]:
    """Return every network of a search for every size; none is opened yet.

    Raises:
        UserError: Weights are missing, or images of a size do not fit the memory.
    """
    if options.weights is not None and options.pretrained:
        raise UserError("--weights is not allowed with --pretrained: a network begins with one set of weights")
    if options.weights is None and not options.pretrained:
        raise UserError("--from needs weights: --weights FOLDER or FILE, or --pretrained")
    _require_memory(options.given_sizes)
    places = {name: weights_of(name, options) for name in options.published}
    return [
        Entrant(name, place, size, options, report) for name, place in places.items() for size in options.given_sizes
    ]


def _require_memory(sizes: Sequence[int | None]) -> None:
    if "SC_PHYS_PAGES" not in getattr(os, "sysconf_names", {}):
        return
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    most, largest = isqrt(there // (BATCH * BYTES)), max(size or 0 for size in sizes)
    if largest > most:
        raise UserError(
            f"--sizes {largest} is not allowed: the largest side of which {BATCH} images fit here is {most}"
        )


def weights_of(network: str, options: FitOptions) -> Path | None:
    """Return the file of a network's weights; None where they are to be downloaded.

    Raises:
        UserError: There is none; what is there is named.
    """
    if options.weights is None:
        return None
    place, stem = Path(options.weights), network.partition(":")[2].rpartition("/")[2] or network
    if place.is_file():
        if len(options.published) > 1:
            several = f"--from names {len(options.published)} networks"
            raise UserError(f"--weights {place} is one file and {several}: give a folder, whose files are called so")
        return place
    if not place.is_dir():
        raise UserError(f"--weights {place} is not allowed: there is no such file or folder")
    files = sorted(path for path in place.iterdir() if path.is_file())
    found = next((path for path in files if path.stem == stem), None)
    if found is None:
        there = first_few([path.name for path in files]) if files else "nothing"
        raise UserError(f"--weights {place} has no file {stem}.safetensors for {network}; in it: {there}")
    return found


def file_name(network: str) -> str:
    """Return what a folder is called that is a network's."""
    return network.replace(":", "-").replace("/", "-")
