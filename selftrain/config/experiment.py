"""The Experiment: everything a run needs, parsed once."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from selftrain.config.data import Checks, CocoSource, DigitsSource, Ingest, Place, Source, Splitting
from selftrain.config.decisions import Gate, Guards, Registry, model_name_of
from selftrain.config.detection import Detection
from selftrain.config.production import Drift, Inbox, Notify, Retrain
from selftrain.config.recipes import Student
from selftrain.config.section import Machine, Section
from selftrain.config.selection import PseudoLabel
from selftrain.config.teacher import Teacher
from selftrain.errors import ConfigError
from selftrain.ladder import resolve


def _of_characters(source: object) -> bool:
    """Whether a data source holds digits, judged by its name. It may be unparsed; None is the default source."""
    if isinstance(source, dict):
        return source.get("kind") == "digits" or (source.get("kind"), source.get("name")) == ("keras_dataset", "mnist")
    return source is None or isinstance(source, DigitsSource) or getattr(source, "name", "") == "mnist"


TaskName = Literal["classification", "detection"]
OF_DETECTION = ("map", "ap50")


class Experiment(Section):
    """Everything a run needs; the defaults are the digits run of `make run`.

    A recipe for digits or MNIST that names no augmentation gets `digits`, which mirrors nothing.
    """

    name: str = Field("digits", pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", description="names dataset, record and model")
    title: str = ""
    task: TaskName = Field("classification", description="what a label says of an image")
    seed: int = 0
    control: Literal["none", "supervised"] = Field(
        "none", description="supervised: also train the final backbone on human labels alone, for as many image-steps"
    )
    workspace: str = ".selftrain"
    image_size: int = Field(32, ge=16, description="pixels per side that the model reads")
    source: Source = DigitsSource()
    splitting: Splitting = Splitting()
    ingest: Ingest = Ingest()
    checks: Checks = Checks()
    teacher: Teacher = Teacher()
    student: Student = Student()
    pseudo_label: PseudoLabel = PseudoLabel()
    detection: Detection = Detection()
    gate: Gate = Gate()
    guards: Guards = Guards()
    registry: Registry = Registry()
    inbox: Inbox | None = Field(None, description="where production leaves new images")
    retrain: Retrain = Retrain()
    drift: Drift = Drift()
    notify: Notify = Notify()
    machine: Machine = Machine()

    @model_validator(mode="before")
    @classmethod
    def _model_is_named(cls, values: object) -> object:
        if not isinstance(values, dict):
            return values
        name, section = values.get("name", cls.model_fields["name"].default), values.get("registry", {})
        registry = section.model_dump(exclude_unset=True) if isinstance(section, Registry) else section
        if not isinstance(name, str) or not isinstance(registry, dict) or registry.get("model_name"):
            return values
        # Set, not defaulted: ZenML hands a step only what was set.
        named = {**registry, "model_name": model_name_of(name)}
        return {**values, "registry": named}

    @model_validator(mode="before")
    @classmethod
    def _characters_are_not_mirrored(cls, values: object) -> object:
        if not isinstance(values, dict) or not _of_characters(values.get("source")):
            return values
        changed = dict(values)
        for role, kind in (("teacher", Teacher), ("student", Student)):
            section = values.get(role, {})
            recipe = section.model_dump(exclude_unset=True) if isinstance(section, kind) else section
            if isinstance(recipe, dict):
                changed[role] = {"augmentation": "digits", **recipe}  # set, not defaulted, as above
        return changed

    @model_validator(mode="before")
    @classmethod
    def _detectors_have_other_numbers(cls, values: object) -> object:
        if not isinstance(values, dict) or values.get("task") != "detection":
            return values
        changed = dict(values)
        for name, given in (("gate", {"metric": "map", "target": 0.3}), ("registry", {"floors": {"map": 0.1}})):
            section = values.get(name, {})
            if isinstance(section, Section):
                section = section.model_dump(exclude_unset=True)
            if isinstance(section, dict):
                changed[name] = {**given, **section}  # set, not defaulted, as above
        return changed

    @model_validator(mode="after")
    def _task_fits_the_rest(self) -> Self:
        detects = self.task == "detection"
        if detects != isinstance(self.source, CocoSource):
            raise ConfigError(
                f"task is {self.task!r} and source.kind {self.source.kind!r}: boxes come from a source of kind 'coco', "
                "and `task: detection` reads no other"
            )
        if detects and self.ingest.bits is not None:
            raise ConfigError(
                "ingest.bits is for classification: a detector reads pictures of 8 or 16 bits. Remove it, and save "
                "pictures of 10, 12 or 14 bits with 8"
            )
        if detects:
            self._refuse_what_detectors_lack()
        for key, names in (("gate.metric", (self.gate.metric,)), ("registry.floors", tuple(self.registry.floors))):
            for name in names:
                if (name in OF_DETECTION) != detects:
                    allowed = OF_DETECTION if detects else ("accuracy", "macro_f1")
                    raise ConfigError(f"{key} has {name!r}; `task: {self.task}` knows {' and '.join(allowed)}")
        return self

    def _refuse_what_detectors_lack(self) -> None:
        if self.teacher.start == "zero_shot":
            raise ConfigError(
                "teacher.start is 'zero_shot', which is for classes; a detector's is 'train', 'champion' "
                "or a folder with a saved detector"
            )
        for key, given in (("any_of", self.retrain.any_of), ("all_of", self.retrain.all_of)):
            for name, asked in (("drift", given.drift), ("performance", given.performance is not None)):
                if asked:
                    raise ConfigError(
                        f"retrain.{key}.{name} is for classification: of a detector it is not measured. Remove it; "
                        "min_new, max_age_hours and manual say when a detector is retrained"
                    )

    @model_validator(mode="after")
    def _a_student_can_start_from_its_teacher(self) -> Self:
        teacher, student = self.teacher, self.student
        if student.start != "teacher" or teacher.start != "train":
            return self
        if student.backbone is not None and resolve(student.backbone) != resolve(teacher.backbone):
            raise ConfigError(
                f"student.start is 'teacher', but student.backbone is {student.backbone!r} and teacher.backbone "
                f"{teacher.backbone!r}: leave student.backbone out, or set student.start to 'student' or 'new'"
            )
        for key in ("weights", "reduce_strides"):
            value, its = getattr(student, key), getattr(teacher, key)
            if value != its:
                raise ConfigError(
                    f"student.start is 'teacher', but student.{key} is {value!r} and teacher.{key} {its!r}: they are "
                    "one network, and the student's control begins where its teacher did. Set both to the same value, "
                    "or set student.start to 'student'"
                )
        return self

    @property
    def place(self) -> Place:
        """Where this experiment's data lies."""
        return Place(workspace=self.workspace, dataset=self.name)


def parse(values: dict[str, Any]) -> Experiment:
    """The Experiment that `values` (a YAML's `parameters.experiment`) describe.

    Raises ConfigError naming the key, what came in and what is allowed.
    """
    try:
        return Experiment.model_validate(values)
    except ValueError as error:
        raise ConfigError(_first_line(error)) from error


def _first_line(error: ValueError) -> str:
    details: list[Any] = getattr(error, "errors", list)()
    if not details:
        return str(error)
    first = details[0]
    where = ".".join(str(part) for part in first["loc"])
    if not where:
        return f"experiment: must be a mapping of keys such as name, source and gate (got {first['input']!r})"
    return f"{where}: {first['msg']} (got {first['input']!r})"
