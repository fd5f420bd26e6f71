"""Choices: from what a user's folders hold to a configuration with a reason beside every choice."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from selftrain.config import Experiment, FolderSource, Recipe, TableSource, parse
from selftrain.config.text.commented import Commented, check_free, write_commented
from selftrain.data.lists.labels import DOUBTFUL
from selftrain.data.sources.layout import one_level_too_high
from selftrain.data.sources.survey import Survey, survey
from selftrain.errors import SourceError
from selftrain.ladder import next_rung
from selftrain.scaffold.advice import advice
from selftrain.scaffold.budget import Speeds, fit_to_budget
from selftrain.scaffold.draft import NO_GOOD_NAME, Draft, Wishes, drawn_splits, training_labels
from selftrain.scaffold.training import choose_labels, choose_training

if TYPE_CHECKING:
    from selftrain.learn.tuning.role_training import Role
    from selftrain.learn.tuning.speed import RoleSpeed

TARGET = 0.9
"""Validation accuracy, where the user names none."""
SIDES = (32, 48, 64, 96, 128, 160, 192, 224, 256, 320)  # pixels; backbones halve them several times without remainder


class Scaffold(BaseModel):
    """What the folders hold, the settings chosen for them, advice for the user, and the path of the YAML file."""

    model_config = ConfigDict(frozen=True)

    path: Path
    survey: Survey
    experiment: Experiment
    advice: tuple[str, ...]


def scaffold(
    source: FolderSource | TableSource, wishes: Wishes, out: Path | None, *, command: str, force: bool = False
) -> Scaffold:
    """Look at the folders or the list of `source`, choose, and write the YAML to `out`; its header names `command`.

    If `out` is None, the file is NAME.yaml in the folder `configs` if there is one, otherwise in the current folder.
    Raises what `survey` and `choose` raise, and ConfigError for a file that already exists, unless `force` is set.
    """
    if out is not None:
        check_free(out, force=force)
    seen = survey(source)
    _check_names(source, seen, wishes)
    chosen = choose(source, seen, wishes)
    name = f"{chosen.experiment.name}.yaml"
    path = out if out is not None else Path("configs", name) if Path("configs").is_dir() else Path(name)
    check_free(path, force=force)
    write_commented(chosen, path, command=command)
    return Scaffold(path=path, survey=seen, experiment=chosen.experiment, advice=chosen.notes)


def has_gpu() -> bool:
    """Whether this machine shows an NVIDIA GPU, asked without loading a framework."""
    return Path("/dev/nvidiactl").exists()


def choose(
    source: FolderSource | TableSource, seen: Survey, wishes: Wishes, *, speeds: Speeds | None = None
) -> Commented:
    """The configuration for the images in `seen`; where the user names minutes, with steps that take about as long.

    `speeds` says how fast each role's network is; None measures it here.
    Raises SourceError for fewer than two classes, a class with too few images for the splits, or no unlabelled image.
    Raises BackboneError and ConfigError for a wish that cannot be met.
    """
    _check_enough(seen)
    draft = Draft({"source": source.model_dump(mode="json")})
    draft.set("name", _name(wishes.name, source), "names the data set and the runs")
    side = _image_size(seen, wishes)
    draft.set("image_size", side, f"pixels a side; the median of the shorter sides is {seen.median_side} px")
    if seen.bits is not None:
        draft.set("ingest.bits", seen.bits, "of 16; the brightest picture looked at fills no more")
    _choose_splits(draft, seen)
    choose_training(draft, seen, wishes)
    choose_labels(draft, seen, wishes)
    target = TARGET if wishes.target is None else wishes.target
    draft.set("gate.target", target, "validation accuracy that you need; the loop stops when a student reaches it")
    draft.set("gate.max_rounds", 2, "the most students to train")
    notes = advice(seen, drawn=drawn_splits(seen), training_labels=training_labels(seen), pretrained=wishes.pretrained)
    experiment = parse(draft.values)
    if wishes.minutes is None:
        return Commented(experiment, draft.reasons, notes)
    taken = fit_to_budget(draft, experiment, seen, wishes.minutes, speeds or _measured(seen))
    return Commented(parse(draft.values), draft.reasons, (*taken, *notes))


def _measured(seen: Survey) -> Speeds:
    def speed(experiment: Experiment, role: Role, backbone: str) -> RoleSpeed:
        from selftrain.learn.tuning.speed import role_speed

        return role_speed(experiment, role, backbone, class_names=tuple(seen.classes))

    return speed


def describe_choices(scaffold: Scaffold) -> str:
    """What was seen and chosen, in a few lines for a person."""
    seen, chosen = scaffold.survey, scaffold.experiment
    per_class = sorted(seen.classes.items(), key=lambda item: -item[1])
    counts = ", ".join(f"{name} {count}" for name, count in per_class[:8])
    more = f" and {len(per_class) - 8} more" if len(per_class) > 8 else ""
    formats = ", ".join(f"{name} {count}" for name, count in seen.formats.items())
    held_out = [
        f"{count} {role} images" for role, count in (("validation", seen.validation_images), ("test", seen.test_images))
        if count is not None
    ]  # fmt: skip
    student = chosen.student.backbone or f"{next_rung(chosen.teacher.backbone or '')} (the next rung)"
    lines = [
        f"{len(seen.classes)} classes, {seen.labeled_images} labelled images: {counts}{more}",
        f"{seen.unlabeled_images} unlabelled images" + "".join(f", {each}" for each in held_out),
        f"sides {seen.shortest_side} to {seen.longest_side} px, median shorter side {seen.median_side} px; "
        f"{formats} of {seen.sampled} looked at; {'grey' if seen.grey else 'in colour'}",
    ]
    if seen.unreadable or seen.ignored_files:
        lines.append(f"{seen.unreadable} unreadable, {seen.ignored_files} other files left out: they hold no image")
    if seen.bits is not None:
        lines.append(f"grey pictures of 16 bits that fill {seen.bits} of them: they are read so (ingest.bits)")
    lines.append(
        f"chosen: {chosen.image_size} px, teacher {chosen.teacher.backbone} ({_work(chosen.teacher)}), "
        f"student {student} ({_work(chosen.student)}), augmentation {chosen.teacher.augmentation}"
    )
    return "\n".join([*lines, *(f"note: {each}" for each in scaffold.advice)])


def _work(recipe: Recipe) -> str:
    """How a model is trained, in words."""
    return "head fitted" if recipe.fits_only else f"{recipe.steps} steps of {recipe.batch_size} images"


def _check_names(source: FolderSource | TableSource, seen: Survey, wishes: Wishes) -> None:
    """Raise SourceError for a class folder whose name may mean that nobody has labelled its images."""
    if isinstance(source, TableSource):
        return  # the list's own marks are asked about where it is read
    for name, images in seen.classes.items():
        if name.strip().lower() in DOUBTFUL and name not in wishes.classes:
            folder = str(Path(source.labeled, name))
            raise SourceError(
                f"{source.labeled!r} has a class folder {name!r} of {images} images: is that a class, or have they no "
                f"label? If they have none, give --unlabeled {folder!r}, or move them; if it is a class, give "
                f"--class {name!r}"
            )


def _check_enough(seen: Survey) -> None:
    if len(seen.classes) < 2:
        only = next(iter(seen.classes))
        raise SourceError(
            f"{seen.labeled!r} holds one class folder, {only!r}; a classifier needs two or more"
            + one_level_too_high(seen.labeled, only)
            + "".join(f". {note}" for note in seen.notes if "source.no_label" in note)
        )
    needed = drawn_splits(seen)
    few = {name: count for name, count in seen.classes.items() if count < needed}
    if few:
        named = ", ".join(f"{name!r} has {count}" for name, count in list(few.items())[:5])
        raise SourceError(
            f"{named}. A class needs at least {needed} labelled images: one for each of training, validation and test "
            "that has no folder of its own. Label a few more, or give --validation and --test"
        )
    if seen.unlabeled_images == 0:
        raise SourceError(f"{seen.unlabeled!r} holds no image; self-training needs unlabelled ones, best ten per label")


def _name(wished: str | None, source: FolderSource | TableSource) -> str:
    if wished is not None:
        return wished
    if isinstance(source, TableSource):
        return NO_GOOD_NAME.sub("-", Path(source.path).stem).strip("-_.") or "images"
    labeled = Path(source.labeled.partition("::")[0]).resolve()
    generic = {"labeled", "labelled", "train", "training", "images", "data"}
    name = labeled.stem if labeled.is_file() else labeled.name
    stem = labeled.parent.name if name.lower() in generic else name
    return NO_GOOD_NAME.sub("-", stem).strip("-_.") or "images"


def _image_size(seen: Survey, wishes: Wishes) -> int:
    """The largest of SIDES up to the images' median side and the machine's limit; the smallest allowed if none fits."""
    if wishes.pretrained:
        most, least = (224 if wishes.gpu else 160), 96
    else:
        most, least = (160 if wishes.gpu else 64), 32
    fitting = [side for side in SIDES if least <= side <= min(most, seen.median_side)]
    return fitting[-1] if fitting else least


def _choose_splits(draft: Draft, seen: Survey) -> None:
    smallest = min(seen.classes.values())
    if smallest >= 2 * drawn_splits(seen):
        return
    draft.set("splitting.min_per_class", 1, f"the smallest class has {smallest} labelled images")
    draft.set("checks.min_images_per_class", 1, "for the same reason; two or more would be better")
