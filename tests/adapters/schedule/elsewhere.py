"""A stack that runs elsewhere: its orchestrator has schedules and notes what it is told, its alerter posts to a file.

`python -m tests.adapters.schedule.elsewhere` does what the test asks, on the ZenML store of its environment.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

from zenml import pipeline
from zenml.alerter import BaseAlerter, BaseAlerterFlavor
from zenml.client import Client
from zenml.config.base_settings import BaseSettings
from zenml.enums import StackComponentType as Kind
from zenml.integrations.kubernetes.flavors.kubernetes_orchestrator_flavor import KubernetesOrchestratorSettings
from zenml.models import PipelineSnapshotResponse, ScheduleResponse, ScheduleUpdate
from zenml.orchestrators import BaseOrchestrator, BaseOrchestratorConfig, BaseOrchestratorFlavor, SubmissionResult
from zenml.utils import source_utils

from selftrain.adapters.notices.sending import notify
from selftrain.adapters.schedule import zenml
from selftrain.config.production import Notify
from selftrain.errors import ScheduleError

NOTES, POSTS = Path("notes"), Path("posts")


def note(**told: Any) -> None:
    with NOTES.open("a") as file:
        file.write(f"{json.dumps(told)}\n")


class NightSettings(BaseSettings):
    concurrency_policy: str | None = None
    starting_deadline_seconds: int | None = None


class NightConfig(BaseOrchestratorConfig, NightSettings):
    @property
    def is_schedulable(self) -> bool:
        return True


class NightOrchestrator(BaseOrchestrator):
    """Notes the schedules that it is given, changed and relieved of."""

    @property
    def settings_class(self) -> type[BaseSettings]:
        return NightSettings

    def submit_dynamic_pipeline(
        self, snapshot: PipelineSnapshotResponse, *_: object, **__: object
    ) -> SubmissionResult | None:
        settings = self.get_settings(snapshot)
        assert isinstance(settings, NightSettings)
        note(cron=snapshot.schedule.cron_expression if snapshot.schedule else None, **settings.model_dump())
        return None

    def update_schedule(self, schedule: ScheduleResponse, update: ScheduleUpdate) -> None:
        note(active=update.active)

    def delete_schedule(self, schedule: ScheduleResponse) -> None:
        note(deleted=schedule.name)

    def get_orchestrator_run_id(self) -> str:
        return str(uuid4())


class NightFlavor(BaseOrchestratorFlavor):
    @property
    def name(self) -> str:
        return "night"

    @property
    def config_class(self) -> type[NightConfig]:
        return NightConfig

    @property
    def implementation_class(self) -> type[NightOrchestrator]:
        return NightOrchestrator


class Board(BaseAlerter):
    """Posts to a file, until there is a folder in its place."""

    def post(self, message: str, params: object = None) -> bool:
        if POSTS.is_dir():
            return False
        POSTS.write_text(message)
        return True


class BoardFlavor(BaseAlerterFlavor):
    @property
    def name(self) -> str:
        return "board"

    @property
    def implementation_class(self) -> type[Board]:
        return Board


@pipeline(dynamic=True)
def nightly() -> None:
    """A pipeline."""


def main() -> None:
    """What happened, as JSON on the standard output."""
    client, here = Client(), "tests.adapters.schedule.elsewhere"
    answers: dict[str, Any] = {"default": zenml.runs()}
    add_stack(client, here)
    client.activate_stack("night")
    answers |= {"night": zenml.runs(), "kubernetes": zenml.settings_for("kubernetes", KubernetesOrchestratorSettings)}
    try:
        zenml.put(lambda: nightly, "pets", cron="0 3 * * *", time_zone="Europe/Berlin", config=None)
    except ScheduleError as error:
        answers["zone"] = error.message
    for hour in (3, 4):
        zenml.put(lambda: nightly, "pets", cron=f"0 {hour} * * *", time_zone="UTC", config=None)
    zenml.set_active("pets", active=False)
    answers["schedules"] = [(each.name, each.cron_expression) for each in client.list_schedules().items]
    zenml.take("pets")
    zenml.take("pets")
    notes = [json.loads(line) for line in NOTES.read_text().splitlines()]
    answers |= {"left": client.list_schedules().total, "notes": notes, "told": tell()}
    sys.stdout.write(json.dumps(answers))


def add_stack(client: Client, here: str) -> None:
    """The stack `night`: the default one with our orchestrator and our alerter."""
    client.create_flavor(f"{here}.NightFlavor", Kind.ORCHESTRATOR)
    client.create_flavor(f"{here}.BoardFlavor", Kind.ALERTER)
    client.create_stack_component("night", "night", Kind.ORCHESTRATOR, {})
    client.create_stack_component("board", "board", Kind.ALERTER, {})
    parts = {kind: found[0].name for kind, found in client.active_stack_model.components.items()}
    client.create_stack("night", {**parts, Kind.ORCHESTRATOR: "night", Kind.ALERTER: "board"})


def tell() -> dict[str, Any]:
    """A notice that the alerter takes, and one that it does not."""
    record = Path("notices.jsonl")
    notify("failed", {"run": "abc"}, settings=Notify(), record=record)
    said = POSTS.read_text()
    POSTS.unlink()
    POSTS.mkdir()
    notify("failed", {"run": "abc"}, settings=Notify(), record=record)
    lines = [json.loads(line) for line in record.read_text().splitlines()]
    return {"said": said, "errors": [line["error"] for line in lines], "by": [line["channel"] for line in lines]}


if __name__ == "__main__":
    source_utils.set_custom_source_root(str(Path(__file__).parents[3]))  # the flavours are found from there
    main()
