"""Error, per class, confusion, loss and calibration against hand and scikit-learn."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix, log_loss, zero_one_loss
from torch import Tensor, nn

from howdeep import cli
from howdeep.analysis.evaluation import (
    Evaluation,
    add_up,
    calibration_error_percent,
    evaluate,
    exchanged,
    lost,
    standard_error_percent,
)
from howdeep.analysis.views import views_of
from howdeep.chain import Chain
from howdeep.data import Batch
from howdeep.util.errors import UserError
from howdeep.util.records import from_json

CLASSES = ("a", "b", "c")
FP32 = torch.autocast("cpu", enabled=False)


def identity() -> Chain:
    """Return the network whose scores are its images."""
    return Chain(nn.Identity(), [], nn.Identity())


def batches(scores: Tensor, labels: Tensor, size: int) -> list[Batch]:
    parts = zip(scores.split(size), labels.split(size), strict=True)
    return [Batch(images, answers, len(answers)) for images, answers in parts]


@pytest.fixture
def answers() -> tuple[Tensor, Tensor]:
    """Scores and labels of 101 images; in mini-batches of 25 the last one holds one image."""
    random = torch.Generator().manual_seed(0)
    return torch.randn(101, 3, generator=random) * 2, torch.randint(3, (101,), generator=random)


def test_four_images_by_hand() -> None:
    probabilities = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.6, 0.3, 0.1], [0.2, 0.7, 0.1]])
    labels = torch.tensor([0, 1, 1, 2])
    found = evaluate(identity(), batches(probabilities.log(), labels, 3), CLASSES, autocast=FP32)
    assert (found.n, found.error_percent) == (4, 50.0)
    assert found.standard_error == pytest.approx(25.0)  # √(0.5·0.5/4)
    assert found.loss == pytest.approx(-math.log(0.7 * 0.8 * 0.3 * 0.1) / 4, rel=1e-6)
    assert [(one.name, one.n, one.error_percent) for one in found.classes] == [
        ("a", 1, 0.0),
        ("b", 2, 50.0),
        ("c", 1, 100.0),
    ]
    assert found.confusion == ((1, 0, 0), (1, 1, 0), (0, 1, 0))
    # The third image is b and taken for a with 0.6, the fourth c and taken for b with 0.7.
    sure = [(one.image, one.true, one.given, round(one.confidence_percent, 3)) for one in found.mistakes]
    assert sure == [(3, 2, 1, 70.0), (2, 1, 0, 60.0)]
    # Bins of 1/15: 0.7 twice (half right), 0.8 (right), 0.6 (wrong).
    assert found.calibration_error_percent == pytest.approx(100 * (2 * 0.2 + 0.2 + 0.6) / 4, rel=1e-5)


def test_two_evaluations_of_the_same_images_know_who_alone_is_wrong_on_how_many(answers: tuple[Tensor, Tensor]) -> None:
    scores, labels = answers
    other = scores.flip(1)
    first, second = (
        evaluate(identity(), batches(one, labels, size), CLASSES, autocast=FP32, images="these")
        for one, size in ((scores, 25), (other, 40))
    )
    wrong, others = scores.argmax(1) != labels, other.argmax(1) != labels
    expected = int((wrong & ~others).sum()), int((others & ~wrong).sum())
    assert min(expected) > 0
    assert exchanged(first.answers, second.answers) == expected
    assert first.answers is not None
    assert second.answers is not None
    assert lost(first.answers, second.answers) == (others & ~wrong).nonzero().squeeze(1).tolist()
    read = from_json(Evaluation, json.loads(json.dumps(first.to_json())))
    assert exchanged(read.answers, second.answers) == expected
    strangers = evaluate(identity(), batches(scores, labels, 25), CLASSES, autocast=FP32, images="others")
    assert exchanged(strangers.answers, second.answers) is None
    assert exchanged(evaluate(identity(), batches(scores, labels, 25), CLASSES, autocast=FP32).answers, None) is None


def test_answers_of_another_number_of_images_are_no_record(answers: tuple[Tensor, Tensor]) -> None:
    found = evaluate(identity(), batches(*answers, 25), CLASSES, autocast=FP32, images="these").to_json()
    with pytest.raises(ValueError, match="not those of 50 images"):
        from_json(Evaluation, {**found, "n": 50})


def test_a_split_agrees_with_scikit_learn(answers: tuple[Tensor, Tensor]) -> None:
    scores, labels = answers
    found = evaluate(identity(), batches(scores, labels, 25), CLASSES, autocast=FP32)
    given, probabilities = scores.argmax(1).numpy(), scores.double().softmax(1).numpy()
    assert found.n == 101
    assert found.error_percent == pytest.approx(100 * zero_one_loss(labels, given))
    assert found.loss == pytest.approx(log_loss(labels, probabilities), rel=1e-6)
    counts = confusion_matrix(labels, given)
    assert np.array_equal(np.array(found.confusion), counts)
    wrong = 100 * (1 - counts.diagonal() / counts.sum(1))
    assert [one.error_percent for one in found.classes] == pytest.approx(wrong.tolist())
    assert found.calibration_error_percent == pytest.approx(100 * calibration(probabilities, labels.numpy()), rel=1e-5)


def calibration(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Σ_m |B_m|/n · |accuracy(B_m) − confidence(B_m)| over 15 bins (Guo et al. 2017, Eq. 3)."""
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    bins = np.ceil(confidence * 15).astype(int)
    return sum(
        abs(right[bins == one].mean() - confidence[bins == one].mean()) * (bins == one).mean() for one in set(bins)
    )


