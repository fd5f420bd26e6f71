"""A schedule of ZenML, on a stack whose orchestrator has schedules."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING

from selftrain.adapters.process.console import logs_to_stderr
from selftrain.adapters.process.settings import prepare_process, stack_is_set
from selftrain.errors import ScheduleError

if TYPE_CHECKING:
    from zenml.orchestrators import BaseOrchestrator
    from zenml.pipelines.pipeline_definition import Pipeline

DEADLINE_S = 6 * 3600
"""How late a run may start, in seconds; what was missed for longer waits for its next time."""
FORBID: dict[str, str | int] = {"concurrency_policy": "Forbid", "starting_deadline_seconds": DEADLINE_S}


def runs() -> bool:
    """Whether the orchestrator of ZenML's active stack has schedules."""
    return stack_is_set() and bool(_orchestrator().config.is_schedulable)


def put(load_pipeline: Callable[[], Pipeline], name: str, *, cron: str, time_zone: str, config: Path | None) -> None:
    """Give the active stack a schedule `name` for the pipeline, configured by `config`; replaces one of that name.

    A run does not start while another goes on, where the orchestrator can be told so. Raises ScheduleError for a time
    zone other than UTC: ZenML's schedules have none.
    """
    if time_zone != "UTC":
        raise ScheduleError(
            f"schedules of ZenML have no time zone, and {time_zone!r} was asked for; give --time-zone UTC and hours in "
            "UTC, or --foreground"
        )
    prepare_process()
    from zenml.config.schedule import Schedule

    orchestrator = _orchestrator()
    settings = settings_for(orchestrator.flavor, orchestrator.settings_class)
    take(name)
    schedule = Schedule(name=name, cron_expression=cron, catchup=False)
    path = str(config) if config is not None else None
    load_pipeline().with_options(config_path=path, schedule=schedule, settings=settings)()


def take(name: str) -> None:
    """Remove the schedule `name`, if it is there. Raises ScheduleError where the orchestrator cannot."""
    from zenml.client import Client

    if not holds(name):
        return
    if not _orchestrator().supports_schedule_deletion:  # ZenML would forget it, and it would run on
        raise ScheduleError(
            f"the orchestrator of the active stack cannot remove the schedule {name!r}; remove it there, then use "
            f"`zenml pipeline schedule delete {name}`"
        )
    Client().delete_schedule(name)


def holds(name: str) -> bool:
    """Whether ZenML has a schedule `name`."""
    from zenml.client import Client

    return bool(Client().list_schedules(name=name).total)


def set_active(name: str, *, active: bool) -> None:
    """Pause or resume the schedule `name`. Raises ScheduleError where the orchestrator cannot."""
    from zenml.client import Client

    if not _orchestrator().supports_schedule_updates:
        raise ScheduleError(f"the orchestrator of the active stack cannot pause {name!r}; use schedule remove")
    Client().update_schedule(name, active=active)


def settings_for(flavor: str, settings: type | None) -> dict[str, dict[str, str | int]]:
    """Settings that keep two runs from overlapping, of those that the orchestrator `flavor` has."""
    fields: Collection[str] = getattr(settings, "model_fields", {})
    known = {name: value for name, value in FORBID.items() if name in fields}
    return {f"orchestrator.{flavor}": known} if known else {}


def _orchestrator() -> BaseOrchestrator:
    from zenml.client import Client
    from zenml.enums import StackComponentType
    from zenml.orchestrators import BaseOrchestrator

    logs_to_stderr()
    return BaseOrchestrator.from_model(Client().active_stack_model.components[StackComponentType.ORCHESTRATOR][0])
