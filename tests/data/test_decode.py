import io
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tests.oracles import in_turn

from howdeep.data.decoding import BadImage, Header, decode, open_image, quiet_pillow, read_header
from howdeep.data.view import RESIZE, View, choose_view, default_shape

Encode = Callable[..., io.BytesIO]


@pytest.fixture
def encode() -> Encode:
    def save(image: Image.Image, kind: str = "PNG", **options) -> io.BytesIO:
        stream = io.BytesIO()
        image.save(stream, kind, **options)
        return stream

    return save


@pytest.fixture
def photo(photos: list[Image.Image]) -> Image.Image:
    return photos[1].resize((64, 40))


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM"])
def test_lossless_colour_comes_back_bit_for_bit(photo: Image.Image, encode: Encode, kind: str) -> None:
    assert np.array_equal(np.asarray(decode(encode(photo, kind), 3)), np.asarray(photo))


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "RGB"])
def test_every_opaque_mode_comes_as_pillow_converts_it(photo: Image.Image, encode: Encode, mode: str) -> None:
    stored = photo.convert(mode)
    kind = "TIFF" if mode in ("CMYK", "YCbCr") else "PNG"
    for channels, target in ((1, "L"), (3, "RGB")):
        decoded = decode(encode(stored, kind), channels)
        assert decoded.mode == target
        assert np.array_equal(np.asarray(decoded), np.asarray(stored.convert(target)))


def test_transparency_is_composited_on_white(photo: Image.Image, encode: Encode) -> None:
    clear = photo.convert("RGBA")
    clear.putalpha(Image.new("L", photo.size, 0))
    half = photo.convert("RGBA")
    half.putalpha(Image.new("L", photo.size, 128))
    assert np.asarray(decode(encode(clear), 3)).min() == 255
    expected = 255 + (np.asarray(photo).astype(float) - 255) * 128 / 255
    assert np.abs(np.asarray(decode(encode(half), 3)) - expected).max() <= 1


def test_transparent_gray_and_palette_are_composited_too(photo: Image.Image, encode: Encode) -> None:
    gray = Image.merge("LA", (photo.convert("L"), Image.new("L", photo.size, 0)))
    assert np.asarray(decode(encode(gray), 1)).min() == 255
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 200, 0, 0])
    palette.putpixel((1, 0), 1)
    decoded = decode(encode(palette, transparency=0), 3)
    assert [decoded.getpixel((x, 0)) for x in (0, 1)] == [(255, 255, 255), (200, 0, 0)]


def test_sixteen_bits_are_scaled_to_eight(encode: Encode) -> None:
    values = np.array([[0, 128, 129, 257, 32768, 65535]], dtype=np.uint16)
    decoded = decode(encode(Image.fromarray(values)), 1)
    assert np.asarray(decoded).tolist() == [[0, 0, 1, 1, 128, 255]]
    assert decode(encode(Image.fromarray(values)), 3).mode == "RGB"


@pytest.mark.parametrize("mode", ["I", "F", "LAB"])
def test_modes_without_a_declared_range_are_refused_by_name(encode: Encode, mode: str) -> None:
    with pytest.raises(BadImage, match=f"unsupported: mode {mode} has no conversion"):
        decode(encode(Image.new(mode, (8, 8)), "TIFF"), 3)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_to_pixels_and_header(photo, encode: Encode, orientation: int) -> None:
    undo = {
        2: 0,
        3: 3,
        4: 1,
        5: 5,
        6: 2,
        7: 6,
        8: 4,
    }  # the transposition that stores an upright image that way
    stored = photo.transpose(Image.Transpose(undo[orientation])) if orientation > 1 else photo
    exif = Image.Exif()
    exif[0x0112] = orientation
    stream = encode(stored, "PNG", exif=exif)
    assert np.array_equal(np.asarray(decode(stream, 3)), np.asarray(photo))
    header = read_header(encode(stored, "JPEG", exif=exif))
    assert (header.width, header.height) == photo.size


def test_broken_orientation_does_not_matter(photo: Image.Image, encode: Encode) -> None:
    stream = encode(photo, "JPEG", exif=b"Exif\0\0garbage that is no directory")
    with quiet_pillow():
        assert decode(stream, 3).size == photo.size
        assert read_header(stream).width == photo.width


@pytest.mark.parametrize(
    ("kind", "share"),
    in_turn(["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG", "PNG"], [0.3, 0.6, 0.9, 0.6]),
)
def test_truncated_files_are_found_without_being_used(photo, encode: Encode, kind: str, share: float) -> None:
    content = encode(photo, kind).getvalue()
    stream = io.BytesIO(content[: int(share * len(content))])
    with quiet_pillow(), pytest.raises(BadImage):
        read_header(stream)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_bytes_behind_the_end_are_harmless(photo: Image.Image, encode: Encode, kind: str) -> None:
    stream = io.BytesIO(encode(photo, kind).getvalue() + b"trailing")
    assert read_header(stream).mode == "RGB"


def test_a_file_cannot_start_another_program(encode: Encode) -> None:
    postscript = io.BytesIO(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n")
    with pytest.raises(BadImage, match="not an image"):
        open_image(postscript)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_damaged_bytes_give_an_image_or_a_named_refusal(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM"]))
    stream = io.BytesIO()
    Image.linear_gradient("L").resize((16, 16)).convert("RGB").save(stream, kind)
    content = bytearray(stream.getvalue())
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with quiet_pillow():
        try:
            seen = View(3, 16, 16, "crop").read(io.BytesIO(content))
        except BadImage:
            return
    assert seen.shape == (3, 16, 16)


def test_policies_crop_pad_and_squash(photo: Image.Image) -> None:
    wide = Image.new("RGB", (60, 20), "black")
    wide.paste("red", (20, 0, 40, 20))
    seen = {policy: View(3, 20, 20, policy).render(wide) for policy in RESIZE}
    assert seen["crop"][0].min() == 255
    assert seen["pad"][0, 10].tolist().count(255) in (5, 6, 7)
    assert seen["pad"][0, :6].max() == 0
    assert 5 <= (seen["squash"][0] > 128).sum(1).min() <= (seen["squash"][0] > 128).sum(1).max() <= 8


def test_default_size_follows_the_documented_rule() -> None:
    def shape(*sizes: tuple[int, int]) -> tuple[int, int]:
        return default_shape([Header(width, height, "RGB") for width, height in sizes])

    assert shape((48, 96), (48, 96)) == (96, 48)
    assert shape((512, 300)) == (300, 512)
    assert shape((4000, 3000)) == (224, 224)
    assert shape((64, 90), (60, 64), (500, 500)) == (32, 32)
    assert shape((65, 90), (66, 70), (20, 20)) == (224, 224)


def test_grayscale_is_kept_only_if_every_image_is_gray() -> None:
    gray, colour = Header(8, 8, "I;16"), Header(8, 8, "P")
    options = {"size": None, "resize": "crop"}
    assert choose_view([gray, gray], channels=None, **options)[0].channels == 1
    view, notes = choose_view([gray, colour], channels=None, **options)
    assert (view.channels, notes) == (3, ("grayscale images: converted to colour",))
    assert choose_view([gray, colour], channels=1, **options)[1] == ("colour images: converted to grayscale",)
