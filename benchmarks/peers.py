"""What a user would write without this package: the CIFAR network by hand, and a plain training script."""

import io
import time
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms


class BasicBlock(nn.Module):
    """Two convolutions and a shortcut, as most repositories write it."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.stride, self.grow = stride, out - channels

    def forward(self, x: Tensor) -> Tensor:
        identity = x
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        if self.grow:
            half = self.grow // 2
            identity = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, half, half))
        out += identity
        return self.relu(out)


class ResNet(nn.Module):
    """The 6n+2 network for CIFAR, zero padding where the shape changes."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU(inplace=True)
        blocks, channels = [], 16
        for out in (16, 32, 64):
            for position in range(n):
                blocks.append(BasicBlock(channels, out, 2 if position == 0 and out > 16 else 1))
                channels = out
        self.layers = nn.Sequential(*blocks)
        self.fc = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layers(self.relu(self.bn1(self.conv1(x))))
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


class Cifar(Dataset):
    """The decoded images in memory, as torchvision's own CIFAR-10 holds them."""

    def __init__(self, parquet: Path, transform: Callable[[Image.Image], Tensor]) -> None:
        import pyarrow.parquet as pq

        table = pq.read_table(parquet)
        encoded = [entry["bytes"] for entry in table.column(0).to_pylist()]
        self.images = [Image.open(io.BytesIO(data)).convert("RGB") for data in encoded]
        self.labels, self.transform = table.column(1).to_pylist(), transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.images[index]), self.labels[index]


class PlainScript:
    """torchvision's transforms, a DataLoader with two workers, SGD in fp32: the tutorial's loop."""

    def __init__(self, parquet: Path, batch_size: int) -> None:
        transform = transforms.Compose(
            [
                transforms.RandomCrop(32, padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
            ]
        )
        self.loader = DataLoader(Cifar(parquet, transform), batch_size, shuffle=True, num_workers=2)
        self.model = ResNet(3)
        self.optimizer = torch.optim.SGD(
            self.model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4
        )
        self.batches = iter(self.loader)

    def images_per_second(self, steps: int) -> float:
        """Train for some steps and return the rate."""
        images, started = 0, time.perf_counter()
        for _ in range(steps):
            pixels, labels = next(self.batches)
            self.optimizer.zero_grad()
            F.cross_entropy(self.model(pixels), labels).backward()
            self.optimizer.step()
            images += len(labels)
        return images / (time.perf_counter() - started)
