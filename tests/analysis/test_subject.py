"""What a dissection works on: batches that can be had again, a folded copy, a fingerprint."""

import math
from copy import deepcopy

import pytest
import torch
from tests.analysis.cases import NETWORKS, batch_for, network
from tests.oracles import in_turn
from torch import Tensor

from howdeep.analysis import study as subject
from howdeep.analysis.study import SplitBatches, prepared
from howdeep.chain import Chain
from howdeep.data import Batch, Normalization, evaluation_batches
from howdeep.data.dataset import Decoded, Split
from howdeep.runs.resume import fingerprint
from howdeep.runtime import precision
from howdeep.runtime.timing import threads_of
from howdeep.util.errors import UserError

CPU = torch.device("cpu")
PLAIN = Normalization(torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1), torch.tensor([0.2, 0.3, 0.4]).view(3, 1, 1))


@pytest.fixture
def split() -> Split:
    """Eleven images of random pixels, every second of what is in memory."""
    stream = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (22, 3, 8, 8), dtype=torch.uint8, generator=stream)
    return Split(Decoded(pixels), torch.arange(0, 22, 2), torch.arange(11) % 4, [f"image {n}" for n in range(11)])


def same(first: Batch, second: Batch) -> bool:
    return torch.equal(first.images, second.images) and torch.equal(first.labels, second.labels)


# --- batches


@pytest.mark.parametrize("sizes", [[4, 4, 3], [4, 4], [4, 1], [2]])
def test_batches_are_those_of_an_evaluation_however_they_are_read(split, sizes: list[int]) -> None:
    some = split.take(torch.arange(sum(sizes)))
    batches = SplitBatches(some, PLAIN, 4, CPU)
    expected = list(evaluation_batches(some, normalization=PLAIN, batch_size=4, device=CPU))
    assert batches.images == sum(sizes)
    assert len(batches) == len(sizes)
    assert [len(batch.labels) for batch in batches] == [batch.total for batch in batches] == sizes
    for read in (list(batches), [batches[n] for n in range(len(sizes))], batches[:], batches[::-1][::-1]):
        assert len(read) == len(expected)
        assert all(same(mine, theirs) for mine, theirs in zip(read, expected, strict=True))
    assert same(batches[len(sizes) - 1], batches[len(sizes) - 1])
    assert [len(batch.labels) for batch in batches[1:]] == sizes[1:]


def test_images_have_the_type_that_was_asked_for(split) -> None:
    wide = SplitBatches(split, PLAIN, 4, CPU, dtype=torch.float64)[0]
    assert wide.images.dtype == torch.float64
    assert torch.equal(wide.images, SplitBatches(split, PLAIN, 4, CPU)[0].images.double())
    assert wide.labels.dtype == torch.int64


def test_a_batch_that_is_needed_several_times_in_a_row_is_decoded_once(split) -> None:
    decoded = []

    class Counted(Split):
        def pixels(self, indices: Tensor) -> Tensor:
            decoded.extend(self.rows[indices].tolist())
            return super().pixels(indices)

    batches = SplitBatches(Counted(split.images, split.rows, split.labels, split.names), PLAIN, 4, CPU)
    for index in (0, 0, 0, 1, 1, 2):
        assert same(batches[index], SplitBatches(split, PLAIN, 4, CPU)[index])
    assert decoded == split.rows.tolist()


@pytest.mark.parametrize("index", [3, -1, 100])
def test_a_batch_that_does_not_exist_is_refused(split, index: int) -> None:
    with pytest.raises(IndexError):
        SplitBatches(split, PLAIN, 4, CPU)[index]


# --- a copy for many passes


def difference(scores: Tensor, expected: Tensor) -> float:
    return float((scores - expected).norm() / expected.norm())


@pytest.mark.parametrize(("name", "precision"), in_turn(NETWORKS, ["fp32", "fp64"]))
@torch.no_grad()
def test_a_prepared_network_has_the_scores_of_the_original_which_stays(name: str, precision: str) -> None:
    chain, x = network(name).train(), batch_for(name).images
    state = deepcopy(chain.state_dict())
    wide = precision == "fp64"
    x = x.double() if wide else x
    ready = prepared(chain, x, precision=precision, device=CPU)
    found = ready.chain
    assert ready.precision == precision
    assert chain.training
    assert not found.training
    assert all(torch.equal(value, state[key]) for key, value in chain.state_dict().items())
    assert all(value.stride() == state[key].stride() for key, value in chain.state_dict().items())
    assert {weight.dtype for weight in found.parameters()} == {torch.float64 if wide else torch.float32}
    expected = deepcopy(chain).eval().double()(x.double())
    assert difference(found(x).double(), expected) < (1e-12 if wide else 1e-5)


