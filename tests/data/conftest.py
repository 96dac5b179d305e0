"""Real images in every layout: scikit-learn's digits and its two photographs, written as files."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from sklearn.datasets import load_digits, load_sample_images

from howdeep.data import Dataset, open_data

WriteClasses = Callable[..., Path]


@pytest.fixture(scope="session")
def digit_images() -> tuple[list[Image.Image], list[int]]:
    """The digits as 8×8 pictures, and their labels."""
    values, labels = load_digits(return_X_y=True)
    pixels = (np.asarray(values).reshape(-1, 8, 8) * 15).astype(np.uint8)
    return [Image.fromarray(array) for array in pixels], [int(label) for label in labels]


@pytest.fixture(scope="session")
def photos() -> list[Image.Image]:
    """Two photographs of 640×427 pixels."""
    return [Image.fromarray(array) for array in load_sample_images().images]


@pytest.fixture
def write_classes(digit_images: tuple[list[Image.Image], list[int]]) -> WriteClasses:
    """Write `each` digits of every class into folder/class/, PNG unless told otherwise."""

    def write(folder: Path, classes: str = "012", each: int = 10, skip: int = 0, suffix: str = ".png") -> Path:
        images, labels = digit_images
        for name in classes:
            (folder / name).mkdir(parents=True)
            rows = [row for row, label in enumerate(labels) if label == int(name)][skip : skip + each]
            for row in rows:
                images[row].save(folder / name / f"{row:04}{suffix}")
        return folder

    return write


def write_photos(root: Path, photos: list[Image.Image]) -> Path:
    """Twelve crops of different sizes from each of two photographs: large images in two classes."""
    for label, photo in zip(("temple", "flower"), photos, strict=True):
        (root / label).mkdir(parents=True)
        for part in range(12):
            crop = photo.crop((20 * part, 10 * part, 20 * part + 300, 10 * part + 200 + part))
            crop.save(root / label / f"{part:02}.jpg")
    return root


@pytest.fixture
def photo_folder(tmp_path: Path, photos: list[Image.Image]) -> Path:
    """A folder of them that a test may change."""
    return write_photos(tmp_path / "photos", photos)


@pytest.fixture
def write_parquet(write_classes: WriteClasses, tmp_path: Path) -> Callable[..., Path]:
    """Write digits as a Parquet file in the Hugging Face image layout."""

    def write(path: Path, metadata: bytes | None = None, labels: pa.DataType | None = None, **which) -> Path:
        place = "-".join(path.relative_to(tmp_path).with_suffix("").parts)
        folder = write_classes(tmp_path / f"pngs-{place}", **which)
        files = sorted(folder.glob("*/*.png"))
        images = pa.array([{"bytes": file.read_bytes(), "path": file.name} for file in files])
        column = pa.array([int(file.parent.name) for file in files]).cast(labels or pa.int64())
        table = pa.table({"image": images, "label": column})
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table.replace_schema_metadata({"huggingface": metadata} if metadata else None), path)
        return path

    return write


@pytest.fixture(scope="session")
def digits() -> Dataset:
    return open_data("digits")


@pytest.fixture(scope="session")
def cifar_files(cifar10: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first 2,000 training and 500 test images of CIFAR-10: to decode all 60,000 takes ten seconds."""
    folder = tmp_path_factory.mktemp("cifar")
    for split, count in (("train", 2000), ("test", 500)):
        file = pq.ParquetFile(cifar10 / f"{split}.parquet")
        first = pa.Table.from_batches([next(file.iter_batches(count))], file.schema_arrow)
        pq.write_table(first, folder / f"{split}.parquet")
    return folder


@pytest.fixture(scope="session")
def cifar(cifar_files: Path) -> Dataset:
    return open_data(cifar_files)