@pytest.mark.parametrize("size", [1, 7, 25, 101, 500])
def test_the_size_of_mini_batches_changes_nothing(size: int, answers: tuple[Tensor, Tensor]) -> None:
    whole = evaluate(identity(), batches(*answers, 101), CLASSES, autocast=FP32)
    found = evaluate(identity(), batches(*answers, size), CLASSES, autocast=FP32)
    assert found.confusion == whole.confusion
    assert [one.image for one in found.mistakes] == [one.image for one in whole.mistakes]
    assert len(found.mistakes) == 24
    assert found.loss == pytest.approx(whole.loss, rel=1e-6)
    sums = add_up(identity(), batches(*answers, size), autocast=FP32)
    assert (sums.images, sums.error_percent) == (101, pytest.approx(whole.error_percent))
    assert sums.mean_loss == pytest.approx(whole.loss, rel=1e-6)


def test_a_class_without_images_has_no_error() -> None:
    found = evaluate(identity(), batches(torch.eye(3)[:2], torch.tensor([0, 1]), 2), CLASSES, autocast=FP32)
    assert [(one.n, one.error_percent) for one in found.classes] == [(1, 0.0), (1, 0.0), (0, None)]


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_scores_that_are_not_finite_are_refused(broken: float) -> None:
    scores = torch.tensor([[0.0, 1.0, 2.0], [0.0, broken, 0.0]])
    with pytest.raises(UserError, match="logits that are not finite"):
        evaluate(identity(), batches(scores, torch.tensor([0, 1]), 2), CLASSES, autocast=FP32)


def test_a_network_of_other_classes_is_refused() -> None:
    with pytest.raises(UserError, match=r"^the network returns 4 logits for 3 classes$"):
        evaluate(identity(), batches(torch.eye(4), torch.tensor([0, 1, 2, 0]), 2), CLASSES, autocast=FP32)


def test_a_split_without_images_is_refused() -> None:
    with pytest.raises(UserError, match="there are no images to evaluate on"):
        evaluate(identity(), [], CLASSES, autocast=FP32)


def test_validation_puts_the_mode_back_also_after_an_error(answers: tuple[Tensor, Tensor]) -> None:
    chain = identity().train()
    add_up(chain, batches(*answers, 50), autocast=FP32)
    assert chain.training
    with pytest.raises(ValueError, match="batch_size"):
        add_up(chain, [Batch(torch.zeros(2, 3), torch.tensor([0]), 2)], autocast=FP32)
    assert chain.training


@pytest.mark.parametrize(("error", "n", "expected"), [(0.0, 10, 0.0), (1.0, 10, 0.0), (0.0641, 10_000, 0.245)])
def test_the_standard_error_is_that_of_independent_answers(error: float, n: int, expected: float) -> None:
    assert standard_error_percent(error, n) == pytest.approx(expected, abs=5e-4)


@pytest.mark.parametrize("size", [7, 101])
def test_the_calibration_error_is_that_of_torchmetrics_and_of_the_bins(
    size: int, answers: tuple[Tensor, Tensor]
) -> None:
    from torchmetrics.classification import MulticlassCalibrationError  # in most of a second

    scores, labels = answers
    metric = MulticlassCalibrationError(3, n_bins=15)
    metric.update(scores.softmax(1), labels)
    found = evaluate(identity(), batches(scores, labels, size), CLASSES, autocast=FP32)
    assert found.calibration_error_percent == pytest.approx(100 * float(metric.compute()), rel=1e-5)
    assert found.calibration_error_percent == calibration_error_percent(found.bins)


