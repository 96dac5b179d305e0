"""A chain as a module of images alone: it draws its own gates, and training code of others takes it as any module."""

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from tests.training.test_chains import Fickle, bars, chain_of
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import howdeep
from howdeep.chain import Chain
from howdeep.survival import Survival
from howdeep.util.errors import UserError

LINEAR = Survival.parse("linear:0.5")


def chain(rule: Survival = LINEAR) -> Chain:
    return howdeep.build(howdeep.spec_of("cifar_resnet20", classes=3, channels=1), rule, seed=0)


def drawn(module: Any, passes: int) -> list[list[float]]:
    """Return the gates of some passes in training mode."""
    found, owner = [], module.chain
    forward = type(owner).forward

    def listened(images: Tensor, gates: Any = None) -> Tensor:
        found.append([float(gate) for gate in gates])
        return forward(owner, images, gates)

    owner.forward = listened
    try:
        for _ in range(passes):
            module.train()(torch.zeros(2, 1, 8, 8))
    finally:
        del owner.forward
    return found


def test_it_draws_the_gates_of_its_rule_by_seed_and_pass() -> None:
    expected = [LINEAR.draw(9, seed=7, step=step) for step in range(5)]
    assert drawn(chain().to_module(seed=7), 5) == expected
    assert len({tuple(gates) for gates in expected}) > 1


def test_in_evaluation_it_is_the_chain_and_counts_nothing() -> None:
    owner, (images, _) = chain().eval(), bars(4)
    module = owner.to_module()
    assert module.training
    module.eval()
    assert torch.equal(module(images), owner(images))
    assert int(module.get_buffer("passes")) == 0
    assert not owner.training


def test_its_weights_are_the_chains() -> None:
    owner = chain()
    module = owner.to_module().train()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    before = {name: tensor.clone() for name, tensor in owner.state_dict().items()}
    F.cross_entropy(module(bars(8)[0]), bars(8)[1]).backward()
    optimizer.step()
    assert set(module.parameters()) == set(owner.parameters())
    assert any(not torch.equal(before[name], tensor) for name, tensor in owner.state_dict().items())


def test_a_rule_per_sample_draws_for_the_images_that_come() -> None:
    module = chain(Survival.parse("uniform:0.5", "sample")).to_module().train()
    assert [module(bars(count)[0]).shape for count in (5, 8)] == [(5, 3), (8, 3)]


def test_without_a_random_rule_nothing_is_drawn() -> None:
    for module in (chain(Survival()).to_module(), chain_of().to_module()):
        module.train()(bars(4)[0])
        assert int(module.get_buffer("passes")) == 0


@pytest.mark.parametrize("how", ["copy", "pickle", "state"])
def test_a_copy_a_pickle_and_a_state_go_on_where_it_is(how: str) -> None:
    module = chain().to_module(seed=3)
    drawn(module, 4)
    if how == "copy":
        again = copy.deepcopy(module)
    elif how == "pickle":
        again = pickle.loads(pickle.dumps(module))
    else:
        again = chain().to_module(seed=3)
        again.load_state_dict(module.state_dict())
    assert drawn(again, 3) == [LINEAR.draw(9, seed=3, step=step) for step in (4, 5, 6)]
    images, _ = bars(4)
    drawn(module, 3)
    assert torch.equal(again.eval()(images), module.eval()(images))


def test_a_network_that_cannot_be_trained_as_a_chain_cannot_be_trained_as_a_module_either() -> None:
    chain = howdeep.unravel(Fickle(), torch.zeros(2, 1, 8, 8))
    with pytest.raises(UserError, match="Fickle cannot be trained as a chain"):
        chain.to_module()


# --- training code of others: the same small task, learned


others = pytest.mark.filterwarnings("default")
"""What other libraries warn of is not ours."""


def module_and_data() -> tuple[Any, TensorDataset]:
    owner = chain_of()
    owner.rule = LINEAR
    return owner.to_module(), TensorDataset(*bars(96))


def error(module: nn.Module) -> float:
    images, labels = bars(48, seed=1)
    with torch.no_grad():
        return float((module.eval().cpu()(images).argmax(1) != labels).float().mean())


@others
def test_lightning_trains_it(tmp_path: Path) -> None:
    lightning = pytest.importorskip("lightning")
    module, data = module_and_data()

    class Task(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network = module

        def training_step(self, batch, _: int) -> Tensor:
            images, labels = batch
            return F.cross_entropy(self.network(images), labels)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW(self.parameters(), lr=0.02)

    trainer = lightning.Trainer(
        max_epochs=8,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        default_root_dir=tmp_path,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Task(), DataLoader(data, 16, shuffle=True, generator=torch.Generator().manual_seed(0)))
    assert int(module.get_buffer("passes")) == 48
    assert error(module) < 0.3


@others
def test_accelerate_trains_it() -> None:
    accelerate = pytest.importorskip("accelerate")
    module, data = module_and_data()
    accelerator = accelerate.Accelerator(cpu=True)
    loader = DataLoader(data, 16, shuffle=True, generator=torch.Generator().manual_seed(0))
    network, optimizer, loader = accelerator.prepare(module, torch.optim.AdamW(module.parameters(), lr=0.02), loader)
    for _ in range(8):
        for images, labels in loader:
            optimizer.zero_grad()
            accelerator.backward(F.cross_entropy(network.train()(images), labels))
            optimizer.step()
    assert error(accelerator.unwrap_model(network)) < 0.3


@others
def test_the_trainer_of_hugging_face_trains_it(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    module, data = module_and_data()
    arguments = transformers.TrainingArguments(
        str(tmp_path),
        num_train_epochs=8,
        per_device_train_batch_size=16,
        learning_rate=0.02,
        use_cpu=True,
        seed=0,
        remove_unused_columns=False,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
        logging_strategy="no",
    )
    trainer = transformers.Trainer(
        module,
        arguments,
        train_dataset=data,
        data_collator=lambda rows: {
            "images": torch.stack([image for image, _ in rows]),
            "labels": torch.stack([label for _, label in rows]),
        },
        compute_loss_func=lambda logits, labels, **_: F.cross_entropy(logits, labels),
    )
    trainer.train()
    assert error(module) < 0.3


@others
def test_skorch_trains_it() -> None:
    skorch = pytest.importorskip("skorch")
    module, _ = module_and_data()
    images, labels = bars(96)
    torch.manual_seed(0)
    network = skorch.NeuralNetClassifier(
        module,
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.AdamW,
        lr=0.02,
        max_epochs=8,
        batch_size=16,
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
    )
    network.fit(images.numpy(), labels.numpy())
    assert (network.predict(bars(48, seed=1)[0].numpy()) != bars(48, seed=1)[1].numpy()).mean() < 0.3


def test_what_was_trained_elsewhere_is_measured_here() -> None:
    module, data = module_and_data()
    found = howdeep.evaluate(module.chain, data)
    assert found.error_percent == pytest.approx(
        100 * float((module.eval()(data.tensors[0]).argmax(1) != data.tensors[1]).float().mean())
    )
    assert howdeep.train(module.chain, data, epochs=1, console=Console(quiet=True)).chain is module.chain
