import io
import zlib
from contextlib import suppress
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, PngImagePlugin

from selftrain.data.images.decode import decode
from selftrain.data.images.formats import OF_PACKAGES, Format
from selftrain.data.images.metadata import without_metadata
from selftrain.data.images.reasons import QuarantineReason
from selftrain.errors import ImageError

OWNER = "Erika-Mustermann"
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><creator>{OWNER}</creator></x:xmpmeta>'.encode()
ORIENTATION, ARTIST, GPS, GPS_DATE = 0x0112, 0x013B, 0x8825, 29
SAVES = {
    "baseline.jpg": ("RGB", "JPEG", {"quality": 90}),
    "progressive.jpg": ("RGB", "JPEG", {"quality": 90, "progressive": True, "restart_marker_blocks": 1}),
    "gray.jpg": ("L", "JPEG", {}),
    "cmyk.jpg": ("CMYK", "JPEG", {}),
    "rgb.png": ("RGB", "PNG", {}),
    "palette.png": ("P", "PNG", {"transparency": 3}),
    "lossy.webp": ("RGB", "WEBP", {}),
    "lossless.webp": ("RGB", "WEBP", {"lossless": True}),
    "alpha.webp": ("RGBA", "WEBP", {"lossless": True}),
    "still.gif": ("P", "GIF", {}),
    "raw.tif": ("RGB", "TIFF", {}),
    "lzw.tif": ("RGB", "TIFF", {"compression": "tiff_lzw"}),
    "palette.tif": ("P", "TIFF", {}),
    "plain.bmp": ("RGB", "BMP", {}),
}
WITH_EXIF = [name for name in SAVES if not name.endswith((".gif", ".bmp"))]


def exif(orientation: int) -> Image.Exif:
    """Who took the picture, where, and how the camera was held."""
    made = Image.Exif()
    made[ORIENTATION], made[ARTIST] = orientation, OWNER
    made.get_ifd(GPS)[GPS_DATE] = f"{OWNER}-was-here"
    return made


@cache
def saved(name: str, orientation: int | None = None) -> bytes:
    """An image of that kind; with personal data if `orientation` is given."""
    mode, kind, options = SAVES[name]
    pixels = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)
    image = Image.fromarray(pixels).resize((36, 24)).convert(mode)
    more: dict[str, object] = {}
    if orientation is not None:
        more = {"exif": exif(orientation), "xmp": XMP, "comment": OWNER}
        if kind == "PNG":
            more["pnginfo"] = PngImagePlugin.PngInfo()
            more["pnginfo"].add_text("Author", OWNER)  # type: ignore[attr-defined]
            more["pnginfo"].add_itxt("XML:com.adobe.xmp", XMP.decode(), zip=True)  # type: ignore[attr-defined]
        if kind != "GIF" and mode == "RGB":
            more["icc_profile"] = PROFILE
    buffer = io.BytesIO()
    image.save(buffer, kind, **options, **more)
    return buffer.getvalue()


def profile(data: bytes) -> bytes | None:
    with Image.open(io.BytesIO(data)) as image:
        return image.info.get("icc_profile")


@pytest.mark.parametrize("name", WITH_EXIF)
@pytest.mark.parametrize("orientation", [1, 6])
def test_nothing_personal_is_left_and_the_picture_is_the_same(name: str, orientation: int) -> None:
    data = saved(name, orientation)
    clean = without_metadata(data)
    assert OWNER.encode() in data or name.endswith(".png")
    assert OWNER.encode() not in clean
    assert b"xmpmeta" not in clean
    np.testing.assert_array_equal(decode(clean, None), decode(data, None))
    assert profile(clean) == profile(data)


def test_only_the_orientation_is_left_of_exif() -> None:
    for name in WITH_EXIF:
        if name.endswith(".tif"):
            continue
        for orientation in range(1, 9):
            with Image.open(io.BytesIO(without_metadata(saved(name, orientation)))) as image:
                assert dict(image.getexif()) == ({ORIENTATION: orientation} if orientation > 1 else {}), name


def test_compressed_texts_of_a_png_go_as_well() -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", OWNER * 40, zip=True)
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG", pnginfo=info)
    clean = without_metadata(buffer.getvalue())
    assert b"zTXt" in buffer.getvalue()
    assert b"zTXt" not in clean
    with Image.open(io.BytesIO(clean)) as image:
        image.load()
        assert image.info == {}


def test_a_comment_of_a_gif_goes() -> None:
    data = saved("still.gif", 1)
    clean = without_metadata(data)
    assert OWNER.encode() in data
    assert OWNER.encode() not in clean
    np.testing.assert_array_equal(decode(clean, None), decode(data, None))


