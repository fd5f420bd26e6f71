"""Settings of production: the inbox, when to retrain, drift, notices and serving. None of them changes a result."""

from __future__ import annotations

import re
import shlex
import string
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, ConfigDict, Field, field_validator, model_validator

from selftrain.config.section import Section, Share
from selftrain.errors import ConfigError

PRODUCTION = frozenset({"inbox", "retrain", "drift", "notify"})
"""The sections of this module: they say when a run begins and who hears of it, not what it results in."""

MARKER_FIELDS = frozenset({"name", "stem", "folder"})
"""What stands for a file in `inbox.marker`: its name, its name without the extension, its folder."""

_REFERENCE = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]*|file:/.+|zenml:[^.:]+\.[^.:]+")
_SECRET_OPTIONS = frozenset({"secret", "password", "token", "sas_token", "account_key", "connection_string"})


def _reference(value: object) -> str:
    """`value` if it is a reference to a secret; the error never quotes it, as it may be the secret itself."""
    if not isinstance(value, str) or not _REFERENCE.fullmatch(value):
        raise ConfigError(
            "a secret (notify.webhook, inbox.secrets) is given by reference: env:NAME, file:/absolute/path or "
            "zenml:SECRET.KEY; the value itself must not stand in the file"
        )
    return value


SecretReference = Annotated[str, BeforeValidator(_reference)]
"""Where a secret is: `env:NAME`, `file:/absolute/path`, or `zenml:SECRET.KEY`; never the secret itself."""

Event = Literal[
    "due",
    "started",
    "passed",
    "refused",
    "promoted",
    "rolled_back",
    "failed",
    "stopped",
    "quarantine",
]


class Sampling(Section):
    """Which images are kept, of those that could be."""

    model_config = ConfigDict(title="inbox.sampling")

    rule: Literal["all", "low_confidence"] = Field(
        "all", description="low_confidence: only images whose recorded answer is less sure than `below`, or missing"
    )
    below: Share = Field(0.9, description="confidence under which low_confidence keeps an image")
    control: Share = Field(0.05, description="share of all images that is kept at random, whatever the rule")
    seed: int = 0


class Inbox(Section):
    """Where production leaves new images. Collecting only reads it; serving adds what it was asked."""

    model_config = ConfigDict(title="inbox")

    url: str = Field(min_length=1, description="a folder, or a URL that fsspec opens: s3://, gs://, az://")
    storage: dict[str, str | int | bool] = Field(
        default_factory=dict, description="options of the file system, such as endpoint_url; no secrets"
    )
    secrets: dict[str, SecretReference] = Field(
        default_factory=dict, description="options of the file system that are secret: option -> env:, file: or zenml:"
    )
    settle_s: float = Field(
        60.0, ge=0, description="a file is taken when its size and version were the same twice, this far apart"
    )
    marker: str | None = Field(
        None, description="take a file only when a file of this name exists, such as {name}.done or {folder}/_SUCCESS"
    )
    keep_metadata: bool = Field(False, description="keep EXIF (GPS, owner, serial numbers), XMP and comments")
    max_per_day: int | None = Field(None, ge=1, description="most images that are taken in on one day (UTC)")
    sampling: Sampling = Sampling()

    @model_validator(mode="before")
    @classmethod
    def _is_a_section(cls, values: object) -> object:
        if isinstance(values, str):
            raise ConfigError(f"inbox is {values!r}, and it is a section; write `inbox: {{url: {values}}}`")
        return values

    @field_validator("marker")
    @classmethod
    def _marker_follows_its_file(cls, marker: str | None) -> str | None:
        if marker is None:
            return marker
        try:
            parts = string.Formatter().parse(marker)
            named = {f"{name}{spec}{conversion or ''}" for _, name, spec, conversion in parts if name is not None}
        except ValueError:
            named = set()
        if not named or not named <= MARKER_FIELDS:
            raise ConfigError(
                f"inbox.marker is {marker!r}, which must hold {{name}}, {{stem}} or {{folder}} and nothing else in "
                "braces, such as {name}.done for a marker beside each file, or {folder}/_SUCCESS for one in each folder"
            )
        return marker

    @field_validator("storage")
    @classmethod
    def _secrets_are_references(cls, storage: dict[str, str | int | bool]) -> dict[str, str | int | bool]:
        plain = sorted(_SECRET_OPTIONS & storage.keys())
        if plain:
            raise ConfigError(
                f"inbox.storage.{plain[0]} is a secret; put a reference to it under inbox.secrets instead, such as "
                f"{plain[0]}: env:NAME"
            )
        return storage


class Triggers(Section):
    """Conditions for a retraining; None switches one off."""

    model_config = ConfigDict(title="retrain.any_of and retrain.all_of")

    min_new: int | None = Field(None, ge=1, description="usable images that no decided run has seen")
    max_age_hours: float | None = Field(None, gt=0, description="hours since the last decided run")
    drift: bool = Field(False, description="the new images have drifted, as the section `drift` decides")
    performance: Share | None = Field(
        None, description="the champion's accuracy on labelled production images is below this floor"
    )
    manual: bool = Field(False, description="somebody asked for it: selftrain retrain --now")

    @property
    def named(self) -> bool:
        """Whether any condition is switched on."""
        return bool(self.min_new or self.max_age_hours or self.drift or self.performance is not None or self.manual)


class Retrain(Section):
    """When `selftrain retrain` trains."""

    model_config = ConfigDict(title="retrain")

    any_of: Triggers = Field(Triggers(min_new=100, manual=True), description="one of these is enough")
    all_of: Triggers = Field(Triggers(), description="all of these must hold as well")
    cooldown_hours: float = Field(0.0, ge=0, description="hours after a decided run in which nothing but --now trains")
    from_version: int | None = Field(
        None, ge=1, description="set by selftrain: the version whose model teaches first, if teacher.start is champion"
    )
    max_failures: int = Field(3, ge=1, description="failures in a row, after which it waits for --resume")

    @model_validator(mode="after")
    def _something_can_be_due(self) -> Self:
        if not self.any_of.named and not self.all_of.named:
            raise ConfigError("retrain.any_of and retrain.all_of name no condition; set one, such as any_of.min_new")
        return self


class Drift(Section):
    """How far new images must be from the training images to count as drift."""

    model_config = ConfigDict(title="drift")

    min_images: int = Field(100, ge=10, description="fewest new images for a decision")
    warmup: int = Field(5, ge=1, description="past windows that set the threshold; until then nothing is drift")
    factor: float = Field(2.0, gt=1, description="drift: the distance is this many times the largest of past windows")
    floor: float = Field(0.1, ge=0, description="distances below this are never drift")


class Notify(Section):
    """Who is told. A notice that cannot be delivered is recorded, and never fails a run."""

    model_config = ConfigDict(title="notify")

    webhook: SecretReference | None = Field(None, description="reference to the URL that JSON is posted to")
    command: str | None = Field(None, description="program that gets the JSON on its standard input")
    alerter: bool = Field(True, description="post with the alerter of the ZenML stack, where it has one")
    events: tuple[Event, ...] = Field(
        ("passed", "refused", "promoted", "rolled_back", "failed", "stopped", "quarantine"),
        description="what is told",
    )
    timeout_s: float = Field(10.0, gt=0)

    @field_validator("command")
    @classmethod
    def _command_has_words(cls, command: str | None) -> str | None:
        try:
            words = shlex.split(command) if command is not None else ["none"]
        except ValueError as error:
            raise ConfigError(f"notify.command is {command!r}, which is not a command: {error}") from error
        if not words:
            raise ConfigError("notify.command is empty; name a program, or remove the key")
        return command
