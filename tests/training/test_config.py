"""Options: what they put in place of the recipe's own, and which may differ when a run resumes."""

import json
from dataclasses import fields, replace

import pytest
from tests.oracles import in_turn

from howdeep.training.config import RESUMABLE, TrainConfig, difference
from howdeep.training.recipes import OneCycle, Steps, recipe_of
from howdeep.util.errors import UserError

CONFIG = TrainConfig(network="cifar_resnet8", data="digits")
OTHER: dict[str, object] = {
    "network": "cifar_resnet14",
    "data": "photos",
    "recipe": "he2015",
    "epochs": 3.0,
    "batch_size": 7,
    "lr": 0.3,
    "weight_decay": 0.1,
    "optimizer": "adamw",
    "layer_decay": 0.9,
    "clip": 2.0,
    "ema": 0.99,
    "norm_statistics": "frozen",
    "tune": "classifier",
    "freeze": 2,
    "keep": "best",
    "survival": "linear:0.5",
    "survival_mode": "sample",
    "dropped": "frozen",
    "block": "bottleneck",
    "shortcut": "B",
    "norm": False,
    "dropout": 0.1,
    "zero_init": False,
    "size": 16,
    "resize": "pad",
    "skip_broken": True,
    "limit": 9,
    "seed": 1,
    "device": "cuda",
    "precision": "bf16",
    "memory_format": "contiguous",
    "checkpointing": True,
    "compile": True,
    "workers": 0,
    "checkpoint_every": 5,
    "log": "tensorboard",
    "record": "flow",
    "threads": 1,
    "flip": "yes",
    "weights": "a.pth",
    "key": "ema",
    "pretrained": True,
    "from_run": "run",
    "classifier": "new",
    "mean": (0.5,),
    "std": (0.2,),
    "augmentation": "strong",
}


def test_there_is_another_value_for_every_option() -> None:
    assert OTHER.keys() == {field.name for field in fields(TrainConfig)}
    assert all(getattr(CONFIG, name) != value for name, value in OTHER.items())


@pytest.mark.parametrize("name", OTHER)
def test_an_option_that_changes_what_is_computed_must_be_the_same(name: str) -> None:
    found = difference(CONFIG.to_json(), replace(CONFIG, **{name: OTHER[name]}))
    if name in RESUMABLE:
        assert found is None
    else:
        before = getattr(CONFIG, name)
        option = "from" if name == "from_run" else name.replace("_", "-")
        assert found == f"--{option} was {before} and is now {OTHER[name]}"


def test_options_survive_a_round_trip_through_json() -> None:
    config = TrainConfig(**OTHER)  # type: ignore[arg-type]
    record = json.loads(json.dumps(config.to_json()))
    assert TrainConfig(**record) == config
    assert difference(record, config) is None


def test_without_options_the_recipe_is_its_own() -> None:
    for name in ("fast", "he2015", "densenet2016"):
        assert replace(CONFIG, recipe=name).resolved_recipe() == recipe_of(name)


def test_options_take_the_place_of_the_recipes_own() -> None:
    given = {"batch_size": 32, "weight_decay": 0.0, "survival": "uniform:0.9", "zero_init": False}
    found = replace(CONFIG, epochs=2.0, lr=0.05, **given).resolved_recipe()
    assert {name: getattr(found, name) for name in given} == given
    assert found.schedule == OneCycle(0.05, 0.25)
    assert (found.epochs, found.steps) == (2.0, None)


def test_epochs_take_the_place_of_steps_and_keep_the_drops_at_their_shares() -> None:
    found = replace(CONFIG, recipe="he2015", epochs=2.0).resolved_recipe()
    assert found.steps is None
    assert isinstance(found.schedule, Steps)
    assert [found.schedule.at(step, 100) for step in (0, 49, 50, 74, 75, 99)] == [0.1, 0.1, 0.01, 0.01, 0.001, 0.001]


@pytest.mark.parametrize(
    ("name", "value"),
    in_turn(["epochs", "batch_size", "lr", "size", "limit", "checkpoint_every"], [0, -1, float("nan"), float("inf")]),
)
def test_numbers_that_must_be_above_zero_are(name: str, value: float) -> None:
    with pytest.raises(UserError, match=rf"^{name.replace('_', '-')} {value} is not allowed: it must be above 0"):
        replace(CONFIG, **{name: value})


@pytest.mark.parametrize("name", ["weight_decay", "workers", "seed"])
@pytest.mark.parametrize("value", [-1, float("nan")])
def test_numbers_that_must_not_be_negative_are_not(name: str, value: float) -> None:
    with pytest.raises(UserError, match="must be at least 0"):
        replace(CONFIG, **{name: value})


@pytest.mark.parametrize("value", [-0.1, 1.0, float("nan")])
def test_dropout_is_a_probability_below_one(value: float) -> None:
    with pytest.raises(UserError, match=rf"dropout {value} is not allowed"):
        replace(CONFIG, dropout=value)


def test_another_kind_of_optimizer_needs_a_rate_of_its_own() -> None:
    with pytest.raises(UserError, match=r"--optimizer adamw needs --lr: the 0.2 of recipe fast is for sgd"):
        replace(CONFIG, optimizer="adamw").resolved_recipe()
    assert replace(CONFIG, optimizer="adamw", lr=1e-3).resolved_recipe().schedule.peak == 1e-3
    assert replace(CONFIG, recipe="finetune", optimizer="muon").resolved_recipe().optimizer == "muon"


def test_the_recipe_is_finetune_where_weights_are_given() -> None:
    for given in ({"weights": "net.pth"}, {"pretrained": True}, {"from_run": "run"}):
        assert TrainConfig(network="timm:resnet18", data="digits", **given).recipe == "finetune"  # type: ignore[arg-type]
    assert TrainConfig(network="timm:resnet18", data="digits", weights="net.pth", recipe="fast").recipe == "fast"
    assert CONFIG.recipe == "fast"


@pytest.mark.parametrize(
    ("option", "line"),
    [
        ({"layer_decay": 1.1}, "layer-decay 1.1 is not allowed: it must be above 0 and at most 1"),
        ({"ema": 1.0}, "ema 1.0 is not allowed: it must be at least 0 and below 1"),
        ({"clip": 0.0}, "clip 0.0 is not allowed: it must be above 0"),
        ({"freeze": -1}, "freeze -1 is not allowed: it must be auto, or at least 0"),
        ({"freeze": "all"}, "freeze all is not allowed: it must be auto, or at least 0"),
        ({"classifier": "nwe"}, "unknown classifier 'nwe'; did you mean new"),
        ({"norm_statistics": "frozn"}, "unknown norm-statistics 'frozn'; did you mean frozen"),
        ({"memory_format": "nhwc"}, "unknown memory-format 'nhwc'; known: auto, channels_last, contiguous"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused(option: dict, line: str) -> None:
    with pytest.raises(UserError, match=line):
        replace(CONFIG, **option)


def test_a_logger_that_is_not_installed_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("howdeep.training.config.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"^--log mlflow needs mlflow: pip install 'howdeep\[mlflow\]'$"):
        TrainConfig(network="cifar_resnet8", data="digits", log="mlflow")
