"""Round settings: what each stage of `dvc.yaml` reads from params.yaml, its config and the defaults.

params.yaml names a config and holds only what differs from it, so every number has one owner. Each stage has its own
settings file, with a digest of the code behind the stage. So DVC reruns exactly the stages that a change concerns.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict

from selftrain.adapters.process import code_digest
from selftrain.config import (
    Checks,
    Experiment,
    Gate,
    Guards,
    Ingest,
    Machine,
    Method,
    Place,
    PseudoLabel,
    Registry,
    Source,
    Splitting,
    Student,
    TaskName,
    parse,
)
from selftrain.config.text.file import read_experiment
from selftrain.errors import ConfigError
from selftrain.selflabel.rounds.plan import TeacherPlan, teacher_plan
from selftrain.selflabel.rounds.recipes import recipe_after

DATA_SECTIONS = ("source", "ingest", "splitting")


class StageSettings(BaseModel):
    """The sections of an Experiment that one stage reads, and the digest of its code."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    code: str


class IngestSettings(StageSettings):
    """Settings of the stages scan and ingest."""

    source: Source
    ingest: Ingest
    splitting: Splitting


class ValidateSettings(StageSettings):
    """Settings of the stage validate."""

    checks: Checks


class TeacherSettings(StageSettings):
    """Settings of the stage teacher."""

    plan: TeacherPlan


class PseudoLabelSettings(StageSettings):
    """Settings of the stage pseudo_label."""

    task: TaskName
    pseudo_label: PseudoLabel


class StudentSettings(StageSettings):
    """Settings of the stage student."""

    task: TaskName
    student: Student
    image_size: int
    seed: int


class EvaluateSettings(StageSettings):
    """Settings of the stage evaluate."""

    task: TaskName
    gate: Gate
    guards: Guards
    method: Method


class RoundPlace(BaseModel):
    """Where the data lies, how this machine works, and the champion's registry. They are in no stage's key."""

    model_config = ConfigDict(frozen=True)

    place: Place
    machine: Machine
    registry: Registry


def resolve_settings(params: Path) -> Experiment:
    """The Experiment that `params` (params.yaml) describes: its config, with the values of `params` that are not null.

    A `kind` other than the config's replaces that whole section. If the data differs from the config's, its
    dataset gets another name. So an experiment never changes what a ZenML run of that config reads. Raises ConfigError
    naming the key.
    """
    if not params.is_file():
        raise ConfigError(f"{params} is not a file; run dvc from the root of the repository")
    try:
        values: Any = yaml.safe_load(params.read_text())
    except yaml.YAMLError as error:
        raise ConfigError(f"{params} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict) or not isinstance(values.get("config"), str):
        raise ConfigError(f"{params} has no `config:`; name an experiment's YAML, such as configs/digits.yaml")
    base = read_experiment(Path(values["config"]))
    changes = {name: value for name, value in values.items() if name != "config"}
    try:
        resolved = parse(merged(base.model_dump(mode="json"), changes))
    except ConfigError as error:
        raise ConfigError(f"{params}: {error.message}") from error
    if all(getattr(resolved, name) == getattr(base, name) for name in DATA_SECTIONS):
        return resolved
    data = resolved.model_dump_json(include=set(DATA_SECTIONS))
    own_name = f"{resolved.name}-{hashlib.sha256(data.encode()).hexdigest()[:8]}"
    return resolved.model_copy(update={"name": own_name})


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`base` with the values of `changes` that are not null, section by section.

    >>> merged({"teacher": {"steps": 480, "ema": 0.99}}, {"teacher": {"steps": 100, "ema": None}})
    {'teacher': {'steps': 100, 'ema': 0.99}}
    >>> merged({"threshold": {"kind": "fixed", "value": 0.9}}, {"threshold": {"kind": "quantile", "value": None}})
    {'threshold': {'kind': 'quantile'}}
    """
    result = dict(base)
    for name, value in changes.items():
        if isinstance(value, dict):
            before = result.get(name)
            keeps = isinstance(before, dict) and value.get("kind") in (None, before.get("kind"))
            result[name] = merged(before if keeps and isinstance(before, dict) else {}, value)
        elif value is not None:
            result[name] = value
    return result


def stage_settings(e: Experiment) -> dict[str, StageSettings]:
    """Each stage's settings, by its name."""
    return {
        "ingest": IngestSettings(code=code_digest.ingest(), source=e.source, ingest=e.ingest, splitting=e.splitting),
        "validate": ValidateSettings(code=code_digest.validate(), checks=e.checks),
        "teacher": TeacherSettings(code=code_digest.train(), plan=teacher_plan(e)),
        "pseudo_label": PseudoLabelSettings(
            code=_with(code_digest.pseudo_label(), "selftrain.adapters.snapshots.receipts"),
            task=e.task,
            pseudo_label=e.pseudo_label,
        ),
        "student": StudentSettings(
            code=_with(code_digest.train_student(), "selftrain.selflabel.rounds.plan"),
            task=e.task,
            student=recipe_after(e.student, 0),
            image_size=e.image_size,
            seed=e.seed,
        ),
        "evaluate": EvaluateSettings(
            code=_with(
                code_digest.evaluate(), "selftrain.selflabel.rounds.results", "selftrain.adapters.snapshots.receipts"
            ),
            task=e.task,
            gate=e.gate,
            guards=e.guards,
            method=e.student.method,
        ),
    }


def _with(key: str, *modules: str) -> str:
    """One digest of a ZenML step's key and of the further `modules` that its stage calls."""
    return hashlib.sha256(f"{key} {code_digest.digest(list(modules))}".encode()).hexdigest()
