import io
import struct
import threading
import warnings
import zlib
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from selftrain.data.images.decode import MAX_PIXELS, QuarantineReason, decode, examine, probe
from selftrain.data.images.formats import Format, named, sniff
from selftrain.errors import ImageError

LIMITS = {"max_pixels": 1_000_000, "min_side": 4}
SAVES = {
    "baseline.jpg": ("RGB", "JPEG", {"quality": 95, "subsampling": 0}),
    "progressive.jpg": ("RGB", "JPEG", {"quality": 95, "subsampling": 0, "progressive": True}),
    "gray.jpg": ("L", "JPEG", {"quality": 95}),
    "cmyk.jpg": ("CMYK", "JPEG", {"quality": 95, "subsampling": 0}),
    "rgb.png": ("RGB", "PNG", {}),
    "palette.png": ("P", "PNG", {}),
    "bit.png": ("1", "PNG", {}),
    "lossy.webp": ("RGB", "WEBP", {"quality": 95}),
    "lossless.webp": ("RGB", "WEBP", {"lossless": True}),
    "alpha.webp": ("RGBA", "WEBP", {"lossless": True}),
    "rgb.bmp": ("RGB", "BMP", {}),
    "palette.bmp": ("P", "BMP", {}),
    "still.gif": ("P", "GIF", {}),
    "raw.tif": ("RGB", "TIFF", {}),
    "lzw.tif": ("RGB", "TIFF", {"compression": "tiff_lzw"}),
    "deflate.tiff": ("RGB", "TIFF", {"compression": "tiff_adobe_deflate"}),
    "cmyk.tif": ("CMYK", "TIFF", {}),
}


def picture(width: int = 40, height: int = 24) -> Image.Image:
    """Smooth, without symmetry: red grows to the right, green downwards, one blue corner."""
    y, x = np.mgrid[:height, :width]
    pixels = np.stack([x * 255 // (width - 1), y * 255 // (height - 1), 200 * (x < width // 4) * (y < height // 4)], 2)
    return Image.fromarray(pixels.astype(np.uint8))


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@cache
def sample(name: str) -> bytes:
    mode, kind, options = SAVES[name]
    return saved(picture().convert(mode), kind, **options)


def reason(data: bytes, name: str = "x", **limits: int) -> str:
    with pytest.raises(ImageError) as caught:
        examine(data, name, **{**LIMITS, **limits})
    return caught.value.reason


def verdict(data: bytes, name: str) -> str:
    try:
        examine(data, name, **LIMITS)
    except ImageError as error:
        return error.reason
    return "fine"


def distance(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(found.astype(int) - expected.astype(int)).mean())


@pytest.mark.parametrize("name", SAVES)
def test_every_format_is_examined_and_decoded_as_displayed(name):
    found = examine(sample(name), name, **LIMITS)
    assert (found.width, found.height) == (40, 24)
    expected = picture().convert(SAVES[name][0]).convert("RGB")
    assert distance(decode(sample(name), None), np.asarray(expected)) < 3
    gray = expected.convert("L").resize((32, 32), Image.Resampling.BILINEAR)
    assert distance(found.gray32, np.asarray(gray)) < 3


@pytest.mark.parametrize("name", SAVES)
def test_truncation_is_found_at_every_offset(name):
    data = sample(name)
    lengths = {*range(200), *range(200, len(data), 7), *range(len(data) - 40, len(data))}
    found = {length: verdict(data[:length], name) for length in lengths if 0 <= length < len(data)}
    allowed = {
        QuarantineReason.ZERO_BYTE,
        QuarantineReason.NOT_AN_IMAGE,
        QuarantineReason.TRUNCATED,
        QuarantineReason.UNREADABLE,
    }
    assert {length: what for length, what in found.items() if what not in allowed} == {}


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(SAVES)), st.data())
def test_a_truncated_photo_never_passes_and_its_reason_says_so(name, data):
    whole = sample(name)
    cut = whole[: data.draw(st.integers(20, len(whole) - 1))]
    assert reason(cut, name) in {QuarantineReason.TRUNCATED, QuarantineReason.UNREADABLE}


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(SAVES)), st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=20))
def test_damaged_bytes_give_an_image_error_or_pixels_that_training_can_decode_too(name, damage):
    data = bytearray(sample(name))
    for place, value in damage:
        data[place % len(data)] = value
    found = verdict(bytes(data), name)
    assert found in {"fine", *QuarantineReason}
    if found == "fine":
        assert decode(bytes(data), 16).shape == (16, 16, 3)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_noise_is_not_an_image(noise):
    assert reason(b"\x01" + noise) == QuarantineReason.NOT_AN_IMAGE


