"""The configuration: one frozen Experiment, parsed once; unknown keys name the nearest valid one."""

from __future__ import annotations

import difflib
import re
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from selftrain.errors import BackboneError, ConfigError
from selftrain.learn.ladder import resolve

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Augmentation = Literal["none", "digits", "natural"]
Severity = Literal["stop", "warn"]
Metric = Literal["accuracy", "macro_f1"]
Method = Literal["noisy_student", "fixmatch", "freematch", "softmatch"]

EXPECTATIONS = (
    "schema",
    "unique_ids",
    "label_set",
    "labels_present",
    "human_held_out",
    "class_balance",
    "images_per_class",
    "smallest_side",
    "largest_side",
    "quarantine_share",
    "unlabeled_pool",
    "leakage_exact",
    "leakage_near",
)
GuardName = Literal["acceptance", "class_mix", "empty_classes", "churn"]
GuardAction = Literal["warn", "keep_teacher", "stop"]
_NO_MODEL_NAME = re.compile(r"""[/:.%@'"\\\x00-\x1f]""")


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
                    f"unknown key {key!r} in {cls.__name__}; did you mean {near[0]!r}? "
                    f"Allowed: {', '.join(cls.model_fields)}"
                )
        kind = cls.model_fields.get("kind")
        # Set, not defaulted: ZenML hands a step only what was set, and a union is read by its kind.
        return values if kind is None else {"kind": kind.default, **values}


class DigitsSource(Section):
    """scikit-learn's 1,797 handwritten digits, real 8x8 scans that ship with the library."""

    kind: Literal["digits"] = "digits"
    labeled: int = Field(100, ge=10, description="human-labelled training images")
    validation: int = Field(150, ge=10, description="images held out for the gate")
    test: int = Field(400, ge=10, description="images read once, for the reported number")
    seed: int = 0


class FolderSource(Section):
    """A folder of class folders, and a folder of unlabelled images."""

    kind: Literal["folder"] = "folder"
    labeled: str = Field(description="folder with one sub-folder a class")
    unlabeled: str | None = Field(None, description="folder of images without labels, searched recursively")
    validation: str | None = Field(None, description="class folders held out for the gate; None: split off `labeled`")
    test: str | None = Field(None, description="class folders held out for the report; None: split off `labeled`")


class TableSource(Section):
    """A CSV or Parquet list with the columns path, label and (optionally) split."""

    kind: Literal["table"] = "table"
    path: str
    root: str | None = Field(None, description="folder that relative paths start from; None: the table's own")


class KerasDatasetSource(Section):
    """A data set of `keras.datasets` by name: its training images in part labelled, its test images as test."""

    kind: Literal["keras_dataset"] = "keras_dataset"
    name: Literal["cifar10", "cifar100", "mnist", "fashion_mnist"] = "cifar10"
    labeled: int = Field(5000, ge=10, description="training images that keep their label, validation included")
    unlabeled: int | None = Field(20000, ge=0, description="training images used without label; None: all others")
    seed: int = 0


# Discriminated here, not where it is used: ZenML validates a step's inputs against this very name, and without the
# discriminator a folder would be tried as digits, and refused for its keys.
Source = Annotated[DigitsSource | FolderSource | TableSource | KerasDatasetSource, Field(discriminator="kind")]


class Splitting(Section):
    """How labelled images without a given split are shared out; frozen once made."""

    validation: Share = 0.2
    test: Share = 0.2
    min_per_class: int = Field(2, ge=1, description="fewest images a class needs in each of the three labelled splits")
    seed: int = 0


class Ingest(Section):
    """Which source files become part of the data set."""

    max_megapixels: float = Field(64.0, gt=0, description="larger images are quarantined by their header, undecoded")
    min_side: int = Field(4, ge=1, description="shortest side allowed, pixels")
    max_quarantine: Share = Field(0.05, description="stop before training above this share of the source files")


class Checks(Section):
    """Expectations on the manifest; each stops the run or warns."""

    min_images_per_class: int = Field(2, ge=1, description="in each labelled split")
    max_class_ratio: float = Field(20.0, ge=1, description="largest class over smallest, among training labels")
    min_image_side: int = Field(8, ge=1)
    max_image_side: int = Field(16384, ge=1)
    max_quarantine: Share = 0.05
    severity: dict[str, Severity] = Field(default_factory=dict, description="expectation name -> stop | warn")

    @field_validator("severity")
    @classmethod
    def _expectations_are_known(cls, severity: dict[str, Severity]) -> dict[str, Severity]:
        for name in severity:
            if name not in EXPECTATIONS:
                near = difflib.get_close_matches(name, EXPECTATIONS, n=1, cutoff=0.0)[0]
                raise ConfigError(
                    f"checks.severity names the unknown expectation {name!r}; did you mean {near!r}? "
                    f"Allowed: {', '.join(EXPECTATIONS)}"
                )
        return severity


