"""Choices for a detector: from a COCO file to a configuration with a reason beside every choice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from selftrain.config import CocoSource, Experiment, parse
from selftrain.config.text.commented import Commented, check_free, write_commented
from selftrain.data.manifest import Split
from selftrain.data.sources.coco import CocoImages
from selftrain.errors import ConfigError, SourceError
from selftrain.scaffold.draft import NO_GOOD_NAME, Draft, Wishes

BACKBONE = "mobilenet_v2_035"
TARGET = 0.3
"""COCO's mAP: what a small detector reaches with some hundred objects of one kind."""
FROM_SCRATCH, PRETRAINED = (2000, 4000), (500, 1250)
"""Steps of teacher and student."""
FEW_OBJECTS = 100  # on validation or test: the gate and the interval are coarse
ENOUGH_UNLABELED = 3


class ObjectSurvey(BaseModel):
    """What a COCO file and its folders hold. `sides` are quantiles (10, 50, 90 %) of the objects' longer sides, px."""

    model_config = ConfigDict(frozen=True)

    images: int
    without_objects: int
    objects: dict[str, int]
    unlabeled_images: int
    sides: tuple[float, float, float]
    notes: tuple[str, ...]


class DetectorScaffold(BaseModel):
    """What was seen and chosen, and the path of the YAML file."""

    model_config = ConfigDict(frozen=True)

    path: Path
    survey: ObjectSurvey
    experiment: Experiment
    advice: tuple[str, ...]

    def lines(self) -> list[str]:
        """It in words."""
        seen, chosen = self.survey, self.experiment.detection
        named = ", ".join(f"{name} {count}" for name, count in seen.objects.items())
        low, middle, high = seen.sides
        weights = "from scratch" if chosen.weights is None else f"from {chosen.weights}"
        return [
            f"{sum(seen.objects.values())} objects in {seen.images} images: {named}",
            f"{seen.unlabeled_images} images without labels; objects are {low:.0f} to {high:.0f} px long, half of them "
            f"up to {middle:.0f}",
            f"chosen: {chosen.backbone} {weights}, views of {chosen.view} px, {chosen.teacher_steps} steps on labels, "
            f"then {chosen.student_steps} with the pool, and a control as long",
            *(f"note: {each}" for each in (*seen.notes, *self.advice)),
        ]


def scaffold_detector(
    source: CocoSource, wishes: Wishes, out: Path | None, *, command: str, force: bool = False
) -> DetectorScaffold:
    """Read the COCO files of `source`, choose, and write the YAML to `out`, as `choices.scaffold` does for folders."""
    if out is not None:
        _check_out(out, source, force=force)
    seen = survey_objects(source)
    draft = Draft({"source": source.model_dump(mode="json", exclude_none=True)})
    draft.set("name", wishes.name or _name(source), "names the data set and the runs")
    draft.set("task", "detection", "boxes")
    draft.set("control", "supervised", "shows what the images without labels gave, beyond longer training")
    _choose_training(draft, wishes)
    draft.set("gate.metric", "map", "COCO's mean average precision on validation")
    draft.set("gate.target", TARGET if wishes.target is None else wishes.target, "what you need; 0.3 is a rough first")
    draft.set("gate.max_rounds", 1, "the most students to train, one after the other")
    advice = _advice(source, seen, wishes)
    commented = Commented(parse(draft.values), draft.reasons, advice)
    name = f"{commented.experiment.name}.yaml"
    path = out if out is not None else Path("configs", name) if Path("configs").is_dir() else Path(name)
    _check_out(path, source, force=force)
    write_commented(commented, path, command=command)
    return DetectorScaffold(path=path, survey=seen, experiment=commented.experiment, advice=advice)


def _check_out(path: Path, source: CocoSource, *, force: bool) -> None:
    """Raise ConfigError for a file that is there, unless `force` is set; always for one that holds the boxes."""
    held = (source.annotations, source.validation, source.test)
    if path.resolve() in {Path(each).resolve() for each in held if each is not None}:
        raise ConfigError(f"{str(path)!r} is the file that holds the boxes; name another one with --out")
    check_free(path, force=force)


def survey_objects(source: CocoSource) -> ObjectSurvey:
    """What the files and folders of `source` hold. Raises SourceError for too few images, and without a pool."""
    images = CocoImages(source)
    listing = images.scan()
    labelled = [each for _, each in images.labelled]
    drawn = 3 - (source.validation is not None) - (source.test is not None)
    if len(labelled[0].images) < 2 * drawn:
        raise SourceError(
            f"{source.annotations}: {len(labelled[0].images)} labelled images; give 2 for each of training, validation "
            "and test that has no file of its own (--validation, --test)"
        )
    pool = int(np.sum([each == Split.UNLABELED for each in listing.table["split"].to_pylist()]))
    if not pool:
        raise SourceError(f"{source.unlabeled!r} holds no image without labels; self-training learns from such images")
    boxes = np.concatenate([each.annotations.boxes for each in labelled])
    sides = (boxes[:, 2:] - boxes[:, :2]).max(axis=1) if len(boxes) else np.zeros(1)
    counts = sum(np.bincount(each.annotations.labels, minlength=len(each.label_map)) for each in labelled)
    low, middle, high = np.quantile(sides, [0.1, 0.5, 0.9]).tolist()
    return ObjectSurvey(
        images=sum(len(each.images) for each in labelled),
        without_objects=sum(each.without_objects for each in labelled),
        objects=dict(zip(labelled[0].label_map.names, np.asarray(counts).tolist(), strict=True)),
        unlabeled_images=pool,
        sides=(low, middle, high),
        notes=listing.notes,
    )


def _choose_training(draft: Draft, wishes: Wishes) -> None:
    draft.set("detection.backbone", wishes.teacher_backbone or BACKBONE, "small enough for a machine without a GPU")
    draft.set("detection.weights", wishes.teacher_weights, "published weights, or a local file, save most of the steps")
    teacher, student = PRETRAINED if wishes.pretrained else FROM_SCRATCH
    draft.set("detection.teacher_steps", teacher, "on labels alone; repeated while that helps on validation")
    draft.set("detection.student_steps", student, "10,000 views or more: fewer do not tell whether the pool helps")
    draft.set("detection.turns", False, "true for images without an up and down: cells, aerial photos")


def _advice(source: CocoSource, seen: ObjectSurvey, wishes: Wishes) -> tuple[str, ...]:
    notes = []
    if not wishes.pretrained:
        notes.append(
            "from scratch, a few labelled images teach little; published weights do more: --teacher-weights imagenet, "
            "or a local file"
        )
    total = sum(seen.objects.values())
    drawn = 1 if source.validation and source.test else 0.2
    if source.validation is None and total * drawn < FEW_OBJECTS:
        notes.append(
            f"about {total * drawn:.0f} objects are left for each of validation and test: the gate is coarse and the "
            "reported interval wide; give COCO files of their own: --validation, --test"
        )
    if seen.unlabeled_images < ENOUGH_UNLABELED * seen.images:
        notes.append(
            f"{seen.unlabeled_images} images without labels for {seen.images} labelled ones: more of them help most"
        )
    return tuple(notes)


def _name(source: CocoSource) -> str:
    path = Path(source.annotations).resolve()
    generic = {"labels", "annotations", "train", "valid", "instances", "_annotations.coco", "result", "coco"}
    generic |= {"data", "dataset", "xml", "xmls"}
    name = path.stem
    while name.lower() in generic and path != path.parent:
        path = path.parent
        name = path.name
    return NO_GOOD_NAME.sub("-", name).strip("-_.") or "objects"
