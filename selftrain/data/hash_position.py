"""Hash positions: numbers in 0-1 that an image id and a seed determine."""

from __future__ import annotations

import hashlib


def hash_position(image_id: bytes, *, seed: int) -> float:
    """A number in 0-1 that depends on the id and the seed alone; over many ids it is uniform.

    >>> round(hash_position(b"a1", seed=0), 4)
    0.8008
    """
    digest = hashlib.blake2b(b"%d:%s" % (seed, image_id), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
