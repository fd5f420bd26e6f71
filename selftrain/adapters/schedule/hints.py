"""Hints: what to know about a new schedule before its first night."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from selftrain.adapters.schedule.arranging import carried
from selftrain.adapters.schedule.store import Starter
from selftrain.config.text.file import read_experiment

TIMERS = ("systemd", "crontab")


def hints(
    starter: Starter, *, wanted: bool, lingers: bool, references: tuple[str, ...], environment: Mapping[str, str]
) -> list[str]:
    """A line for each thing that would keep a run from starting, or from finding what it needs.

    `wanted`: the foreground was asked for. `lingers`: systemd runs on when the user logs out. `references`: secrets of
    the configuration that lie in the environment.
    """
    said = []
    if starter == "foreground" and not wanted:
        said.append(
            "neither systemd nor cron runs here: keep `selftrain schedule --foreground` running, or nothing starts"
        )
    if starter == "systemd" and not lingers:
        said.append("systemd ends your timers when you log out; `loginctl enable-linger` keeps them")
    if starter in TIMERS and references:
        said.append(f"{starter} does not know your environment; use file: or zenml: for {', '.join(references)}")
    for name in carried(environment)[1]:
        said.append(f"{name} holds a password and is not kept with the schedule; put the password elsewhere")
    return said


def secrets_of_environment(config: Path | None) -> tuple[str, ...]:
    """The references `env:NAME` in the file `config`."""
    if config is None:
        return ()
    experiment = read_experiment(config)
    stored = experiment.inbox.secrets.values() if experiment.inbox is not None else ()
    used = [*stored, *filter(None, [experiment.notify.webhook])]
    return tuple(sorted({reference for reference in used if reference.startswith("env:")}))
