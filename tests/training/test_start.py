"""Where a run begins: networks of libraries, given weights, other runs; what does not fit is one line and no run."""

import json
import re
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tests.conftest import SHARED
from timm.data.imagenet_info import ImageNetInfo
from torch import Tensor

from howdeep import build, cli, spec_of
from howdeep.convert.libraries import library_network, timm_names
from howdeep.runs import checkpoints
from howdeep.runs.folder import RECORD, open_run
from howdeep.training import loop
from howdeep.training.config import TrainConfig
from howdeep.training.images import open_training_data
from howdeep.training.start import Initial, start_of

NETWORK = "timm:test_resnet"
OPTIONS = ["--epochs", "1", "--limit", "60", "--batch-size", "16", "--precision", "fp32", "--threads", "1"]
LITE0 = SHARED / "weights" / "timm" / "tf_efficientnet_lite0.safetensors"
SIGN = SHARED / "data" / "sign"


def train(network: str, out: Path, *more: object) -> int:
    data = [] if "--data" in more else ["--data", "digits"]
    fixed = ["--device", "cpu", "--memory-format", "contiguous", *OPTIONS]
    return cli.run(["train", network, *data, "--out", str(out), *fixed, *map(str, more)])


def initial(network: str, **options) -> Initial:
    """Return the network that a run would begin with."""
    config = TrainConfig(network=network, **{"data": "digits", "limit": 60, **options})
    start = start_of(config, print)
    dataset = open_training_data(config, start.known, None, start.prepared)
    return start.network(dataset, config.resolved_recipe())


def record_of(run: Path) -> dict:
    return json.loads((run / RECORD).read_bytes())


