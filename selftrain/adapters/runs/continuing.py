"""Continuing: a run whose process is gone, and which its orchestrator goes on with in another pod.

A cluster replaces the pod of a run. The new one has an empty disk, and takes the finished steps from ZenML. A step that
ran in the pod itself is lost with it: ZenML fails the run there. So the run ends before it does anything, and is not
counted as one that failed by itself. The next run continues it from the cache.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from selftrain.errors import RunCutOffError

PUSHED_BY = {"ingest": "snapshot"}
"""What a step leaves on its pod's disk until another has stored it elsewhere."""


@dataclass(frozen=True)
class Begun:
    """A step of the run as this process found it; `inline`: it ran in the pod of the run."""

    name: str
    inline: bool
    running: bool
    finished_well: bool


def cut_off(steps: Iterable[Begun]) -> str | None:
    """The step whose work was lost with the pod that ran it; None where the run can go on.

    >>> cut_off([Begun("scan", inline=True, running=True, finished_well=False)])
    'scan'
    >>> cut_off([Begun("train_student", inline=False, running=True, finished_well=False)])
    """
    found = list(steps)
    done = {step.name for step in found if step.finished_well}
    lost = [step.name for step in found if step.inline and step.running]
    lost += [name for name, pushed_by in PUSHED_BY.items() if name in done and pushed_by not in done]
    return next(iter(lost), None)


def refuse_cut_off() -> None:
    """Raise RunCutOffError if this process continues a run of which a step was lost; ZenML's steps are marked."""
    from datetime import UTC, datetime

    from zenml.client import Client
    from zenml.enums import ExecutionStatus, StepRuntime
    from zenml.execution.pipeline.dynamic.run_context import DynamicPipelineRunContext
    from zenml.models import StepRunUpdate

    found = DynamicPipelineRunContext.get().run.steps
    begun = {
        step.id: Begun(
            name=name,
            inline=step.config.runtime is not StepRuntime.ISOLATED,
            running=not step.status.is_finished,
            finished_well=step.status.is_successful,
        )
        for name, step in found.items()
    }
    lost = cut_off(begun.values())
    if lost is None:
        return
    now = datetime.now(UTC).replace(tzinfo=None)
    for step_id, step in begun.items():
        if step.inline and step.running:
            Client().zen_store.update_run_step(step_id, StepRunUpdate(status=ExecutionStatus.FAILED, end_time=now))
    raise RunCutOffError(
        f"the pod of this run was lost with its step {lost!r}, so the run ends here; the next run takes what had been "
        "finished from the cache, and goes on"
    )
