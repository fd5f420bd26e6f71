"""A section: a frozen part of the configuration, whose error for an unknown key names the nearest one."""

from __future__ import annotations

import difflib
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from selftrain.errors import ConfigError

Share = Annotated[float, Field(ge=0.0, le=1.0)]


class Section(BaseModel):
    """A frozen part of the configuration; each step receives only the sections it uses."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _name_the_nearest_key(cls, values: object) -> object:
        if not isinstance(values, dict):
            return values
        for key in values:
            if key not in cls.model_fields:
                if key in Machine.model_fields:
                    raise ConfigError(f"unknown key {key!r} in {cls.__name__}; it belongs to `machine`: machine.{key}")
                near = difflib.get_close_matches(str(key), list(cls.model_fields), n=1, cutoff=0.0)
                raise ConfigError(
                    f"unknown key {key!r} in {cls.model_config.get('title', cls.__name__)}; did you mean {near[0]!r}? "
                    f"Allowed: {', '.join(cls.model_fields)}"
                )
        kind = cls.model_fields.get("kind")
        # Set, not defaulted: ZenML hands a step only what was set, and a union is read by its kind.
        return values if kind is None else {"kind": kind.default, **values}


class Machine(Section):
    """How this machine does the work. It changes no result and no cache key, so a new value retrains nothing."""

    decoded_mb: int = Field(
        4096, ge=0, description="budget for decoded images on disk, MB; above it images are streamed"
    )
    features_mb: int = Field(
        4096, ge=0, description="budget for frozen networks' features on disk, MB; above it they are computed each time"
    )
    checkpoint_s: float = Field(30.0, gt=0, description="seconds between saves of a training")
    workers: int | None = Field(None, ge=1, description="processes that read and decode images; None: one per core")
    shard_mb: int = Field(256, ge=1, le=256, description="largest shard that ingest writes")
    devices: Annotated[int, Field(ge=1)] | Literal["all"] = Field(
        1, description="GPUs that share each batch of a training, in one step's machine; 'all': as many as divide it"
    )
    label_shards: int | None = Field(
        None, ge=1, description="shards that one step, and so one pod, labels; None: one step labels the whole pool"
    )
