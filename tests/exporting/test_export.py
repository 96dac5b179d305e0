"""Exported files: the network's own scores on real images in other programs, or no file at all."""

import errno
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch
from PIL import Image
from pyarrow import parquet
from tests.analysis.cases import TRACED, network
from tests.oracles import SMALL

from howdeep import cli
from howdeep.chain import Chain
from howdeep.convert import match, read_weights
from howdeep.data import Batch, Normalization
from howdeep.data.normalization import normalization_of
from howdeep.deploying import formats
from howdeep.exporting import export
from howdeep.exporting.export import Export, ExportError, Latency, compared, export_target
from howdeep.exporting.options import ExportOptions
from howdeep.networks import build
from howdeep.runs.target import Target
from howdeep.runtime.deployment import NEEDS
from howdeep.runtime.timing import FEWEST_RUNS
from howdeep.survival import Survival
from howdeep.util.errors import UserError
from howdeep.util.records import from_json, to_json

FOLDED = ("plain", "resnet A", "resnet B", "resnet bottleneck", "torchvision resnet18")
"""Networks whose every norm follows a convolution."""
FORMATS = {"onnx": "net.onnx", "torch": "net.pt2"}
WITH_ONNX = ("plain", "resnet B", "preresnet bottleneck", "densenet", "torchvision resnet18", "timm vit")
"""One network of every kind of unit; the others are written as .pt2, which takes less time."""
QUICK = ("plain", "densenet", "timm vit")
"""Without a shortcut, concatenated, added and traced; writing all of them takes half a minute."""
PUBLISHED = normalization_of((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Latencies are not what is tested, and threads that wait for each other are slow where other tests run beside."""
    monkeypatch.setattr(export, "SECONDS", 0.0)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@cache
def scores_of(name: str) -> int:
    return 10 if name in SMALL else 5


def target(name: str, chain: Chain | None = None, *, channels: int = 3, size: int = 32) -> Target:
    constants = Normalization(torch.full((channels, 1, 1), 0.4), torch.full((channels, 1, 1), 0.3))
    chain = chain or network(name)
    return Target(name, chain, None, scores_of(name), None, channels, (size, size), "crop", constants)


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], str]:
    """Return a maker of a folder of 50 images, of so many classes."""

    @cache
    def made(classes: int) -> str:
        root, stream = tmp_path_factory.mktemp("photos"), torch.Generator().manual_seed(classes)
        for number in range(50):
            place = root / "test" / f"class{number % classes}"
            place.mkdir(parents=True, exist_ok=True)
            pixels = torch.randint(256, (32, 32, 3), generator=stream, dtype=torch.uint8)
            Image.fromarray(pixels.numpy()).save(place / f"{number}.png")
        return str(root)

    return made


@pytest.fixture
def written(tmp_path: Path, photos: Callable[[int], str]) -> Callable[..., tuple[Export, Path]]:
    """Return a function that exports a network by its name."""

    def made(name: str, format: str = "onnx", chain: Chain | None = None, **more: object) -> tuple[Export, Path]:
        out = tmp_path / FORMATS[format]
        options = ExportOptions(out=out, data=photos(scores_of(name)), **more)  # type: ignore[arg-type]
        return export_target(target(name, chain), options)[0], out

    return made


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory, photos: Callable[[int], str]) -> Callable[..., tuple]:
    """Return a function that exports a network once; no test may change the file, which lies in a folder of its own."""

    @cache
    def made(name: str, format: str) -> tuple[Export, Path]:
        out = tmp_path_factory.mktemp("exported") / FORMATS[format]
        return export_target(target(name), ExportOptions(out=out, data=photos(scores_of(name))))[0], out

    return made


@pytest.fixture
def unwritten(shared, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plain network is not written again: only what then happens to the content of its file is tested."""
    for format in FORMATS:
        found, path = shared("plain", format)
        content = formats.Content(path.read_bytes(), found.opset, found.norms_left)
        kept = replace(formats.FORMATS[format], serialise=lambda *_, content=content: content)
        monkeypatch.setitem(formats.FORMATS, format, kept)


def session(path: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def opened(path: Path) -> tuple[Callable[[torch.Tensor], torch.Tensor], int]:
    """Return what a file computes, and how many norms it holds."""
    if path.suffix == ".onnx":
        read, norms = session(path), (node.op_type == "BatchNormalization" for node in onnx.load(path).graph.node)
        return lambda images: torch.from_numpy(read.run(None, {"images": images.numpy()})[0]), sum(norms)
    program = torch.export.load(path)
    return torch.no_grad()(program.module()), sum(
        node.target is torch.ops.aten.batch_norm.default for node in program.graph.nodes
    )


@pytest.mark.parametrize(
    "name",
    [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in (*SMALL, *TRACED)],
)
def test_every_network_gives_its_own_scores_whatever_the_batch(name: str, shared) -> None:
    """And norms behind a convolution are gone: a .pt2 shows that they were folded here, torch.onnx also would do it."""
    found, path = shared(name, "onnx" if name in WITH_ONNX else "torch")
    assert found.agreement.other_class == 0
    assert found.agreement.difference < 2e-6
    scores, norms = opened(path)
    for count in (1, 2, 7):
        images = torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(count))
        with torch.no_grad():
            expected = network(name)(images)
        assert (scores(images) - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert norms == found.norms_left
    if name in FOLDED:
        assert found.norms_left == 0
    assert sorted(entry.name for entry in path.parent.iterdir()) == [path.name]


def test_gates_are_those_of_evaluation(written) -> None:
    """Half of every branch of stochastic depth, which differs from all of it; both formats hold the same program."""
    chain = network("resnet C")
    chain.rule = Survival.parse("linear:0.5")
    _, path = written("resnet C", "torch", chain)
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected, open_wide = chain(images), chain(images, [1.0] * len(chain))
    assert (opened(path)[0](images) - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert (open_wide - expected).abs().max() > 1e-2 * expected.abs().max()


def test_public_weights_agree_on_real_photographs(weights: Path, cifar10: Path, tmp_path: Path) -> None:
    chain = build("cifar_resnet20")
    chain.load_state_dict(match(read_weights(weights / "resnet20-12fca82f.th"), chain).state)
    public = Target("cifar_resnet20", chain.eval(), None, 10, None, 3, (32, 32), "crop", PUBLISHED)
    (tmp_path / "data").mkdir()
    photographs = parquet.read_table(cifar10 / "test.parquet")
    parquet.write_table(photographs.slice(0, 300), tmp_path / "data" / "test.parquet")
    parquet.write_table(photographs.slice(300, 50), tmp_path / "data" / "train.parquet")
    found, record = export_target(public, ExportOptions(out=tmp_path / "net.onnx", data=str(tmp_path / "data")))
    assert (found.agreement.images, found.agreement.other_class, found.norms_left) == (256, 0, 0)
    assert found.agreement.batch_sizes == (1, 48, 16)
    assert not any("fewer" in note for note in found.notes)
    assert from_json(Export, json.loads(json.dumps(record))) == found


@pytest.mark.parametrize("format", FORMATS)
def test_the_file_says_how_its_images_are_prepared(format: str, shared) -> None:
    found, path = shared("plain", format)
    if format == "onnx":
        said = {key: json.loads(value) for key, value in session(path).get_modelmeta().custom_metadata_map.items()}
    else:
        extra = {formats.METADATA: ""}
        torch.export.load(path, extra_files=extra)
        said = json.loads(extra[formats.METADATA])
    assert said == found.metadata
    assert torch.equal(torch.tensor(said["mean"]), torch.full((3, 1, 1), 0.4))
    assert torch.equal(torch.tensor(said["std"]), torch.full((3, 1, 1), 0.3))
    assert (said["channels"], said["height"], said["width"], said["resize"]) == (3, 32, 32, "crop")
    assert said["classes"] == [f"class{number}" for number in range(10)]
    assert (said["target"], said["howdeep_version"]) == ("plain", export.version("howdeep"))


@pytest.mark.parametrize(("name", "format"), [("densenet", "onnx"), ("plain", "torch")])
def test_the_file_names_its_batch_and_no_place_of_this_machine(name: str, format: str, shared) -> None:
    _, path = shared(name, format)
    assert str(Path(export.__file__).parent).encode() not in path.read_bytes()
    assert b"site-packages" not in path.read_bytes()
    if format == "onnx":
        assert session(path).get_inputs()[0].shape == ["batch", 3, 32, 32]
        assert session(path).get_outputs()[0].shape == ["batch", 10]


def test_the_opset_is_the_one_that_was_asked_for(written, shared) -> None:
    found, path = written("plain", opset=23)
    assert found.opset == onnx.load(path).opset_import[0].version == 23 != shared("plain", "onnx")[0].opset


def test_fewer_images_than_asked_for_are_all_compared_and_the_record_says_so(shared) -> None:
    found, _ = shared("plain", "onnx")
    assert found.agreement.images == 50
    assert "compared on all 50 images of test, fewer than 256" in found.notes
    assert [row.batch for row in found.latency] == [1, 32]
    assert all(isinstance(row, Latency) and row.runs == FEWEST_RUNS for row in found.latency)
    assert from_json(Export, json.loads(json.dumps(to_json(found)))) == found


def corrupt(path: Path, content: bytes) -> None:
    """Write an ONNX file in which one weight of the last layer is another."""
    model = onnx.load_from_string(content)
    last = next(tensor for tensor in model.graph.initializer if "head" in tensor.name and len(tensor.dims) == 2)
    values = onnx.numpy_helper.to_array(last).copy()
    values[0] += 1.0
    last.CopyFrom(onnx.numpy_helper.from_array(values, last.name))
    path.write_bytes(model.SerializeToString())


@pytest.mark.usefixtures("unwritten")
def test_a_file_that_disagrees_is_refused_and_what_was_there_stays(
    written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "write_flushed", corrupt)
    (tmp_path / "net.onnx").write_text("precious")
    with pytest.raises(ExportError, match=r"another class on \d+ of 50 images, logits differ by up to .* allowed"):
        written("plain")
    assert [(entry.name, entry.read_text()) for entry in tmp_path.iterdir()] == [("net.onnx", "precious")]


@pytest.mark.usefixtures("unwritten")
@pytest.mark.parametrize("format", FORMATS)
def test_a_file_that_its_runtime_cannot_read_is_refused(
    format: str, written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "write_flushed", lambda path, content: path.write_bytes(content[: len(content) // 2]))
    with pytest.raises(ExportError, match=r"was not written: .* cannot run it"):
        written("plain", format)
    assert not any(tmp_path.iterdir())


def agreement(change: Callable[[torch.Tensor], torch.Tensor]) -> export.Agreement:
    """Compare scores with themselves, changed wherever a batch has more than one image or is the last."""
    batches = [Batch(torch.eye(4)[:3] * 2, torch.zeros(3), 3), Batch(torch.eye(4)[3:] * 2, torch.zeros(1), 1)]
    return compared(lambda x: x, change, batches)


def test_agreement_is_what_it_is_on_paper() -> None:
    assert agreement(lambda x: x) == export.Agreement(4, (1, 3), 0, 0.0, export.TOLERANCE)
    assert agreement(lambda x: x + 0.5).difference == 0.25
    assert agreement(lambda x: x.roll(1, 1)).other_class == 4
    only_in_batches = agreement(lambda x: x if len(x) == 1 else x.roll(1, 1))
    assert (only_in_batches.other_class, only_in_batches.difference) == (3, 1.0)
    only_alone = agreement(lambda x: x if len(x) > 1 else x.roll(1, 1))
    assert only_alone.other_class == 4


def test_scores_that_are_no_numbers_disagree() -> None:
    # In the place of the largest score, the class stays the same; and a batch without any follows.
    found = agreement(lambda x: torch.where(x > 1, torch.nan, x) if len(x) == 3 else x)
    assert found.other_class == 0
    with pytest.raises(ExportError, match="nan of the largest"):
        export._require(found, Path("net.onnx"))
    with pytest.raises(UserError, match="not finite"):
        compared(lambda x: x / 0, lambda x: x, [Batch(torch.ones(2, 2), torch.zeros(2), 2)])


@pytest.mark.usefixtures("unwritten")
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES])
def test_a_full_disk_is_one_line_and_leaves_nothing(
    code: int, written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path, content: bytes) -> None:
        path.write_bytes(content[:100])
        raise OSError(code, "no room")

    monkeypatch.setattr(export, "write_flushed", fail)
    with pytest.raises(OSError, match=r"net\.pt2 was not written: no room"):
        written("plain", "torch")
    assert not any(tmp_path.iterdir())


def test_an_int8_file_holds_integers_and_its_errors_are_those_of_who_runs_it(tmp_path: Path) -> None:
    """It may differ from the network, which is said and not refused."""
    chain, stream = network("resnet B"), torch.Generator().manual_seed(0)
    images = torch.randn(60, 3, 8, 8, generator=stream)
    with torch.no_grad():
        own = chain.eval()(images).argmax(1)
    labels = own.roll(1)  # some right and some wrong
    batches = [Batch(images[part], labels[part], 60) for part in (slice(0, 40), slice(40, 60))]
    found = export.export(chain, tmp_path / "net.onnx", batches, int8=batches[:1])
    assert found.int8 is not None
    assert (found.int8.calibration_images, found.agreement.tolerance) == (40, None)
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx")
    answers = torch.from_numpy(session.run(None, {"images": images.numpy()})[0]).argmax(1)
    assert found.int8.error_percent == 100 * float((answers != labels).double().mean())
    assert found.int8.original_error_percent == 100 * float((own != labels).double().mean())
    assert found.agreement.other_class == int((answers != own).sum())
    assert 0 < found.agreement.difference < 0.2
    model = onnx.load(tmp_path / "net.onnx")
    types = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    given = {node.output[0]: node.input[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    assert {types[given[node.input[1]]] for node in convolutions} == {onnx.TensorProto.INT8}
    assert json.loads(next(one.value for one in model.metadata_props if one.key == "height")) == 8
    assert found.finding.startswith(f"the int8 file gives the same class on {found.agreement.same_class_percent:.1f} %")
    assert found.table().title in found.finding
    assert from_json(Export, to_json(found)) == found


@pytest.mark.parametrize("library", NEEDS["onnxruntime"][1])
def test_a_missing_library_names_the_extra(library: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(UserError, match=rf"needs {library}: pip install 'howdeep\[export\]'"):
        ExportOptions(out=tmp_path / "net.onnx", data="digits")
    assert ExportOptions(out=tmp_path / "net.pt2", data="digits").chosen == "torch"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--out", "net.bin"], "must end in .onnx or .pt2"),
        (["--out", "net.onnx", "--format", "torch"], "must end in .pt2"),
        (["--out", "net.onnx", "--format", "tflite"], "onnx"),
        (["--out", "net.onnx", "--opset", "9"], "18 to 23"),
        (["--out", "net.pt2", "--opset", "20"], "only ONNX has it"),
        (["--out", "net.pt2", "--int8"], "int8 is not allowed for net.pt2: only ONNX has it"),
        (["--out", "net.onnx", "--limit", "255"], "at least 256"),
        (["--out", "nowhere/net.onnx"], "no folder nowhere"),
        (["--out", "."], "is a folder"),
        (["--out", "net.onnx", "--device", "cuda"], "cpu"),
        ([], "--out"),
    ],
)
def test_a_mistake_is_one_line_with_status_2(
    options: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.run(["export", "cifar_resnet20", "--data", "digits", *options]) == 2
    (complaint,) = capsys.readouterr().err.strip().splitlines()
    assert said in complaint
    assert not any(tmp_path.iterdir())


@pytest.fixture
def digits_weights(tmp_path: Path) -> list[str]:
    """The options that make a network of the catalogue a target for digits."""
    import safetensors.torch

    from howdeep.networks import spec_of

    chain = build(spec_of("cifar_resnet8", channels=1), seed=0)
    safetensors.torch.save_file(chain.state_dict(), tmp_path / "w.safetensors")
    return ["cifar_resnet8", "--weights", str(tmp_path / "w.safetensors"), "--mean", "0.3", "--std", "0.4"]


def test_the_command_writes_the_file_and_nothing_but_json_to_standard_output(
    digits_weights: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "net.pt2"
    command = ["export", *digits_weights, "--data", "digits", "--split", "train", "--out", str(out)]
    assert cli.run([*command, "--json", "-"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["record"] == "export"
    assert (record["agreement"]["images"], record["split"], record["bytes"]) == (256, "train", out.stat().st_size)
    before = out.read_bytes()
    assert cli.run(command) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert out.read_bytes() == before
    assert cli.run([*command, "--overwrite"]) == 0
    assert "the same class on all 256 images" in capsys.readouterr().out.replace("\n", " ")


def test_a_disagreement_is_status_1(
    digits_weights: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    other = replace(formats.FORMATS["torch"], load=lambda *_: lambda images: images.new_zeros(len(images), 10))
    monkeypatch.setitem(formats.FORMATS, "torch", other)
    out = tmp_path / "net.pt2"
    assert cli.run(["export", *digits_weights, "--data", "digits", "--out", str(out)]) == 1
    *_, complaint = capsys.readouterr().err.strip().splitlines()
    assert "disagrees" in complaint
    assert not out.exists()
