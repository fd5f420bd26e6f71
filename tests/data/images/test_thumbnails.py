"""Thumbnails: small squares as data URIs, of anything that the store holds."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from selftrain.data.images.encode import encode_png
from selftrain.data.images.thumbnails import SIDE, thumbnail
from selftrain.errors import ImageError


def test_a_thumbnail_is_a_small_webp_square() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (300, 500, 3)).astype(np.uint8)
    uri = thumbnail(encode_png(noise))
    assert uri.startswith("data:image/webp;base64,")
    with Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))) as image:
        assert (image.format, image.size) == ("WEBP", (SIDE, SIDE))
    assert len(uri) < 12_000  # noise is the worst


def test_what_is_not_an_image_is_refused() -> None:
    with pytest.raises(ImageError):
        thumbnail(b"no image")