def test_bins_hold_the_answers_of_their_confidence() -> None:
    # Confidence 0.5 (wrong), 0.52 (right), 0.8 (right), and exactly 1 (right), which has no bin of its own.
    probabilities = torch.tensor([[0.5, 0.3, 0.2], [0.24, 0.52, 0.24], [0.1, 0.1, 0.8], [1.0, 0.0, 0.0]])
    labels = torch.tensor([1, 1, 2, 0])
    found = evaluate(identity(), batches(probabilities.clamp_min(1e-30).log(), labels, 3), CLASSES, autocast=FP32).bins
    assert len(found) == 15
    assert [(one.low, one.high) for one in found] == [(place / 15, (place + 1) / 15) for place in range(15)]
    held = {place: (one.n, one.confidence_percent, one.accuracy_percent) for place, one in enumerate(found) if one.n}
    assert held == {
        7: (2, pytest.approx(51.0), pytest.approx(50.0)),
        12: (1, pytest.approx(80.0), 100.0),
        14: (1, 100.0, 100.0),
    }
    assert {(one.n, one.confidence_percent, one.accuracy_percent) for one in found if not one.n} == {(0, None, None)}


def test_a_record_comes_back_from_json(answers: tuple[Tensor, Tensor]) -> None:
    found = evaluate(identity(), batches(*answers, 50), CLASSES, autocast=FP32)
    assert from_json(Evaluation, json.loads(json.dumps(found.to_json()))) == found


def test_the_command_draws_what_it_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    found = evaluate(identity(), batches(torch.eye(3), torch.tensor([0, 1, 1]), 3), CLASSES, autocast=FP32)
    record = {**found.to_json(), "data": "digits"}
    monkeypatch.setattr("howdeep.analysis.inference.evaluate_target", lambda *given, **options: (found, record))
    monkeypatch.setattr("howdeep.runs.target.open_target", lambda *given, **options: None)
    asked = ["evaluate", "run", "--data", "digits", "--figure"]
    assert cli.run([*asked, str(tmp_path / "chart.svg")]) == 0
    assert "b taken for c" in (tmp_path / "chart.svg").read_text()
    assert f"{tmp_path / 'chart.svg'}: chart" in capsys.readouterr().err
    monkeypatch.setattr("howdeep.analysis.inference.evaluate_target", lambda *given, **options: pytest.fail("measured"))
    for name in ("chart.svg", "chart.gif", "nowhere/chart.svg"):  # exists; no such ending; no such folder
        assert cli.run([*asked, str(tmp_path / name)]) == 2


def test_a_record_is_plain_data(answers: tuple[Tensor, Tensor]) -> None:
    found = evaluate(identity(), batches(*answers, 50), CLASSES, autocast=FP32).to_json()
    assert found["n"] == 101
    assert found["classes"][0].keys() == {"name", "n", "error_percent"}


@pytest.mark.parametrize(("views", "flip"), [(2, True), (10, True), (5, False)])
def test_over_views_a_linear_network_says_what_it_says_of_their_mean(views: int, flip: bool) -> None:
    random = torch.Generator().manual_seed(0)
    images, labels = torch.randn(40, 1, 8, 8, generator=random), torch.randint(3, (40,), generator=random)
    chain = Chain(nn.Flatten(), [], nn.Linear(64, 3))
    found = evaluate(chain, [(images, labels)], CLASSES, views=views, flip=flip)
    mean = torch.stack([*views_of(images, views, flip=flip)]).mean(0)
    expected = evaluate(chain, [(mean, labels)], CLASSES)
    assert (found.views, expected.views) == (views, 1)
    assert found.confusion == expected.confusion != evaluate(chain, [(images, labels)], CLASSES).confusion
    assert found.loss == pytest.approx(expected.loss, rel=1e-5)


def test_views_that_there_are_not_are_refused(capsys: pytest.CaptureFixture) -> None:
    assert cli.run(["evaluate", "nowhere", "--views", "0"]) == 2
    assert cli.run(["evaluate", "nowhere", "--flip", "yes"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert said == [
        "howdeep: views 0 is not allowed: it must be at least 1",
        "howdeep: --flip yes is not allowed without --views: images are seen as they are",
    ]
    with pytest.raises(UserError, match=r"views 11 is not allowed: 1 to 10"):
        evaluate(identity(), batches(torch.zeros(1, 3), torch.zeros(1, dtype=torch.int64), 1), CLASSES, views=11)
