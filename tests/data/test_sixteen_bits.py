"""Images of 16 bits that use a part of their range keep its levels: scaled by one rule for the whole data set."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from howdeep.data import open_data
from howdeep.data.check import check
from howdeep.data.decoding import bits_of, decode
from howdeep.exporting.export import metadata_of
from howdeep.runs.options import TargetOptions
from howdeep.runs.target import fresh_target, open_data_for, read_images


def scans(root: Path, peaks: dict[str, int], each: int = 10) -> Path:
    """Ramps from 0 to a peak per class: 256 pixels, so 256 levels."""
    for name, peak in peaks.items():
        (root / name).mkdir(parents=True)
        for number in range(each):
            values = np.linspace(0, peak, 256).round().astype(np.uint16).reshape(16, 16)
            Image.fromarray(np.roll(values, number)).save(root / name / f"{number}.png")
    return root


@pytest.mark.parametrize(("peak", "bits"), [(255, 8), (1000, 10), (4095, 12), (4096, 14), (16383, 14), (65535, 16)])
def test_the_fewest_bits_that_hold_all_values_scale_all_images(tmp_path: Path, peak: int, bits: int) -> None:
    dataset = open_data(str(scans(tmp_path / "set", {"dim": peak // 2, "bright": peak})))
    top = 2**bits - 1
    for name, brightest in (("dim", peak // 2), ("bright", peak)):
        pixels = dataset.split("train").pixels(
            torch.nonzero(dataset.split("train").labels == dataset.classes.index(name)).flatten()[:1]
        )
        assert int(pixels.max()) == round(255 * brightest / top)
    assert dataset.bits == bits
    note = f"16-bit images: scaled as {bits} bits, their largest value is {peak:,}"
    assert (note in dataset.notes) == (bits < 16) == (note in check(str(tmp_path / "set")).notes)


def test_sixteen_bits_in_full_are_rounded_as_ever() -> None:
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, "PNG")
    assert np.array_equal(np.asarray(decode(stream, 1)), (values.astype(np.uint32) + 128) // 257)
    assert [bits_of(value) for value in (0, 255, 256, 1023, 1024, 65535)] == [8, 8, 10, 10, 12, 16]


def test_different_scans_of_few_bits_are_no_duplicates(tmp_path: Path) -> None:
    root = scans(tmp_path / "set", {"a": 4095, "b": 4000}, each=3)
    assert check(str(root)).duplicates == ()


def test_a_trained_network_keeps_the_scale_of_its_data(tmp_path: Path) -> None:
    """Other data that would choose another scale, and single images, are seen as the training images were."""
    data = str(scans(tmp_path / "old", {"a": 4095, "b": 2000}))
    target = fresh_target(TargetOptions(target="cifar_resnet8"), data, seed=0, skip_broken=False)
    assert target.bits == 12
    assert metadata_of(target, open_data(str(tmp_path / "old")))["bits"] == 12
    dim = scans(tmp_path / "new", {"a": 500, "b": 1000})
    seen = open_data_for(target, str(dim), skip_broken=False)
    train = seen.split("train")
    assert metadata_of(target, seen)["bits"] == 12
    assert int(train.pixels(torch.arange(len(train))).max()) == round(255 * 1000 / 4095)
    (alone,) = read_images([dim / "b" / "0.png"], target)
    assert isinstance(alone, torch.Tensor)
    assert int(alone.max()) == round(255 * 1000 / 4095)
    bright = scans(tmp_path / "bright", {"a": 500, "b": 60000})
    notes = open_data_for(target, str(bright), skip_broken=False).notes
    assert "16-bit images with values above 4,095, which are cut off: 10" in notes
    (refused,) = read_images([bright / "b" / "0.png"], target)
    assert refused == "unsupported: values of more than the 12 bits that the network was trained on"


def test_colour_of_sixteen_bits_says_how_many_levels_are_left(tmp_path: Path) -> None:
    pixels = (np.arange(16 * 16 * 3).reshape(16, 16, 3) * 5 % 4096).astype(">u2")
    for name in "ab":
        (tmp_path / "set" / name).mkdir(parents=True)
        for number in range(3):
            (tmp_path / "set" / name / f"{number}.png").write_bytes(png(pixels))
    assert "16-bit colour images: of their upper 8 bits, 16 levels are used" in open_data(str(tmp_path / "set")).notes


def png(pixels: np.ndarray) -> bytes:
    """Return 16-bit RGB as a PNG file, which Pillow cannot write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