def test_an_empty_file_is_told_from_noise():
    assert reason(b"") == QuarantineReason.ZERO_BYTE


@pytest.mark.parametrize(("name", "label"), [("rgb.png", "x.jpg"), ("baseline.jpg", "x.PNG"), ("rgb.bmp", "x.webp")])
def test_a_wrong_extension_is_misnamed(name, label):
    assert reason(sample(name), label) == QuarantineReason.MISNAMED


def test_a_name_without_extension_is_taken_as_it_is():
    assert examine(sample("rgb.png"), "0001", **LIMITS).width == 40


def test_extensions_and_first_bytes_agree_on_every_sample():
    assert {name: sniff(sample(name)) for name in SAVES} == {name: named(name) for name in SAVES}


@pytest.mark.parametrize(("kind", "label"), [("GIF", "x.gif"), ("PNG", "x.png"), ("WEBP", "x.webp"), ("TIFF", "x.tif")])
def test_more_than_one_frame_or_page_is_animated(kind, label):
    data = saved(picture(), kind, save_all=True, append_images=[picture().rotate(180), picture().rotate(90)])
    assert reason(data, label) == QuarantineReason.ANIMATED


def test_the_second_picture_that_phones_put_into_a_jpeg_is_ignored():
    data = saved(picture(), "MPO", quality=95, save_all=True, append_images=[picture().rotate(180)])
    assert examine(data, "x.jpg", **LIMITS).width == 40
    assert distance(decode(data, None), np.asarray(picture())) < 6


