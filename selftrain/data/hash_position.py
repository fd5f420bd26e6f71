"""Hash positions: where an image falls between 0 and 1, by its id and a seed alone."""

from __future__ import annotations

import hashlib


def hash_position(image_id: bytes, *, seed: int) -> float:
    """A number in 0-1 that the image keeps, whatever other images there are; uniform over ids.

    >>> round(hash_position(b"a1", seed=0), 4)
    0.8008
    """
    digest = hashlib.blake2b(b"%d:%s" % (seed, image_id), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
