"""Names: which files are listed as images by their name, and which folders no person made."""

from __future__ import annotations

import re

# Suffixes of image files. Those of the third line cannot be decoded here. Such a file is still listed, so that its
# owner sees it in quarantine. Files of any other name are looked into where they are on this machine.
_IMAGE_NAMES = """jpg jpeg jpe jfif png webp bmp dib gif tif tiff mpo
    apng avif heic heif hif jp2 j2k j2c jpx jxl ppm pgm pbm pnm
    ico svg psd raw cr2 cr3 nef arw dng orf rw2 tga"""
IMAGE_SUFFIXES = frozenset(_IMAGE_NAMES.split())
# Suffixes of what lies beside images by the thousand: too many to open each of them at every scan.
_SIDECAR_NAMES = """txt json jsonl xml csv tsv yaml yml md html htm py ipynb npy npz parquet db ini log"""
SIDECARS = frozenset(_SIDECAR_NAMES.split())
_ADDED = re.compile(rf"\.({'|'.join(sorted(IMAGE_SUFFIXES))})([_~:-]\w+|\.\d+|\(\d+\)|~)$", re.IGNORECASE)
LEFT_BEHIND = frozenset(
    ("__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found", "__pycache__", "thumbnails")
)
"""Folders that systems and tools make beside a user's own, in lower case; hidden ones are left out anyhow."""


def named_like_an_image(name: str) -> bool:
    """Whether a file of this name is listed as an image: by its extension, or because it has none.

    Browsers and tools add to extensions.

    >>> [named_like_an_image(name) for name in ("a.JPG", "0001", "a.jpg_large", "a.jpg.1", "a.txt")]
    [True, True, True, True, False]
    """
    stem, dot, suffix = name.rpartition(".")
    if not dot or not stem or suffix.lower() in IMAGE_SUFFIXES:
        return True
    return suffix.lower() not in SIDECARS and _ADDED.search(name) is not None
