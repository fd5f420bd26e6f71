"""Labelling with a user's model: the work behind `selftrain.autolabel` and `selftrain.held_out`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from selftrain.adapters.process.console import shown
from selftrain.api.user_models import open_user_model
from selftrain.autolabeling.analyse import analyse
from selftrain.autolabeling.analysis import Analysis
from selftrain.autolabeling.folder import AnalysisFolder, claim_folder
from selftrain.autolabeling.settings import Settings
from selftrain.autolabeling.user_model import UserModel
from selftrain.config.arguments import check_image_size
from selftrain.data.inputs.held_out import Mask, held_out_mask
from selftrain.data.inputs.images import ImageStream
from selftrain.data.inputs.opening import ids_of, open_images
from selftrain.errors import ConfigError
from selftrain.progress import Progress


@dataclass(frozen=True)
class LabelingImages:
    """The images of a call, as the user gave them; files are decoded to squares of `image_size` pixels.

    At most `limit` of the unlabelled ones are read.
    """

    labeled: object
    unlabeled: object
    validation: object = None
    image_size: int | None = None
    limit: int | None = None

    def open(self, model: UserModel, bits: int | None) -> tuple[ImageStream, ImageStream, ImageStream | None]:
        """Streams of the labelled, unlabelled and validation images, as `model` reads them. Raises SourceError.

        `bits` is how many of 16 bits the grey ones of the files fill.
        """
        rank = None if model.input_shape is None else len(model.input_shape)
        size = self.image_size or model.side

        def stream(images: object, role: str) -> ImageStream:
            return open_images(
                images,
                role=role,
                labeled=role != "unlabeled",
                image_rank=rank,
                image_size=size,
                channels=model.channels,
                bits=bits,
                limit=self.limit if role == "unlabeled" else None,
            )

        validation = None if self.validation is None else stream(self.validation, "validation")
        return stream(self.labeled, "labeled"), stream(self.unlabeled, "unlabeled"), validation


def autolabel(
    model: object, images: LabelingImages, settings: Settings, *, out: Path, resume: bool, progress: Progress | None
) -> Analysis:
    """Let `model` label `images.unlabeled`, and write the labels and the analysis to `out`.

    Without a `progress` it is shown on stderr. Raises SourceError, PredictionError and ConfigError.
    """
    if images.image_size is not None:
        check_image_size(images.image_size)
    if settings.held_out == 0 and images.validation is None:
        raise ConfigError("held_out is 0; it should be greater than 0, or give validation=")
    opened, names = open_user_model(model)
    if settings.class_names is None:
        settings = settings.model_copy(update={"class_names": names})
    settings = settings.model_copy(update={"bits": _bits(settings.bits, opened.bits)})
    labeled, unlabeled, validation = images.open(opened, settings.bits)
    folder = AnalysisFolder(out)
    with claim_folder(folder, settings, resume=resume) as finished:
        if finished:
            return folder.read()
        with shown(progress, "autolabel") as show:
            return analyse(opened, labeled, unlabeled, validation, folder, settings=settings, progress=show)


def _bits(said: int | None, known: int | None) -> int | None:
    """The bits of grey files that the user said, or that the model knows. Raises ConfigError where they differ."""
    if said is not None and known is not None and said != known:
        raise ConfigError(f"bits is {said}, but the model was trained on grey pictures of {known} bits; leave bits out")
    return said or known


def held_out(images: object, *, share: float, seed: int) -> Mask:
    """A mask (n,) of those of `images` (an array or a list) that are held out. Raises SourceError, ConfigError."""
    if not 0 <= share <= 1:
        raise ConfigError(f"share is {share!r}; give a share of the images from 0 to 1, such as 0.2")
    return held_out_mask(ids_of(images), share=share, seed=seed)
