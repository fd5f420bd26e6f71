"""A user's arrays are the pictures that they show, whatever their type and layout."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from selftrain.data.images.decode import decode
from selftrain.data.images.encode import encode_png
from selftrain.data.inputs.displayed import as_displayed
from selftrain.data.inputs.pictures import to_pictures
from selftrain.data.inputs.values import Scale
from selftrain.errors import SourceError


@pytest.mark.parametrize(
    ("shape", "dtype", "scale", "picture"),
    [
        ((6, 5), np.uint8, Scale.TO_255, (6, 5, 1)),
        ((6, 5, 1), np.uint8, Scale.TO_255, (6, 5, 1)),
        ((6, 5, 3), np.float32, Scale.TO_255, (6, 5, 3)),
        ((3, 6, 5), np.float32, Scale.TO_1, (6, 5, 3)),
        ((1, 6, 5), np.float16, Scale.TO_1, (6, 5, 1)),
        ((6, 5, 4), np.uint8, Scale.TO_255, (6, 5, 4)),
    ],
)
def test_an_image_is_a_picture_whatever_its_type_and_layout(
    shape: tuple[int, ...], dtype: Any, scale: Scale, picture: tuple[int, ...]
) -> None:
    values = np.random.default_rng(2).integers(0, 256, (2, *shape))
    images = (values / 255 if scale is Scale.TO_1 else values).astype(dtype)
    pictures = to_pictures(images, scale, channels=(1, 3, 4), role="labeled")
    assert (pictures.dtype, pictures.shape) == (np.uint8, (2, *picture))
    channels_last = np.moveaxis(values, 1, -1) if shape[0] in (1, 3) else values
    np.testing.assert_array_equal(pictures, channels_last.reshape(pictures.shape))


@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 3)])
def test_a_picture_survives_png(shape: tuple[int, ...]) -> None:
    picture = np.random.default_rng(3).integers(0, 256, shape).astype(np.uint8)
    rgb = picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, axis=-1)
    np.testing.assert_array_equal(decode(encode_png(picture), None), rgb)


def test_what_is_not_a_picture_is_refused() -> None:
    with pytest.raises(SourceError, match="labeled: values below 0; give pixels as they were before normalisation"):
        to_pictures(np.zeros((1, 4, 4)), Scale.SIGNED, channels=(1, 3), role="labeled")
    with pytest.raises(SourceError, match=r"images of shape \(5, 5, 2\); give grey, RGB or RGBA images"):
        to_pictures(np.zeros((1, 5, 5, 2), np.uint8), Scale.TO_255, channels=(1, 3, 4), role="labeled")
    with pytest.raises(SourceError, match=r"images of shape \(5, 5, 4\); give grey or RGB images"):
        to_pictures(np.zeros((1, 5, 5, 4), np.uint8), Scale.TO_255, channels=(1, 3), role="labeled")


@pytest.mark.parametrize("mode", ["LA", "La", "PA", "P", "RGB", "L"])
def test_a_transparent_pillow_image_is_what_its_file_is(mode: str) -> None:
    rng = np.random.default_rng(4)
    colours = Image.fromarray(rng.integers(0, 256, (6, 5, 3), np.uint8))
    if mode in ("P", "RGB", "L"):
        image = colours.convert(mode)
        image.info["transparency"] = image.getpixel((0, 0))
    else:
        image = colours.convert("P" if mode == "PA" else "L").convert("PA" if mode == "PA" else "LA")
        image.putalpha(Image.fromarray(rng.integers(0, 2, (6, 5), np.uint8) * 255))
    file = io.BytesIO()
    (image.convert("RGBA") if mode == "PA" else image).save(file, "png")
    shown = image.convert("La") if mode == "La" else image
    np.testing.assert_array_equal(as_displayed(shown).convert("RGB"), decode(file.getvalue(), None))
    assert as_displayed(shown).mode == "RGB"


def test_a_picture_in_its_alpha_channel_alone_is_refused() -> None:
    image = Image.new("LA", (6, 5), (255, 0))
    image.putpixel((2, 2), (255, 255))
    with pytest.raises(SourceError, match="mode 'LA': the picture is in its alpha channel alone"):
        as_displayed(image)
