"""The classifiers of all places of a network, each fitted when it is asked for."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from howdeep.analysis.depths import Fitted
from howdeep.analysis.evaluation import Answers, Sums
from howdeep.analysis.features import Place, Rows
from howdeep.analysis.linear import Features, Linear, regression, regression_images
from howdeep.analysis.neighbours import wrong_by_neighbour
from howdeep.data.sampling import sample_positions
from howdeep.util.intervals import of_share


@dataclass(frozen=True)
class Fits:
    """The classifiers of all places, each fitted when it is asked for."""

    rows: Rows
    places: Sequence[Place]
    blocks: dict[str, range]
    labels: dict[str, Tensor]
    classes: int
    images: str
    seed: int
    _linears: dict[int, tuple[Linear, Sums]] = field(default_factory=dict, init=False, repr=False, compare=False)

    @cached_property
    def sample(self) -> Tensor:
        """Positions of the training images that classifiers are fitted on: the same ones at every place."""
        labels, most = (
            self.labels["training"],
            regression_images(max(place.features for place in self.places), self.classes),
        )
        return torch.arange(len(labels)) if len(labels) <= most else sample_positions(labels, most, self.seed)

    def fitted(self, number: int) -> Fitted:
        """Return what the classifier of a place gets wrong on the validation images."""
        linear, sums = self._fit(number)
        validation = self._features(number, "validation")
        low, high = of_share(sums.error_percent, sums.images)
        return Fitted(
            features=self.places[number].features,
            error_percent=sums.error_percent,
            low=low,
            high=high,
            loss=sums.mean_loss,
            strength=linear.strength,
            answers=Answers.of(self.images, linear.wrong(validation)),
        )

    def linear(self, number: int) -> Linear:
        """Return the classifier of a place."""
        return self._fit(number)[0]

    def features(self, units: int, *, by_head: bool) -> tuple[Features, Features]:
        """Return what is read behind some units, of the images that classifiers are fitted on and of validation images.

        Args:
            units: How many.
            by_head: What the classifier of the network reads there; where that is the average over space too, they are
                one place.
        """
        behind = [number for number, place in enumerate(self.places) if place.units == units]
        number = next((one for one in behind if self.places[one].by_head == by_head), behind[0])
        return self._fitted_on(number), self._features(number, "validation")

    def neighbour_error_percent(self, number: int) -> float:
        """Return what the nearest training image gets wrong at a place, in percent."""
        return 100 * float(self.wrong_by_neighbour(number, self._features(number, "validation")).double().mean())

    def wrong_by_neighbour(self, number: int, images: Features) -> Tensor:
        """Return which images the nearest training image gives another class, by what is read at a place."""
        return wrong_by_neighbour(self._features(number, "training"), images)

    def _fit(self, number: int) -> tuple[Linear, Sums]:
        if number not in self._linears:
            train, validation = self._fitted_on(number), self._features(number, "validation")
            self._linears[number] = regression(train, validation, self.classes, exact=False)
        return self._linears[number]

    def _fitted_on(self, number: int) -> Features:
        train = self._features(number, "training")
        return Features(train.values[self.sample], train.labels[self.sample])

    def _features(self, number: int, name: str) -> Features:
        start = sum(place.features for place in self.places[:number])
        values = self.rows.columns(self.blocks[name], start, self.places[number].features)
        return Features(values, self.labels[name])
