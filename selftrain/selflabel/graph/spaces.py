"""Feature spaces of a graph, beside that of the teacher: frozen networks with published weights."""

from __future__ import annotations

from selftrain.config import Experiment, Recipe, Student
from selftrain.config.section import Section


class NetworkSpace(Section):
    """The features of a network with published `weights`, or of a preset of KerasHub, which brings its own (None).

    `content` identifies a weights file or a preset.
    """

    name: str
    backbone: str
    weights: str | None
    image_size: int
    reduce_strides: bool = True
    content: str = ""

    @property
    def column(self) -> str:
        """The column of its features in a teacher's answers."""
        return f"features of {self.name}"


class Spaces(Section):
    """The spaces that labels are spread in, beside that of the teacher's own features."""

    networks: tuple[NetworkSpace, ...] = ()


NO_SPACES = Spaces()


def spaces_of(e: Experiment, student: Student, backbone: str) -> Spaces:
    """The spaces of a round whose student has the recipe `student` and the `backbone`.

    They are those of the networks that the first teacher and the student keep frozen, whose features are needed anyway.
    Which of them are the teacher's own is found when it labels. There are none where labels are not spread.
    """
    if e.pseudo_label.labeler != "propagate":
        return Spaces()
    found = _frozen("the student's network", student, backbone, e)
    if e.teacher.start == "train" and (e.teacher.backbone, e.teacher.weights) != (backbone, student.weights):
        found += _frozen("the first teacher's network", e.teacher, e.teacher.backbone, e)
    return Spaces(networks=tuple(found))


def _frozen(name: str, recipe: Recipe, backbone: str, e: Experiment) -> list[NetworkSpace]:
    if not recipe.fits_only:
        return []
    return [
        NetworkSpace(
            name=name,
            backbone=backbone,
            weights=recipe.weights,
            image_size=e.image_size,
            reduce_strides=recipe.reduce_strides,
        )
    ]
