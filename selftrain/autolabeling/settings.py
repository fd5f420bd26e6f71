"""The settings of an `autolabel` call: the checked arguments that decide its result."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated

import numpy as np
from pydantic import Field

from selftrain.autolabeling.user_model import OutputKind
from selftrain.config import Fixed, PseudoLabel, Section, Threshold
from selftrain.config.arguments import checked, names_of
from selftrain.errors import ConfigError


class Settings(Section):
    """The settings that an analysis depends on, besides the model and the images."""

    pseudo_label: PseudoLabel = PseudoLabel()
    round: int = 1
    held_out: Annotated[float, Field(ge=0, le=1)] = 0.2
    seed: int = 0
    outputs: OutputKind | None = None
    class_names: tuple[str, ...] | None = None
    limit: Annotated[int, Field(ge=1)] | None = None
    bits: Annotated[int, Field(ge=8, le=16)] | None = None

    @property
    def text(self) -> str:
        """The settings as JSON: the content of `settings.json` in the folder of an analysis."""
        later = {name for name in ("limit", "bits") if getattr(self, name) is None}
        return self.model_dump_json(indent=2, exclude=later) + "\n"


def settings_of(
    *,
    threshold: Threshold | float | None,
    targets: str,
    max_per_class: int | None,
    batch_size: int,
    class_names: Iterable[str] | None,
    round: int,
    held_out: float,
    seed: int,
    outputs: str | None,
    limit: int | None = None,
    bits: int | None = None,
) -> Settings:
    """The arguments of `autolabel` as Settings. Raises ConfigError, which names the argument that is not allowed."""
    selection = checked(
        PseudoLabel,
        threshold=_rule(threshold),
        targets=targets,
        max_per_class=max_per_class,
        batch_size=batch_size,
    )
    names = None if class_names is None else names_of(class_names, each="each of the model's outputs, in their order")
    return checked(
        Settings,
        pseudo_label=selection,
        round=round,
        held_out=held_out,
        seed=seed,
        outputs=outputs,
        class_names=names,
        limit=limit,
        bits=bits,
    )


def fixed(threshold: object) -> Fixed | None:
    """The Fixed threshold of a confidence (0-1), or of None, which accepts all; None for anything else."""
    if threshold is None:
        return Fixed(value=None)
    if isinstance(threshold, int | float | np.number) and not isinstance(threshold, bool) and 0 <= threshold <= 1:
        return Fixed(value=float(threshold))
    return None


def _rule(threshold: object) -> object:
    """A threshold is returned as it is; a confidence (0-1) or None becomes a Fixed threshold."""
    if isinstance(threshold, Section | Mapping):
        return threshold
    cutoff = fixed(threshold)
    if cutoff is not None:
        return cutoff
    raise ConfigError(
        f"threshold is {threshold!r}; give a confidence from 0 to 1, None for all, or a threshold of selftrain.config, "
        "such as TargetPrecision()"
    )
