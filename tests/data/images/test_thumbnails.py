"""Thumbnails: small squares as data URIs, of anything that the store holds."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from selftrain.data.images import thumbnails
from selftrain.data.images.encode import encode_png
from selftrain.data.images.thumbnails import SIDE, remnant, sprite, thumbnail
from selftrain.errors import ImageError


def test_a_thumbnail_is_a_small_webp_square() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (300, 500, 3)).astype(np.uint8)
    uri = thumbnail(encode_png(noise))
    assert uri.startswith("data:image/webp;base64,")
    with Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))) as image:
        assert (image.format, image.size) == ("WEBP", (SIDE, SIDE))
    assert len(uri) < 12_000  # noise is the worst


def test_a_sprite_that_is_too_large_loses_quality_and_takes_each_file_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    files = [encode_png(rng.integers(0, 255, (40, 40, 3)).astype(np.uint8)) for _ in range(6)] + [b"no image"]
    uri, across = sprite(iter(files), count=len(files), side=40)
    monkeypatch.setattr(thumbnails, "MOST_SPRITE", len(uri) - 1)
    smaller, _ = sprite(iter(files), count=len(files), side=40)
    assert (across, len(smaller) < len(uri)) == (3, True)
    assert shown(smaller).shape == (120, 120, 3)
    assert (np.abs(shown(smaller)[88:, :32] - 128) < 12).all(), "what cannot be decoded is grey"


def test_what_is_not_an_image_is_refused() -> None:
    with pytest.raises(ImageError):
        thumbnail(b"no image")


def shown(uri: str) -> np.ndarray:
    with Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("form", ["JPEG", "PNG", "BMP"])
def test_of_a_truncated_file_the_upper_part_is_left(form: str) -> None:
    noise = np.random.default_rng(0).integers(180, 255, (96, 96, 3)).astype(np.uint8)
    data = encoded(Image.fromarray(noise), form)
    with pytest.raises(ImageError):
        thumbnail(data[: len(data) // 2])
    left = shown(remnant(data[: len(data) // 2]))
    rows = left.mean(axis=(1, 2))
    upper, lower = (rows[:24], rows[-24:]) if form != "BMP" else (rows[-24:], rows[:24])  # BMP begins at the bottom
    assert upper.mean() > 190
    assert abs(lower.mean() - upper.mean()) > 40


def test_of_an_animation_the_first_frame_is_left() -> None:
    first, second = (Image.new("RGB", (64, 64), colour) for colour in ("red", "blue"))
    first.paste("white", (0, 0, 64, 8))
    data = encoded(first, "GIF", save_all=True, append_images=[second])
    assert shown(remnant(data))[48, 48].argmax() == 0


@pytest.mark.parametrize("data", [b"", b"no image", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0" + bytes(40)])
def test_where_nothing_can_be_shown_nothing_is(data: bytes) -> None:
    assert remnant(data) == ""


def test_a_picture_that_is_too_large_is_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(Image.effect_noise((64, 64), 90), "JPEG")[:-40]
    assert remnant(data) != ""
    monkeypatch.setattr(thumbnails, "MOST_LEFT", 64 * 64 - 1)
    assert remnant(data) == ""


@pytest.mark.parametrize(("largest", "bits"), [(4000, 12), (4000, None), (60_000, 12), (60_000, None)])
@pytest.mark.parametrize("cut", [False, True])
def test_what_is_left_of_a_grey_picture_of_12_or_16_bits_is_as_bright_as_it_is(
    largest: int, bits: int | None, cut: bool
) -> None:
    shades = np.linspace(0, largest, 96 * 96).astype(np.uint16).reshape(96, 96)
    data = encoded(Image.fromarray(shades[::-1]), "TIFF" if not cut else "PNG")
    seen = shown(remnant(data[: len(data) // 2] if cut else data, bits=bits))
    assert 180 < seen.max() <= 255
    assert seen[2].mean() > 150, "the first rows are the brightest"


def test_a_dark_picture_of_a_set_of_16_bits_stays_dark() -> None:
    data = encoded(Image.fromarray(np.full((8, 8), 4000, np.uint16)), "TIFF")
    assert shown(remnant(data, bits=16)).max() < 25