@pytest.mark.parametrize("name", SAVES)
def test_bytes_without_metadata_come_back_as_they_are(name: str) -> None:
    clean = without_metadata(saved(name))
    assert without_metadata(clean) is clean
    if not name.endswith(".tif"):  # Pillow writes a resolution into a TIFF
        assert clean == saved(name)


@pytest.mark.parametrize("name", ["baseline.jpg", "progressive.jpg", "rgb.png", "lossy.webp", "still.gif"])
def test_what_lies_behind_the_end_of_an_image_goes(name: str) -> None:
    trailer = b"a film of the minute before, by " + OWNER.encode()
    assert without_metadata(saved(name) + trailer) == saved(name)


def test_a_jpeg_keeps_what_says_how_its_colours_are_read() -> None:
    clean = without_metadata(saved("cmyk.jpg", 6))
    assert b"Adobe" in clean[:200]


def test_what_is_not_an_image_comes_back_for_the_decoder_to_refuse() -> None:
    assert without_metadata(b"") == b""
    assert without_metadata(b"<html>") == b"<html>"


def test_a_big_tiff_is_refused_and_not_kept_with_its_metadata() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "TIFF", big_tiff=True)
    with pytest.raises(ImageError, match=r"BigTIFF.*set inbox.keep_metadata"):
        without_metadata(buffer.getvalue())


@settings(max_examples=200)
@given(st.sampled_from(WITH_EXIF), st.data())
def test_damaged_bytes_are_refused_or_cleaned_without_another_picture(name: str, draw: st.DataObject) -> None:
    data = bytearray(saved(name, 6))
    if draw.draw(st.booleans()):
        del data[draw.draw(st.integers(1, len(data) - 1)) :]
    else:
        data[draw.draw(st.integers(0, len(data) - 1))] ^= draw.draw(st.integers(1, 255))
    with suppress(ImageError):
        clean = without_metadata(bytes(data))
        picture = decode(bytes(data), None)
        np.testing.assert_array_equal(decode(clean, None), picture)


REWRITTEN = {Format.AVIF: "AVIF", Format.JPEG2000: "JPEG2000", Format.PPM: "PPM"}


@pytest.mark.parametrize("form", REWRITTEN)
def test_where_metadata_cannot_be_cut_out_the_pixels_alone_are_kept(form: Format) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (24, 36, 3), np.uint8)
    buffer = io.BytesIO()
    options = {"exif": exif(6), "xmp": XMP} if form is Format.AVIF else {"comment": OWNER}
    Image.fromarray(pixels).save(buffer, REWRITTEN[form], **options)
    clean = without_metadata(buffer.getvalue())
    assert OWNER.encode() not in clean
    np.testing.assert_array_equal(decode(clean, None), decode(buffer.getvalue(), None))


@pytest.mark.parametrize("kind", ["JPEG2000", "PPM"])
def test_the_bits_of_a_set_are_applied_to_a_grey_picture_without_its_metadata(kind: str) -> None:
    values = np.random.default_rng(0).integers(0, 1 << 12, (24, 36), np.uint16)
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, kind)
    clean = without_metadata(buffer.getvalue())
    np.testing.assert_array_equal(decode(clean, None, bits=12)[..., 0], values >> 4)
    np.testing.assert_array_equal(decode(clean, None, bits=16)[..., 0], values >> 8)
    with pytest.raises(ImageError) as refused:
        decode(clean, None)
    assert refused.value.reason == QuarantineReason.SHALLOW


@pytest.mark.parametrize("form", [form for form in Format if form not in (*OF_PACKAGES, *REWRITTEN)])
def test_every_format_that_we_read_is_cleaned(form: Format) -> None:
    """A new format must not be kept with its metadata by accident."""
    first = {name: saved(name, 1 if name in WITH_EXIF or name.endswith(".gif") else None) for name in SAVES}
    kinds = {"JPEG": ".jpg", "PNG": ".png", "WebP": ".webp", "GIF": ".gif", "TIFF": ".tif", "BMP": ".bmp"}
    of_form = [data for name, data in first.items() if name.endswith(kinds[form.value])]
    assert of_form
    assert all(OWNER.encode() not in without_metadata(data) for data in of_form)


def test_checksums_of_the_written_png_block_are_right() -> None:
    clean = without_metadata(saved("rgb.png", 8))
    at = clean.index(b"eXIf")
    length = int.from_bytes(clean[at - 4 : at], "big")
    written = int.from_bytes(clean[at + 4 + length : at + 8 + length], "big")
    assert zlib.crc32(clean[at : at + 4 + length]) == written
