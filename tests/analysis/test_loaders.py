"""Analyses on what users have: loaders of every kind give the same numbers, and modes are put back."""

import copy
from collections.abc import Callable, Iterator

import datasets
import pytest
import torch
from tests.oracles import images, small_network
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

import howdeep
from howdeep.chain import Chain
from howdeep.data import Batch
from howdeep.data.loaders import batches_of
from howdeep.util.errors import UserError

PIXELS, LABELS = images(12), torch.arange(12) % 10
PARTS = list(zip(PIXELS.split(5), LABELS.split(5), strict=True))
BATCHES = [Batch(pixels, labels, len(labels)) for pixels, labels in PARTS]


class Streamed(IterableDataset):
    """Mini-batches of a length that nobody knows."""

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return iter(PARTS)


class Indexed(Dataset):
    """Single images by position, beyond which there would be more."""

    def __len__(self) -> int:
        return 12

    def __getitem__(self, position: int) -> tuple[Tensor, int]:
        return PIXELS[position % 12], int(LABELS[position % 12])


ROWS = {"image": PIXELS.tolist(), "label": LABELS.tolist()}


def rendered(rows: dict) -> dict:
    """Return rows of a data set of Hugging Face as tensors."""
    return {"pixel_values": [torch.tensor(one) for one in rows["image"]], "label": rows["label"]}


LOADERS = {
    "a data set of Hugging Face": datasets.Dataset.from_dict(ROWS).with_format("torch"),
    "one with a transform": datasets.Dataset.from_dict(ROWS).with_transform(rendered),
    "a list of mini-batches": PARTS,
    "a DataLoader": DataLoader(TensorDataset(PIXELS, LABELS), 5),
    "a DataLoader without a length": DataLoader(Streamed(), batch_size=None),
    "a stream": Streamed(),
    "a data set": TensorDataset(PIXELS, LABELS),
    "a data set without an end": Indexed(),
    "tensors": (PIXELS, LABELS),
    "mappings": [{"pixel_values": pixels, "labels": labels} for pixels, labels in PARTS],
    "mappings of single images": [{"image": PIXELS[i], "label": int(LABELS[i])} for i in range(12)],
    "arrays": [(pixels.numpy(), labels.tolist()) for pixels, labels in PARTS],
    "doubles": [(pixels.double(), labels.to(torch.uint8)) for pixels, labels in PARTS],
}


ANALYSES: dict[str, Callable] = {
    "evaluate": lambda chain, loader: howdeep.evaluate(chain, loader).loss,
    "lesion": lambda chain, loader: [unit.error_percent for unit in howdeep.lesion(chain, loader).units],
    "paths": lambda chain, loader: howdeep.paths(chain, loader, howdeep.PathsOptions(draws=0)).gradient_norm,
    "flow": lambda chain, loader: [unit.input_gradient for unit in howdeep.flow(chain, loader).units],
}


@pytest.fixture(scope="module")
def chain() -> Chain:
    return small_network("resnet A")


@pytest.mark.parametrize("analysis", ANALYSES)
def test_every_kind_of_loader_gives_the_same_numbers(analysis: str, chain: Chain) -> None:
    expected = ANALYSES[analysis](chain, BATCHES)
    for kind, loader in LOADERS.items():
        assert ANALYSES[analysis](chain, loader) == pytest.approx(expected, rel=1e-4), kind


@pytest.mark.parametrize("analysis", ANALYSES)
def test_a_chain_in_training_mode_is_measured_in_evaluation_mode_and_put_back(analysis: str) -> None:
    chain = small_network("resnet A", dropout=0.5)
    expected = ANALYSES[analysis](chain.eval(), BATCHES)
    chain.train().body[0].eval()
    modes, state = [module.training for module in chain.modules()], [one.clone() for one in chain.buffers()]
    assert ANALYSES[analysis](chain, PARTS) == pytest.approx(expected, rel=1e-6)
    assert [module.training for module in chain.modules()] == modes
    assert all(torch.equal(one, other) for one, other in zip(chain.buffers(), state, strict=True))


@pytest.mark.parametrize("analysis", ANALYSES)
def test_what_yields_once_is_refused_by_name(analysis: str, chain: Chain) -> None:
    with pytest.raises(UserError, match="the loader is a generator, which yields once only: give a list, a DataLoader"):
        ANALYSES[analysis](chain, (part for part in PARTS))


def test_a_loader_that_has_less_than_it_says_is_refused(chain: Chain) -> None:
    class Short:
        def __len__(self) -> int:
            return 4

        def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
            return iter(PARTS)

    with pytest.raises(UserError, match="the loader yields 3 mini-batches, and says that it has 4"):
        howdeep.lesion(chain, Short())


def test_norms_are_recalibrated_by_a_loader_as_by_its_batches(chain: Chain) -> None:
    one, other = copy.deepcopy(chain), copy.deepcopy(chain)
    norms = howdeep.recalibrate(one, BATCHES)
    assert howdeep.recalibrate(other.train(), DataLoader(TensorDataset(PIXELS, LABELS), 5)) == norms > 0
    assert all(module.training for module in other.modules())
    pairs = list(zip(one.state_dict().values(), other.state_dict().values(), strict=True))
    assert all(torch.equal(*pair) for pair in pairs)
    assert any(not torch.equal(*pair) for pair in zip(one.buffers(), chain.buffers(), strict=True))


def test_labels_may_be_classes_that_a_network_does_not_have_where_that_is_said() -> None:
    chain, loader = small_network("resnet A"), [(PIXELS, LABELS + 5)]
    with pytest.raises(UserError, match="yields label 14: the network has classes 0 to 9"):
        batches_of(chain, loader)[0]
    assert torch.equal(batches_of(chain, loader, same_classes=False)[0].labels, LABELS + 5)
    with pytest.raises(UserError, match=r"^the images yields label -1: they count from 0$"):
        batches_of(chain, [(PIXELS, LABELS - 1)], name="the images", same_classes=False)[0]