class Recipe(Section):
    """How one model is trained; schedules count optimizer steps, not epochs."""

    backbone: str | None = Field(None, description="ladder name or keras.applications class; None: the next rung")
    weights: str | None = Field(None, description="None: from scratch; 'imagenet'; or a local weights file")
    steps: int = Field(480, ge=1)
    batch_size: int = Field(16, ge=1)
    learning_rate: float = Field(3e-3, gt=0)
    warmup: Share = Field(0.1, description="share of the steps with a rising rate")
    weight_decay: float = Field(1e-4, ge=0)
    label_smoothing: Share = 0.1
    dropout: Share = 0.2
    ema: float | None = Field(0.99, ge=0, lt=1, description="momentum of the averaged weights; None: no average")
    augmentation: Augmentation = "natural"
    strength: Literal["weak", "strong"] = "weak"
    randaugment_operations: int | None = Field(None, ge=0, description="of a strong view; None: the preset's own")
    randaugment_magnitude: float | None = Field(None, ge=0, le=10, description="largest strength; None: the preset's")
    mixup: float = Field(0.0, ge=0, description="alpha of MixUp's shares; 0: off")
    cutmix: float = Field(0.0, ge=0, description="alpha of CutMix's shares; 0: off. With both, each image draws one")
    class_weights: Literal["balanced"] | None = None
    freeze_steps: int = Field(0, ge=0, description="steps with the pretrained backbone frozen, then unfrozen")
    unfreeze_rate: float = Field(0.1, gt=0, le=1, description="factor on the rate once the backbone is unfrozen")
    validate_every: int = Field(120, ge=1, description="steps between looks at validation; the best weights are kept")
    reduce_strides: bool = Field(True, description="EfficientNet and MobileNet from scratch keep more of small images")
    finish_steps: int = Field(0, ge=0, description="steps after `steps` on human labels alone, at a tenth of the rate")

    @model_validator(mode="after")
    def _backbone_is_known(self) -> Self:
        role = type(self).__name__.lower()
        try:
            rung = resolve(self.backbone) if self.backbone is not None else None
        except BackboneError as error:
            raise ConfigError(f"{role}.backbone: {error.message}") from error
        if rung is not None and rung.application is None and self.weights == "imagenet":
            raise ConfigError(
                f"{role}.weights is 'imagenet', but {rung.name} has no published weights; "
                f"set {role}.backbone to one that has, such as 'efficientnet_b0', or {role}.weights to null or a file"
            )
        return self


class Teacher(Recipe):
    """The first teacher: trained on human labels, or brought along."""

    backbone: str = "efficientnet_b0_050"
    start: str = Field("train", description="'train', 'champion', or the path of a .keras file or saved model folder")


class Consistency(Section):
    """What fixmatch, freematch and softmatch make of the unlabelled images of a batch."""

    mu: int = Field(3, ge=1, description="unlabelled images in a batch for each labelled one; 7 in the papers")
    weight: float = Field(1.0, ge=0, description="weight of their loss; the labelled images' is 1")
    ramp_up: Share = Field(0.0, description="share of the steps in which that weight rises from 0")
    threshold: Share = Field(0.95, description="fixmatch: confidence from which an image counts")
    momentum: float = Field(0.99, ge=0, lt=1, description="freematch, softmatch: of what they know of the model")
    fairness: float = Field(0.01, ge=0, description="freematch: weight of the fairness term")
    n_sigma: float = Field(2.0, gt=0, description="softmatch: divides the Gaussian's width")


