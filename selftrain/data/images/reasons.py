"""Reasons why an image is not used, as the quarantine table names them."""

from __future__ import annotations

from enum import StrEnum


class QuarantineReason(StrEnum):
    """Why an image is in the quarantine table."""

    ZERO_BYTE = "zero_byte"
    NOT_AN_IMAGE = "not_an_image"
    NO_DECODER = "no_decoder"
    TRUNCATED = "truncated"
    ANIMATED = "animated"
    TOO_LARGE = "too_large"
    TOO_SMALL = "too_small"
    DUPLICATE = "duplicate"
    CONFLICTING_LABEL = "conflicting_label"
    UNSUPPORTED_MODE = "unsupported_mode"
    SHALLOW = "shallow"
    TOO_DEEP = "too_deep"
    TRANSPARENT = "transparent"
    UNREADABLE = "unreadable"
    HELD_OUT_COPY = "held_out_copy"
    HELD_OUT_GROUP = "held_out_group"
    RESERVED = "reserved"
