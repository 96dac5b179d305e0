"""Image classifiers of Hugging Face, from folders that ``save_pretrained`` wrote: as modules, and by name."""

import json
from pathlib import Path

import pytest
import torch
from tests.oracles import images

import howdeep
from howdeep import cli
from howdeep.convert import unravel
from howdeep.convert.libraries import library_network, published_as
from howdeep.util.errors import UserError

transformers = pytest.importorskip("transformers")
SIZES = {"hidden_sizes": [8, 16], "depths": [2, 2], "num_labels": 3}
CLASSES = {0: "cat", 1: "dog", 2: "owl"}
PREPARATION = {"do_center_crop": True, "size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 32}}
PREPARATION |= {"do_normalize": True, "image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.2, 0.1], "resample": 3}


def network(kind: str) -> torch.nn.Module:
    torch.manual_seed(0)
    names = {"id2label": CLASSES, "label2id": {name: place for place, name in CLASSES.items()}}
    if kind == "resnet":
        config = transformers.ResNetConfig(embedding_size=8, layer_type="basic", **SIZES, **names)
        return transformers.ResNetForImageClassification(config).eval()
    if kind == "convnext":
        config = transformers.ConvNextConfig(num_stages=2, drop_path_rate=0.2, **SIZES, **names)
        return transformers.ConvNextForImageClassification(config).eval()
    config = transformers.ViTConfig(
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=32,
        patch_size=8,
        **names,
    )
    return transformers.ViTForImageClassification(config).eval()


@pytest.fixture(params=["resnet", "convnext", "vit"])
def saved(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[torch.nn.Module, Path]:
    model, folder = network(request.param), tmp_path / request.param
    model.save_pretrained(folder)  # type: ignore[operator]
    (folder / "preprocessor_config.json").write_text(json.dumps(PREPARATION))
    return model, folder


def test_a_module_and_a_name_are_the_same_chain(saved: tuple[torch.nn.Module, Path]) -> None:
    model, folder = saved
    pixels = images(2, size=32)
    expected = model(pixels).logits
    for chain in (unravel(model, pixels), library_network(f"hf-model:{folder}", pretrained=True).chain()):
        assert torch.allclose(chain(pixels), expected, atol=1e-5)
        assert len(chain) >= 3


def test_what_the_folder_says_of_preparation_and_classes_is_taken(saved: tuple[torch.nn.Module, Path]) -> None:
    published = published_as(f"hf-model:{saved[1]}")
    assert (published.size, published.classes) == (32, 3)
    assert published.crop is not None
    assert (published.crop.share, published.crop.interpolation) == (0.8, "bicubic")
    assert (published.mean, published.std) == ((0.5, 0.4, 0.3), (0.2, 0.2, 0.1))
    names = published.names()
    assert names is not None
    assert names.order(("Owl", "cat")) == [2, 0]


def test_it_is_trained_on_other_classes_and_evaluated(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    network("convnext").save_pretrained(tmp_path / "net")  # type: ignore[operator]
    (tmp_path / "net" / "preprocessor_config.json").write_text(json.dumps(PREPARATION))
    run, name = str(tmp_path / "run"), f"hf-model:{tmp_path / 'net'}"
    options = ["--limit", "40", "--epochs", "1", "--device", "cpu", "--precision", "fp32", "--threads", "1"]
    assert cli.run(["train", name, "--pretrained", "--data", "digits", "--out", run, *options]) == 0
    assert "classifier: new, 10 classes" in capsys.readouterr().err
    assert cli.run(["evaluate", run, "--data", "digits"]) == 0
    assert len(howdeep.load(run)) == 4


def test_what_is_no_classifier_or_not_there_is_one_line(tmp_path: Path) -> None:
    transformers.BertConfig().save_pretrained(tmp_path / "bert")
    with pytest.raises(UserError, match="is not an image classifier of transformers: it is bert"):
        published_as(f"hf-model:{tmp_path / 'bert'}")
    with pytest.raises(UserError) as refused:
        published_as(f"hf-model:{tmp_path / 'nowhere'}")
    assert str(refused.value).startswith(f"hf-model:{tmp_path / 'nowhere'} could not be loaded: ")
    network("vit").save_pretrained(tmp_path / "vit")  # type: ignore[operator]
    with pytest.raises(UserError, match="its patches are of 8 pixels; 32 or 40 is"):
        published_as(f"hf-model:{tmp_path / 'vit'}", 33)