class Student(Recipe):
    """Each round's student, created anew, one rung above its teacher unless `backbone` is set.

    A method other than noisy_student trains on the labels and the whole pool at once, without pseudo-labels; its
    `label_smoothing` is 0 unless set, for smoothed targets keep a model from ever being sure.
    """

    method: Method = "noisy_student"
    consistency: Consistency = Consistency()
    steps: int = Field(860, ge=1)
    strength: Literal["weak", "strong"] = "strong"
    dropout: Share = 0.3
    pseudo_weight: float = Field(1.0, ge=0, description="weight of a pseudo-labelled image in the loss; a human's is 1")
    min_human_share: Share = Field(0.25, description="floor for the share of human labels in a batch")

    @model_validator(mode="before")
    @classmethod
    def _sure_in_training(cls, values: object) -> object:
        if isinstance(values, dict) and values.get("method", "noisy_student") != "noisy_student":
            return {"label_smoothing": 0.0, **values}
        return values

    @model_validator(mode="after")
    def _mixes_labels_only(self) -> Self:
        if self.method != "noisy_student" and (self.mixup or self.cutmix):
            raise ConfigError(
                f"student.method is {self.method!r} with mixup {self.mixup} and cutmix {self.cutmix}; "
                "only noisy_student mixes images: set both to 0"
            )
        return self


class Fixed(Section):
    """Accept above one confidence; None accepts everything."""

    kind: Literal["fixed"] = "fixed"
    value: Share | None = 0.9


class PerClass(Section):
    """Accept above a confidence of the predicted class's own."""

    kind: Literal["per_class"] = "per_class"
    values: dict[str, Share]
    default: Share = 0.9


class Quantile(Section):
    """Accept the most confident share of the pool; the share grows by round (curriculum labelling)."""

    kind: Literal["quantile"] = "quantile"
    start: Share = 0.2
    step: Share = 0.2


class TargetPrecision(Section):
    """Accept above the lowest confidence whose precision on held-out human labels is surely high enough."""

    kind: Literal["target_precision"] = "target_precision"
    target: float = Field(0.9, gt=0, lt=1, description="share of the accepted labels that must be right")
    alpha: float = Field(0.05, gt=0, le=0.5, description="how often the target may be missed all the same")
    per_class: bool = Field(True, description="each class its own confidence where it has enough held-out predictions")


class Adaptive(Section):
    """Accept above confidences a class that follow from what the teacher is sure of (FreeMatch, over the pool)."""

    kind: Literal["adaptive"] = "adaptive"
    momentum: float = Field(0.999, ge=0, lt=1, description="of the averages over batches")
    batch_size: int = Field(64, ge=1, description="images in such a batch")
    steps: int = Field(10_000, ge=1, description="fewest batches; a smaller pool is passed over again")


Threshold = Annotated[Fixed | PerClass | Quantile | TargetPrecision | Adaptive, Field(discriminator="kind")]


class PseudoLabel(Section):
    """How the teacher's predictions become pseudo-labels."""

    threshold: Threshold = Fixed()
    targets: Literal["soft", "hard"] = "soft"
    max_per_class: int | None = Field(None, ge=1, description="quota: the most confident this many of a class")
    duplicate_up_to: int = Field(1, ge=1, description="rare classes: copies (as weight) an image may count for")
    align: Literal["none", "labeled_prior"] = Field(
        "none", description="labeled_prior: move the classes' shares to those of the labels; only if these are trusted"
    )
    weight: Literal["one", "precision", "softmatch"] = Field(
        "one", description="of an accepted image: 1, how often its confidence is right, or SoftMatch's Gaussian"
    )
    flips: bool = Field(False, description="average the prediction over a horizontal flip")
    batch_size: int = Field(256, ge=1)


class Gate(Section):
    """When the loop stops; it reads validation only."""

    metric: Metric = "accuracy"
    target: Share = 0.95
    min_rounds: int = Field(1, ge=0)
    max_rounds: int = Field(2, ge=0)
    patience: int = Field(1, ge=1, description="rounds without `min_gain` before the loop is stalled")
    min_gain: Share = 0.002
    budget_minutes: float | None = Field(None, gt=0)

    @model_validator(mode="after")
    def _rounds_can_be_run(self) -> Gate:
        if self.min_rounds > self.max_rounds:
            raise ConfigError(
                f"gate.min_rounds is {self.min_rounds} and gate.max_rounds {self.max_rounds}; "
                "no run could pass: allow at least as many rounds as you ask for"
            )
        return self


class Guards(Section):
    """Limits for what tells that self-training is going wrong; None switches a guard off."""

    acceptance: Share | None = Field(0.01, description="least share of the pool that is accepted")
    class_mix: Share | None = Field(0.3, description="largest distance (0-1) of the accepted classes from the labels'")
    empty_classes: int | None = Field(0, ge=0, description="most classes without an accepted image")
    churn: Share | None = Field(0.3, description="largest share of the pool that a new teacher calls otherwise")
    actions: dict[GuardName, GuardAction] = Field(
        default_factory=dict, description="guard -> warn | keep_teacher (its student is not kept) | stop; else warn"
    )

    def limit(self, guard: GuardName) -> float | None:
        """The limit of `guard`; None: it is off."""
        value: float | None = getattr(self, guard)
        return value


