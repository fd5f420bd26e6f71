"""The images of a fit: folders, arrays and streams, or the source of an experiment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from selftrain.config import Experiment, FolderSource
from selftrain.config.arguments import names_of
from selftrain.data.inputs.images import is_path
from selftrain.data.inputs.opening import open_images
from selftrain.data.inputs.spool import SpooledImages, spooled
from selftrain.data.sources.source import ImageSource, open_source
from selftrain.data.sources.survey import survey
from selftrain.errors import ConfigError, SourceError
from selftrain.scaffold.choices import choose, has_gpu
from selftrain.scaffold.draft import Wishes


@dataclass(frozen=True)
class FitImages:
    """The images of a call, as the user gave them: all are folders, or all are arrays, lists or streams."""

    labeled: object
    unlabeled: object
    validation: object = None
    test: object = None
    class_names: tuple[str, ...] | None = None

    def roles(self) -> Iterator[tuple[str, object, str | None]]:
        """The (role, images, split) of each kind of images that was given; `labeled` gets its splits later."""
        for role, images, split in (
            ("labeled", self.labeled, None),
            ("unlabeled", self.unlabeled, "unlabeled"),
            ("validation", self.validation, "validation"),
            ("test", self.test, "test"),
        ):
            if images is not None:
                yield role, images, split


def images_of_call(
    labeled: object, unlabeled: object, validation: object, test: object, class_names: Sequence[str] | None
) -> FitImages | None:
    """The images that `fit` was called with. None: it uses the experiment's own source.

    Raises ConfigError for images or class names without labelled images, and for class names that are not a list of
    different texts.
    """
    others = {"unlabeled": unlabeled, "validation": validation, "test": test, "class_names": class_names}
    given = [f"{name}=" for name, value in others.items() if value is not None]
    if labeled is not None:
        names = None if class_names is None else names_of(class_names, each="each number that labels are, from 0")
        return FitImages(labeled, unlabeled, validation, test, names)
    if given:
        raise ConfigError(
            f"{', '.join(given)} without labeled=; give labeled= and unlabeled= too, or leave {', '.join(given)} out: "
            "an experiment= alone takes all its images and classes from its own source"
        )
    return None


@contextmanager
def open_source_of(
    images: FitImages | None, base: Experiment | None, workspace: Path
) -> Iterator[tuple[ImageSource, Experiment]]:
    """Yield the source of the images, and the settings before the user's changes.

    Raises ConfigError where there are neither images nor settings, or where class names do not apply. Raises
    SourceError for images that cannot be used.
    """
    if images is None:
        if base is None:
            raise ConfigError("there is nothing to fit on; give labeled= and unlabeled=, or experiment=")
        yield open_source(base.source), base
        return
    given = list(images.roles())
    folders = [role for role, one, _ in given if is_path(one)]
    if folders and len(folders) < len(given):
        others = ", ".join(role for role, _, _ in given if role not in folders)
        raise SourceError(
            f"some images are in folders ({', '.join(folders)}) and others are not ({others}); give all as folders, or "
            "all as arrays"
        )
    where = {"workspace": base.workspace if base else str(workspace)}
    if folders:
        if images.class_names is not None:
            raise ConfigError(
                "class_names= names labels that are numbers, but folders name their classes; leave it out"
            )
        source = FolderSource.model_validate({role: str(one) for role, one, _ in given})
        e = base or choose(source, survey(source), Wishes(gpu=has_gpu())).experiment
        yield open_source(source), e.model_copy(update={"source": source, **where})
        return
    with spooled(Path(where["workspace"]), images.class_names) as spool:
        for role, one, split in given:
            opened = open_images(one, role=role, labeled=role != "unlabeled", image_rank=None, image_size=None)
            if not spool.add(opened, role=role, split=split):
                raise SourceError(f"{role} holds no image; give some")
        spool.refuse_range()
        e = base or _chosen(spool)
        yield spool, e.model_copy(update=where)


def _chosen(spool: SpooledImages) -> Experiment:
    """The settings that `selftrain init` would choose for folders of these images."""
    return choose(FolderSource(labeled="fit"), spool.survey(), Wishes(name="fit", gpu=has_gpu())).experiment
