"""The start of a retraining: the champion teaches, and the student stays as large as in the first run."""

from __future__ import annotations

from selftrain.config import Experiment


def from_champion(e: Experiment, version: int) -> Experiment:
    """`e` with `version`, the champion, as its first teacher, unless `teacher.start` names another model.

    The student's network is the one that `e` trains when its own teacher teaches: without that, each retraining would
    train one rung more than the champion, which is a student itself. A detector's student has its teacher's network.
    """
    if e.teacher.start not in ("train", "champion"):
        return e
    if e.task == "detection":
        return e.model_copy(update=_teaching(e, version))
    student = e.student.backbone_after(e.teacher.backbone)
    own = e.student.model_copy(update={"backbone": student, "start": _start(e)})
    return e.model_copy(update={**_teaching(e, version), "student": own})


def _teaching(e: Experiment, version: int) -> dict[str, object]:
    """The sections that make `version` of the model the first teacher."""
    return {
        "teacher": e.teacher.model_copy(update={"start": "champion"}),
        "retrain": e.retrain.model_copy(update={"from_version": version}),
    }


def _start(e: Experiment) -> str:
    """A student that goes on from its teacher does so from a teacher that is a student: their networks are the same."""
    return "student" if e.student.start == "teacher" else e.student.start