def last_weights(run: Path) -> dict[str, Tensor]:
    saved = checkpoints.newest(run / "checkpoints", print)
    assert saved is not None
    return saved.tensors("weights")


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def photos(root: Path, names: tuple[str, ...], *, gray: bool = False) -> Path:
    """Write a folder of 12 images of 40×30 pixels per class, as bright as the class is late."""
    random = np.random.default_rng(0)
    for place, name in enumerate(names):
        (root / name).mkdir(parents=True)
        for number in range(12):
            noise = random.integers(0, 60, (30, 40) if gray else (30, 40, 3)) + 60 * place
            Image.fromarray(noise.astype(np.uint8)).save(root / name / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of a small network's weights for 1,000 classes."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "a.safetensors"
    save_file(timm.create_model("test_resnet").state_dict(), path)
    return path


@pytest.fixture(scope="module")
def begun(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run that began with them."""
    out = tmp_path_factory.mktemp("begun") / "run"
    assert train(NETWORK, out, "--weights", weights, "--size", 32) == 0
    return out


def test_a_run_with_given_weights_says_what_was_kept_and_how_its_images_are_prepared(begun: Path) -> None:
    record = record_of(begun)
    assert record["network"] == {"library": NETWORK, "classes": 10, "size": 32}
    assert record["start"]["reset"] == ["head.fc.weight", "head.fc.bias"]
    assert record["data"]["channels"] == 3  # the digits are gray
    assert record["data"]["crop"] == {"share": 0.95, "interpolation": "bilinear"}
    assert record["normalization"]["mean"] == record["normalization"]["std"] == [[[0.5]]] * 3
    assert open_run(begun).chain()(torch.zeros(1, 3, 32, 32)).shape == (1, 10)


def test_it_begins_with_the_weights_of_the_file(weights: Path) -> None:
    given = library_network(NETWORK, weights=weights, size=32).chain().state_dict()
    found = initial(NETWORK, weights=str(weights), size=32)
    for name, tensor in found.chain.state_dict().items():
        assert torch.equal(tensor, given[name]) or name in ("head.fc.weight", "head.fc.bias"), name


def interrupted(monkeypatch: pytest.MonkeyPatch, network: str, out: Path, steps: int, *more: object) -> None:
    """Train, and stop before another step."""
    step, left = loop.train_step, iter(range(steps))

    def counting(*arguments, **options) -> object:
        if next(left, None) is None:
            signal.raise_signal(signal.SIGINT)
        return step(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_step", counting)
        assert train(network, out, *more) == 128 + signal.SIGINT


def test_it_resumes_to_the_bit(begun: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = ("--weights", weights, "--size", 32)
    interrupted(monkeypatch, NETWORK, tmp_path / "run", 2, *given)
    assert train(NETWORK, tmp_path / "run", *given) == 0
    assert equal(last_weights(tmp_path / "run"), last_weights(begun))


def test_what_was_killed_before_anything_was_saved_begins_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(build(spec_of("cifar_resnet8", classes=7)).state_dict(), tmp_path / "a.pth")
    given = ("--weights", tmp_path / "a.pth", "--limit", 40)
    assert train("cifar_resnet8", tmp_path / "whole", *given) == 0
    interrupted(monkeypatch, "cifar_resnet8", tmp_path / "run", 2, *given)
    for name in ("checkpoints", "best"):
        shutil.rmtree(tmp_path / "run" / name)
    assert train("cifar_resnet8", tmp_path / "run", *given) == 0
    assert equal(last_weights(tmp_path / "run"), last_weights(tmp_path / "whole"))


def test_a_library_network_from_scratch_is_drawn_by_the_seed_and_reads_images_as_the_data_say() -> None:
    one, same, other = (initial(NETWORK, size=32, survival="linear:0.5", seed=seed) for seed in (1, 1, 2))
    assert equal(one.chain.state_dict(), same.chain.state_dict())
    assert not equal(one.chain.state_dict(), other.chain.state_dict())
    assert one.record is None
    assert not torch.allclose(one.normalization.mean, torch.tensor(0.5))
    images, chain = torch.rand(2, 3, 32, 32), one.chain.eval()
    assert torch.equal(chain(images), chain(images, [0.875, 0.75, 0.625, 0.5]))  # its gates are the rule's


def test_a_run_begins_with_another_and_keeps_what_it_may_not_look_at(begun: Path, tmp_path: Path) -> None:
    assert train(NETWORK, tmp_path / "run", "--from", begun) == 0
    before, after = open_run(begun).images(), open_run(tmp_path / "run").images()
    assert before is not None
    assert after is not None
    held_out = {int(one) for one in after.digests[(after.splits == 1) | (after.splits == 2)]}
    trained = {int(one) for one in before.digests[before.splits == 0]}
    assert not held_out & trained
    assert record_of(tmp_path / "run")["start"]["lines"] == ["classifier: kept, all classes are known by name"]


def test_classes_in_another_order_keep_their_rows_of_the_classifier(tmp_path: Path) -> None:
    data = photos(tmp_path / "data", ("ant", "bee", "cat"))
    assert train("cifar_resnet8", tmp_path / "one", "--data", data, "--size", 32, "--limit", 20) == 0
    options = {"data": str(data), "size": 32, "limit": 20, "from_run": str(tmp_path / "one")}
    whole = open_run(tmp_path / "one").chain().get_parameter("head.linear.weight")
    (data / "ant").rename(data / "zebra")
    new = initial("cifar_resnet8", **options, classifier="new").chain.get_parameter("head.linear.weight")
    (data / "zebra").rename(data / "ant")
    (data / "bee").rename(tmp_path / "bee")
    fewer = initial("cifar_resnet8", **options).chain.get_parameter("head.linear.weight")
    assert whole.shape == new.shape
    assert not torch.allclose(whole, new)
    assert torch.equal(fewer, whole[[0, 2]])


def test_a_network_of_gray_images_learns_to_read_colours(tmp_path: Path) -> None:
    few = ("--size", 32, "--limit", 20, "--lr", 1e-12)
    gray = photos(tmp_path / "gray", ("ant", "bee"), gray=True)
    assert train("cifar_resnet8", tmp_path / "one", "--data", gray, *few) == 0
    colour = photos(tmp_path / "colour", ("ant", "bee"))
    assert train("cifar_resnet8", tmp_path / "two", "--data", colour, *few, "--from", tmp_path / "one") == 0
    before, after = (last_weights(tmp_path / out)["stem.conv.weight"] for out in ("one", "two"))
    torch.testing.assert_close(after, before.repeat(1, 3, 1, 1) / 3, rtol=0, atol=1e-6)
    assert open_run(tmp_path / "two").chain()(torch.zeros(1, 3, 32, 32)).shape == (1, 2)
    assert cli.run(["evaluate", str(tmp_path / "two"), "--data", str(colour), "--device", "cpu"]) == 0


def test_weights_of_a_catalogue_network_and_own_constants(tmp_path: Path) -> None:
    torch.save(build(spec_of("cifar_resnet8", classes=7)).state_dict(), tmp_path / "a.pth")
    found = initial("cifar_resnet8", weights=str(tmp_path / "a.pth"), mean=(0.1, 0.2, 0.3), std=(1.0, 2.0, 3.0))
    assert found.network["classes"] == 10
    assert found.chain(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    assert torch.allclose(found.normalization.std.flatten(), torch.tensor([1.0, 2.0, 3.0]))


def test_folders_named_by_wordnet_id_are_the_classes_of_published_weights(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    info = ImageNetInfo("imagenet-1k")
    data = photos(tmp_path / "data", (info.label_names()[5], info.label_names()[2]))
    target = [NETWORK, "--weights", str(weights), "--size", "32", "--device", "cpu"]
    told = ["evaluate", *target, "--data", str(data), "--split", "train", "--json", str(tmp_path / "a.json")]
    assert cli.run(told) == 0
    found = json.loads((tmp_path / "a.json").read_text())
    assert {one["name"] for one in found["classes"] if one["n"]} == {"electric ray", "great white shark"}
    assert cli.run(["predict", *target, str(next(data.glob("*/*.png")))]) == 0
    printed = capsys.readouterr().out
    assert any(name in printed for name in timm_names("imagenet-1k").shown)
    kept = initial(NETWORK, weights=str(weights), data=str(data), size=32, limit=20).chain.state_dict()
    assert torch.equal(kept["head.fc.weight"], load_file(weights)["fc.weight"][[2, 5]])


def test_imported_weights_of_a_library_are_a_run_that_knows_its_classes(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "run"
    assert cli.run(["import", str(weights), "--network", NETWORK, "--out", str(out), "--size", "32"]) == 0
    assert "images are prepared as for its published weights: 32×32 pixels" in capsys.readouterr().err
    data = photos(tmp_path / "data", ("tench", "goldfish"))
    assert cli.run(["evaluate", str(out), "--data", str(data), "--split", "train", "--device", "cpu"]) == 0
    found = initial(NETWORK, from_run=str(out), data=str(data), limit=20)
    assert found.lines == ("classifier: kept, 2 of 1,000 classes are known by name",)


@pytest.mark.slow
def test_a_network_of_a_library_that_closed_branches_in_training_is_cut_and_trained_on(tmp_path: Path) -> None:
    few = ("--size", 32, "--survival", "linear:0.5", "--limit", 20)
    assert train(NETWORK, tmp_path / "run", *few) == 0
    cut = ["cut", str(tmp_path / "run"), "--data", "digits", "--remove", "2", "--device", "cpu"]
    assert cli.run([*cut, "--statistics-images", "20", "--limit", "20", "--out", str(tmp_path / "cut")]) == 0
    whole, smaller = (open_run(tmp_path / name).chain() for name in ("run", "cut"))
    assert len(whole) == 4
    assert [unit.branch.factor for unit in smaller.units] == [0.875, 0.625, 0.5]
    again = initial(NETWORK, from_run=str(tmp_path / "cut"))
    assert len(again.chain) == 3
    assert again.cut["removed"] == [1]


@pytest.mark.parametrize(
    ("network", "options", "complaint"),
    [
        ("timm:resnet10t", "--weights WEIGHTS", "does not hold timm:resnet10t"),
        ("cifar_resnet8", "--weights WEIGHTS", "the depth does not fit"),
        ("timm:test_resnett", "", "did you mean test_resnet"),
        ("timm:test_vit", "--size 100", "its patches are of 16 pixels; 96 or 112 is"),
        ("torchvision:vit_b_16", "--size 100", "its patches are of 16 pixels; 96 or 112 is"),
        (NETWORK, "--weights WEIGHTS --pretrained", "--weights is not allowed with --pretrained"),
        (NETWORK, "--pretrained --from RUN", "--pretrained is not allowed with --from"),
        (NETWORK, "--from nowhere", "nowhere is not a run folder"),
        ("timm:resnet10t", "--from RUN", "it holds timm:test_resnet"),
        (NETWORK, "--key ema", "--key ema is not allowed without --weights"),
        (NETWORK, "--classifier keep", "--classifier keep is not allowed without given weights"),
        (NETWORK, "--tune classifier", "--tune classifier is not allowed without given weights"),
        (NETWORK, "--freeze 1", "--freeze 1 is not allowed without given weights"),
        ("cifar_resnet8", "--weights TEN --freeze 5", "--freeze 5 is not allowed: cifar_resnet8 has 3 units"),
        ("cifar_resnet8", "--weights TEN --classifier keep --tune classifier", "not allowed: it is kept"),
        (NETWORK, "--weights WEIGHTS --classifier keep", "--classifier keep is not allowed: .* has 10 classes"),
        (NETWORK, "--block basic", "--block basic is not allowed for timm:test_resnet"),
        (NETWORK, "--weights WEIGHTS --no-norm", "--norm False is not allowed"),
        (NETWORK, "--from RUN --limit 7", "fewer than its 10 classes"),
        (NETWORK, "--mean 0.5 0.5 --std 1 1", r"--mean \(0.5, 0.5\) is not allowed: the images have 3 channels"),
        (NETWORK, "--mean 0.5", "give both"),
        ("cifar_resnet8", "--pretrained", "--pretrained is not allowed for cifar_resnet8"),
        ("cifar_resnet8", "--weights MANY", "reads images of 13 channels: images here have 1 or 3"),
    ],
)
def test_what_does_not_fit_is_one_line_and_nothing_is_written(
    network: str,
    options: str,
    complaint: str,
    weights: Path,
    begun: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
) -> None:
    places = {"WEIGHTS": weights, "RUN": begun, "MANY": tmp_path / "many.pth", "TEN": tmp_path / "ten.pth"}
    for name, channels in (("MANY", 13), ("TEN", 3)):
        if name in options:
            torch.save(build(spec_of("cifar_resnet8", channels=channels)).state_dict(), places[name])
    assert train(network, tmp_path / "out", *(places.get(word, word) for word in options.split())) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("howdeep: ")
    assert re.search(complaint, line), line
    assert not (tmp_path / "out" / RECORD).exists()


def test_published_weights_and_photos_of_ten_classes() -> None:
    if not LITE0.exists() or not SIGN.exists():
        pytest.skip("published weights or photos are absent: ../shared/weights/timm, ../shared/data/sign")
    found = initial("timm:tf_efficientnet_lite0", weights=str(LITE0), data=str(SIGN), size=32)
    assert found.record is not None
    assert found.record["reset"] == ["head.classifier.weight", "head.classifier.bias"]
    assert torch.equal(found.normalization.mean, torch.full((3, 1, 1), 0.5))
    assert found.chain(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