def test_the_norms_of_a_prepared_network_are_folded_where_that_is_rounding(monkeypatch) -> None:
    chain, x = network("resnet A"), batch_for("resnet A").images
    whole = len(chain.state_dict())
    assert len(prepared(chain, x, precision="fp32", device=CPU).chain.state_dict()) < whole
    assert len(prepared(chain, x, precision="fp32", device=CPU, fold=False).chain.state_dict()) == whole

    def wrong(given: Chain) -> Chain:
        spoiled = deepcopy(given)
        next(spoiled.head.parameters()).data *= 1.01
        return spoiled

    monkeypatch.setattr(subject, "fold_norms", wrong)
    found = prepared(chain, x, precision="fp32", device=CPU)
    with torch.no_grad():
        assert difference(found.chain(x), chain(x)) < 1e-5
    (note,) = found.notes
    assert note.startswith("norms are not folded: logits would change by ")


def test_a_network_is_prepared_with_the_threads_that_are_asked_for_and_they_are_put_back() -> None:
    chain, x = network("resnet A"), batch_for("resnet A").images
    with threads_of(1):
        found = {
            threads: prepared(chain, x, precision="fp32", device=CPU, threads=threads).threads
            for threads in (None, 2, "auto")
        }
        assert torch.get_num_threads() == 1
    assert found == {None: 1, 2: 2, "auto": 1}


def test_auto_takes_bf16_only_where_its_logits_are_right(monkeypatch) -> None:
    chain, x = network("resnet A"), batch_for("resnet A").images
    monkeypatch.setattr(precision, "has_bf16", lambda device: True)
    for seconds, tolerance, chosen in (([1.0, 0.5], 0.1, "bf16"), ([1.0, 2.0], 0.1, "fp32"), ([1.0, 0.5], 0.0, "fp32")):
        times = iter(seconds)
        monkeypatch.setattr(precision, "_time", lambda *_, times=times: [next(times)])
        monkeypatch.setattr(precision, "TOLERANCE", tolerance)
        assert prepared(chain, x, precision="auto", device=CPU).precision == chosen


def test_auto_times_both() -> None:
    chain, x = network("resnet A"), batch_for("resnet A").images
    assert prepared(chain, x, precision="auto", device=CPU).precision in ("fp32", "bf16")


def test_broken_weights_are_reported() -> None:
    chain = network("resnet A")
    next(chain.parameters()).data.view(-1)[0] = math.nan
    with pytest.raises(UserError, match="not finite: weights or data are broken"):
        prepared(chain, batch_for("resnet A").images, precision="fp32", device=CPU)


# --- a fingerprint


@pytest.mark.parametrize("name", ["resnet B", "densenet", "torchvision densenet", "timm vit"])
def test_a_fingerprint_changes_with_any_weight_or_statistic_by_one_bit(name: str) -> None:
    chain = network(name)
    own = fingerprint(chain)
    assert fingerprint(deepcopy(chain)) == fingerprint(network(name)) == own
    found = {own}
    state = chain.state_dict()
    for value in state.values():
        last = value.view(-1)[-1:]
        before = last.clone()
        if value.is_floating_point():
            last.copy_(torch.nextafter(last, last + 1))
        else:
            last.add_(1)
        found.add(fingerprint(chain))
        last.copy_(before)
    assert len(found) == len({value.data_ptr() for value in state.values()}) + 1
    assert fingerprint(chain) == own


def test_a_fingerprint_does_not_depend_on_layout_and_does_on_names() -> None:
    chain = network("resnet B")
    assert fingerprint(deepcopy(chain).to(memory_format=torch.channels_last)) == fingerprint(chain)  # type: ignore[call-overload]
    one, other = (torch.nn.ParameterDict({name: torch.ones(2)}) for name in ("a", "b"))
    assert fingerprint(one) != fingerprint(other)