def png_bomb(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def gif_bomb() -> bytes:
    """A screen of one pixel, with a frame that reaches 65,535 x 65,535."""
    frame = b"\x2c" + struct.pack("<4HB", 65534, 65534, 1, 1, 0) + b"\x02\x02\x44\x01\x00"
    return b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff" + frame + b"\x3b"


def webp_bomb() -> bytes:
    body = b"VP8X" + struct.pack("<I", 10) + bytes(4) + (16382).to_bytes(3, "little") * 2
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


@pytest.mark.parametrize("bomb", [png_bomb(12_000, 12_000), png_bomb(60_000, 60_000), gif_bomb(), webp_bomb()])
def test_a_bomb_is_refused_by_its_header_without_a_warning(bomb):
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        assert reason(bomb) == QuarantineReason.TOO_LARGE
    assert heard == []


def test_pillows_own_limit_does_not_count_below_ours():
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        probe(png_bomb(10_000, 9_999), "x.png", max_pixels=100_000_000, min_side=4)
    assert heard == []


def test_decoding_for_serving_has_a_limit_too():
    side = int(MAX_PIXELS**0.5) + 2
    with pytest.raises(ImageError) as caught:
        decode(png_bomb(side, side), 32)
    assert caught.value.reason == QuarantineReason.TOO_LARGE


def test_an_image_with_a_side_below_the_limit_is_too_small():
    assert reason(saved(picture(40, 3), "PNG")) == QuarantineReason.TOO_SMALL
    assert examine(saved(picture(40, 4), "PNG"), "x.png", **LIMITS).height == 4


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation_is_applied_to_pixels_size_and_hash_alike(kind, orientation):
    upright = picture()
    back = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # the Transpose that a viewer's turn undoes
    stored = upright if orientation == 1 else upright.transpose(Image.Transpose(back[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {"quality": 95, "subsampling": 0} if kind == "JPEG" else {}
    data = saved(stored, kind, exif=exif, **options)
    found = examine(data, "x", **LIMITS)
    assert (found.width, found.height) == upright.size
    assert distance(decode(data, None), np.asarray(upright)) < 4
    assert distance(decode(data, 12), decode(saved(upright, "PNG"), 12)) < 4
    gray = upright.convert("L").resize((32, 32), Image.Resampling.BILINEAR)
    assert distance(found.gray32, np.asarray(gray)) < 4


def test_damaged_exif_does_not_cost_the_image():
    data = saved(picture(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f garbage")
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        assert examine(data, "x.jpg", **LIMITS).width == 40
        assert decode(data, 16).shape == (16, 16, 3)
    assert heard == []


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.new("RGBA", (8, 8), (255, 0, 0, 0)), (255, 255, 255)),
        (Image.new("RGBA", (8, 8), (255, 0, 0, 51)), (255, 204, 204)),
        (Image.new("LA", (8, 8), (0, 0)), (255, 255, 255)),
        (Image.new("LA", (8, 8), (100, 255)), (100, 100, 100)),
        (Image.new("L", (8, 8), 77), (77, 77, 77)),
        (Image.new("1", (8, 8), 1), (255, 255, 255)),
        (Image.fromarray(np.full((8, 8), 200 * 257, np.uint16)), (200, 200, 200)),
    ],
    ids=["clear", "translucent", "clear gray", "opaque gray", "gray", "bit", "16 bit"],
)
def test_every_png_mode_becomes_rgb(image, expected):
    assert decode(saved(image, "PNG"), None)[4, 4].tolist() == list(expected)
    assert decode(saved(image, "PNG"), 8)[4, 4].tolist() == list(expected)


def test_a_transparent_palette_colour_lies_over_white():
    image = Image.new("P", (8, 8), 1)
    image.putpalette([10, 20, 30, 200, 100, 50])
    data = saved(image, "PNG", transparency=1)
    assert decode(data, None)[0, 0].tolist() == [255, 255, 255]
    assert decode(saved(image, "PNG"), None)[0, 0].tolist() == [200, 100, 50]


def test_sixteen_bit_colour_and_gray_tiff_keep_their_upper_byte():
    gray = saved(Image.fromarray(np.full((8, 8), 0x80FF, np.uint16)), "TIFF")
    assert decode(gray, None)[0, 0].tolist() == [128, 128, 128]
    rows = b"".join(b"\0" + struct.pack(">HHH", 0xFF00, 0x8000, 0) * 8 for _ in range(8))
    buffer = io.BytesIO()
    buffer.write(b"\x89PNG\r\n\x1a\n")
    PngImagePlugin.putchunk(buffer, b"IHDR", struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0))
    PngImagePlugin.putchunk(buffer, b"IDAT", zlib.compress(rows))
    PngImagePlugin.putchunk(buffer, b"IEND", b"")
    assert decode(buffer.getvalue(), None)[0, 0].tolist() == [255, 128, 0]


@pytest.mark.parametrize("mode", ["F", "I", "LAB"])
def test_pixels_without_a_defined_range_are_an_unsupported_mode(mode):
    image = Image.new(mode, (8, 8)) if mode != "LAB" else Image.merge("LAB", [Image.new("L", (8, 8), 90)] * 3)
    assert reason(saved(image, "TIFF"), "x.tif") == QuarantineReason.UNSUPPORTED_MODE


@pytest.mark.parametrize(("width", "height"), [(40, 24), (24, 40), (500, 300), (33, 33), (8, 8)])
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_size_crops_the_centre_of_the_shorter_side(kind, width, height):
    data = saved(picture(width, height), kind, **({"quality": 98, "subsampling": 0} if kind == "JPEG" else {}))
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    box = (left, top, left + side, top + side)
    expected = picture(width, height).resize((16, 16), Image.Resampling.BICUBIC, box)
    found = decode(data, 16)
    assert found.dtype == np.uint8
    assert distance(found, np.asarray(expected)) < 3


def test_pixels_can_be_written_to():
    pixels = decode(sample("rgb.png"), None)
    pixels[0, 0] = 7
    assert pixels[0, 0].tolist() == [7, 7, 7]


def test_an_error_names_file_reason_and_remedy():
    with pytest.raises(ImageError, match=r"^cat\.jpg: the name says JPEG, the bytes are PNG; rename the file$"):
        examine(sample("rgb.png"), "cat.jpg", **LIMITS)


def test_threads_leave_the_warning_filters_as_they_were():
    before = list(warnings.filters)
    threads = [
        threading.Thread(target=lambda: [decode(sample("baseline.jpg"), 16) for _ in range(50)]) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(warnings.filters) == before


def test_all_formats_have_a_sample():
    assert {named(name) for name in SAVES} == set(Format)
