import io
import struct
import sys
import threading
import warnings
import zlib
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps, PngImagePlugin

from selftrain.data.images.decode import MAX_PIXELS, decode, examine, largest_value, misnaming, probe
from selftrain.data.images.formats import OF_PACKAGES, Format, named, sniff
from selftrain.data.images.reasons import QuarantineReason
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
    "rgb.ppm": ("RGB", "PPM", {}),
    "gray.pgm": ("L", "PPM", {}),
    "rgb.avif": ("RGB", "AVIF", {"quality": 95, "subsampling": "4:4:4"}),
    "rgb.jp2": ("RGB", "JPEG2000", {}),
    "codestream.j2k": ("RGB", "JPEG2000", {"no_jp2": True}),
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
def test_a_wrong_extension_is_said_and_the_picture_is_read(name, label):
    assert examine(sample(name), label, **LIMITS).width == 40
    assert "the name says" in misnaming(sample(name), label)
    assert misnaming(sample(name), name) is None
    assert misnaming(sample(name), "x.jpg.1") is None


@pytest.mark.parametrize(
    ("data", "advice"),
    [
        (b"<!DOCTYPE html><html>404", "HTML"),
        (b"\n <HTML lang=en>", "HTML"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 12\n", "git lfs pull"),
        (b"/annex/objects/SHA256E-s3--aa.jpg", "git annex get"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "XML"),
        (bytes(128) + b"DICM", "DICOM"),
    ],
)
def test_what_often_lies_in_place_of_a_picture_is_named_with_advice(data, advice):
    with pytest.raises(ImageError, match=advice) as caught:
        examine(data, "x.jpg", **LIMITS)
    assert caught.value.reason == QuarantineReason.NOT_AN_IMAGE


@pytest.mark.parametrize(
    ("name", "data", "package"),
    [
        ("IMG_1.HEIC", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(300), "pillow_heif"),
        ("a.jpg", b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(300), "pillow_jxl"),
    ],
)
def test_without_its_package_a_format_is_named_with_what_to_install(monkeypatch, name, data, package):
    for module in (package, f"{package}.JpegXLImagePlugin"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImageError, match=r"HEIC, as phones write it: install|JPEG XL: install") as caught:
        examine(data, name, **LIMITS)
    assert caught.value.reason == QuarantineReason.NO_DECODER


@pytest.mark.parametrize("bits", [10, 12, 14, 15, 16])
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_values_of_ten_to_fourteen_bits_in_sixteen_are_refused_and_never_nearly_black(kind, bits):
    grey = np.asarray(picture().convert("L")).astype(np.uint16) * 257
    data = saved(Image.fromarray(grey >> (16 - bits)), kind)
    if bits > 14:
        assert distance(decode(data, None)[..., 0], grey >> (24 - bits)) == 0
        return
    assert reason(data) == QuarantineReason.SHALLOW
    assert decode(data, None, lenient=True).max() < 64  # what a store took in before


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_a_set_whose_bits_are_known_looks_as_with_all_sixteen(kind, bits):
    grey = np.asarray(picture().convert("L")).astype(np.uint16) * 257
    data = saved(Image.fromarray(grey >> (16 - bits)), kind)
    assert distance(decode(data, None, bits=bits)[..., 0], grey >> 8) == 0
    assert largest_value(data) == int(grey.max()) >> (16 - bits)
    facts = examine(data, "x", **LIMITS, bits=bits)
    assert distance(facts.gray32, examine(saved(Image.fromarray(grey), kind), "x", **LIMITS).gray32) <= 1


def test_a_picture_brighter_than_its_set_is_refused_and_a_dark_one_of_it_is_dark():
    grey = np.asarray(picture().convert("L")).astype(np.uint16) * 16
    data = saved(Image.fromarray(grey), "PNG")
    with pytest.raises(ImageError, match=r"at most 1023\. Where the others are as bright, set ingest\.bits") as caught:
        decode(data, None, bits=10)
    assert caught.value.reason == QuarantineReason.TOO_DEEP
    assert decode(data, None, bits=10, lenient=True).max() == 255  # a store that was read so
    assert distance(decode(data, None, bits=16)[..., 0], grey >> 8) == 0


def test_the_bits_of_a_set_leave_eight_bit_pictures_alone_and_refuse_deep_colour():
    plain = saved(picture(), "PNG")
    assert distance(decode(plain, None, bits=12), decode(plain, None)) == 0
    assert largest_value(plain) is None
    full = png16(np.asarray(picture()).astype(np.uint16) * 257)
    with pytest.raises(ImageError, match="in colour or with transparency") as caught:
        decode(full, None, bits=12)
    assert caught.value.reason == QuarantineReason.UNSUPPORTED_MODE
    assert distance(decode(full, None, bits=16), decode(full, None)) == 0


def test_a_jpeg_in_cmyk_that_may_be_a_negative_is_refused():
    data = sample("cmyk.jpg")
    start = data.index(b"\xff\xee")
    stripped = data[:start] + data[start + 2 + struct.unpack(">H", data[start + 2 : start + 4])[0] :]
    assert reason(stripped) == QuarantineReason.UNSUPPORTED_MODE
    with pytest.raises(ImageError, match="without Adobe's marker"):
        decode(stripped, None)
    assert distance(decode(stripped, None, lenient=True), decode(data, None)) == 0  # what a store took in before


@pytest.mark.parametrize("bits", [None, 12, 16])
def test_a_tiff_of_sixteen_bits_whose_zero_is_white_is_turned(bits):
    grey = np.asarray(picture().convert("L")).astype(np.uint16) * 257 >> (4 if bits == 12 else 0)
    white = 4095 if bits == 12 else 65535
    file = io.BytesIO()
    Image.fromarray((white - grey).astype(np.uint16)).save(file, "TIFF", tiffinfo={262: 0})
    shown = decode(file.getvalue(), None, bits=bits)[..., 0]
    assert distance(shown, grey >> (4 if bits == 12 else 8)) <= 1


def test_a_negative_in_cmyk_whose_ink_is_all_black_is_refused():
    inks = picture().convert("CMYK")
    negative = Image.merge("CMYK", [ImageOps.invert(ink) for ink in inks.split()])
    data = saved(negative, "JPEG")  # Pillow writes Adobe's marker, and so means what it writes
    with pytest.raises(ImageError, match="it may be stored as a negative"):
        decode(data, None)
    assert decode(data, None, lenient=True).max() == 0
    assert decode(saved(Image.new("CMYK", (24, 24), (0, 0, 0, 255)), "JPEG"), None).max() < 2  # black is black


def test_a_black_picture_of_sixteen_bits_is_black():
    assert decode(saved(Image.fromarray(np.zeros((9, 9), np.uint16)), "PNG"), None).max() == 0


def test_deep_colour_is_asked_the_same():
    full = np.asarray(picture()).astype(np.uint16) * 257
    assert distance(decode(png16(full), None), full >> 8) == 0
    assert reason(png16(full >> 4)) == QuarantineReason.SHALLOW
    assert reason(png16(full >> 2)) == QuarantineReason.SHALLOW


def png16(pixels):
    """The PNG of uint16 (h, w, 3), which Pillow cannot write."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 16, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def test_a_pgm_of_sixteen_bits_keeps_its_upper_bits():
    grey = np.asarray(picture().convert("L")).astype(np.uint16) * 257
    data = b"P5\n40 24\n65535\n" + grey.astype(">u2").tobytes()
    assert distance(decode(data, None)[..., 0], grey >> 8) == 0
    assert reason(data[:-9]) == QuarantineReason.TRUNCATED


@pytest.mark.parametrize("shade", [(255, 255, 255), None])
def test_a_picture_that_white_paper_swallows_is_noticed(shade):
    colours = picture() if shade is None else Image.new("RGB", (40, 24), shade)
    alpha = Image.new("L", (40, 24), 0) if shade is None else picture().convert("L")
    hidden = colours.convert("RGBA")
    hidden.putalpha(alpha)
    assert reason(saved(hidden, "PNG")) == QuarantineReason.TRANSPARENT
    black = Image.new("RGBA", (40, 24))
    black.putalpha(picture().convert("L"))
    assert examine(saved(black, "PNG"), "x.png", **LIMITS).width == 40
    blank = Image.new("RGBA", (40, 24), (255, 255, 255, 255))
    assert examine(saved(blank, "PNG"), "x.png", **LIMITS).width == 40


def test_the_reduced_copy_that_a_scanner_adds_is_no_second_page():
    for subfile, expected in ((1, "fine"), (0, "animated")):
        copy = picture(20, 12)
        copy.encoderinfo = {"tiffinfo": {254: subfile}}
        assert verdict(saved(picture(), "TIFF", save_all=True, append_images=[copy]), "scan.tif") == expected


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
    with pytest.raises(ImageError, match=r"^cat\.jpg: the PNG data stop before their end marker; copy the file again$"):
        examine(sample("rgb.png")[:-9], "cat.jpg", **LIMITS)


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
    assert {named(name) for name in SAVES} == set(Format) - set(OF_PACKAGES)
