"""Write the golden losses: the first 20 of cifar_resnet8 on the digits, in float32 on one thread."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from rich.console import Console

from howdeep.training import loop
from howdeep.training.config import TrainConfig

CONFIG = TrainConfig(
    network="cifar_resnet8",
    data="digits",
    limit=640,
    batch_size=64,
    epochs=2,
    survival="linear:0.5",
    device="cpu",
    precision="fp32",
    memory_format="contiguous",
)


def first_losses(out: Path) -> list[float]:
    """Return the loss of every step of the golden run, trained into a new folder."""
    losses, step = [], loop.train_step

    def listened(*given, **options):
        found = step(*given, **options)
        losses.append(found[0])
        return found

    loop.train_step = listened
    try:
        loop.train(CONFIG, out, console=Console(quiet=True))
    finally:
        loop.train_step = step
    return losses


if __name__ == "__main__":
    torch.set_num_threads(1)
    with TemporaryDirectory() as folder:
        found = first_losses(Path(folder) / "run")
    Path(__file__).with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n")