def check_model_name(name: str, *, given_as: str) -> None:
    """Raise ConfigError, which says where the name was `given_as`, for one that MLflow would not take for a model."""
    if name != name.strip() or len(name) > 200 or _NO_MODEL_NAME.search(name):
        raise ConfigError(f"{given_as} is {name!r}; MLflow takes 200 characters, but none of / : . % @ \\ or a quote")


class Registry(Section):
    """What a passed run registers, and the floors a champion must pass."""

    model_name: str = Field("", description="empty: the experiment's name, a dot in it as a hyphen")
    floors: dict[Metric, Share] = Field(default={"accuracy": 0.5}, description="on test")
    alpha: float = Field(0.05, gt=0, lt=1, description="level of the paired test against the champion")
    auto_promote: bool = True

    @field_validator("model_name", mode="before")
    @classmethod
    def _name_is_accepted(cls, name: object) -> object:
        if isinstance(name, str):
            check_model_name(name, given_as="registry.model_name")
        return "" if name is None else name


class Place(Section):
    """Where a run's data lies: the workspace folder, and the name of the data set in it."""

    workspace: str = ".selftrain"
    dataset: str = "digits"


class Machine(Section):
    """How the work is done on this machine; changes no result, so it is in no cache key and trains nothing anew."""

    decoded_mb: int = Field(4096, ge=0, description="budget for decoded images on disk, MB; above it they are streamed")
    checkpoint_s: float = Field(30.0, gt=0, description="seconds between saves of a training")
    workers: int | None = Field(None, ge=1, description="processes that read and decode images; None: one a core")
    shard_mb: int = Field(256, ge=1, le=256, description="largest shard that ingest writes")


def _of_characters(source: object) -> bool:
    """Whether a data source, parsed or not (None: the default), is one of digits by name."""
    if isinstance(source, dict):
        return source.get("kind") == "digits" or (source.get("kind"), source.get("name")) == ("keras_dataset", "mnist")
    return source is None or isinstance(source, DigitsSource) or getattr(source, "name", "") == "mnist"


class Experiment(Section):
    """Everything a run needs; the defaults are the digits run of `make run`.

    A recipe for digits or MNIST that names no augmentation gets the one that mirrors nothing, `digits`.
    """

    name: str = Field("digits", pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", description="names dataset, record and model")
    title: str = ""
    seed: int = 0
    control: Literal["none", "supervised"] = Field(
        "none", description="supervised: also train the final backbone on human labels alone, as many image-steps"
    )
    workspace: str = ".selftrain"
    image_size: int = Field(32, ge=16, description="pixels a side the model reads")
    source: Source = DigitsSource()
    splitting: Splitting = Splitting()
    ingest: Ingest = Ingest()
    checks: Checks = Checks()
    teacher: Teacher = Teacher()
    student: Student = Student()
    pseudo_label: PseudoLabel = PseudoLabel()
    gate: Gate = Gate()
    guards: Guards = Guards()
    registry: Registry = Registry()
    machine: Machine = Machine()

    @model_validator(mode="before")
    @classmethod
    def _model_is_named(cls, values: object) -> object:
        if not isinstance(values, dict):
            return values
        name, given = values.get("name", cls.model_fields["name"].default), values.get("registry", {})
        registry = given.model_dump(exclude_unset=True) if isinstance(given, Registry) else given
        if not isinstance(name, str) or not isinstance(registry, dict) or registry.get("model_name"):
            return values
        # Set, not defaulted: ZenML hands a step only what was set.
        named = {**registry, "model_name": re.sub(_NO_MODEL_NAME, "-", name)[:200]}
        return {**values, "registry": named}

    @model_validator(mode="before")
    @classmethod
    def _characters_are_not_mirrored(cls, values: object) -> object:
        if not isinstance(values, dict) or not _of_characters(values.get("source")):
            return values
        changed = dict(values)
        for role, kind in (("teacher", Teacher), ("student", Student)):
            given = values.get(role, {})
            recipe = given.model_dump(exclude_unset=True) if isinstance(given, kind) else given
            if isinstance(recipe, dict):
                changed[role] = {"augmentation": "digits", **recipe}  # set, not defaulted, as above
        return changed

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
