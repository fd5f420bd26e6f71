"""The reference page: up to date, whole, and the same everywhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from selftrain.cli.app import app
from selftrain.cli.reference import reference

PAGE = Path(__file__).resolve().parents[2] / "docs" / "cli.md"
GROUPS = {name: command for name, command in get_command(app).commands.items() if hasattr(command, "commands")}
INNER = {f"{group} {name}": each for group, command in GROUPS.items() for name, each in command.commands.items()}
COMMANDS = {name: each for name, each in {**get_command(app).commands, **INNER}.items() if not each.hidden}


def test_the_page_is_what_the_commands_say_now() -> None:
    assert PAGE.read_text(encoding="utf-8") == reference(), "run: python -m selftrain.cli.reference docs/cli.md"


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_and_each_of_its_options_is_on_the_page_with_its_meaning(name: str) -> None:
    sections = re.split(r"\n(?=###? )", PAGE.read_text(encoding="utf-8"))
    (section,) = [each for each in sections if each.splitlines()[0].lstrip("# ") == name]
    command = COMMANDS[name]
    assert " ".join((command.help or "?").split()) in " ".join(section.split())
    for parameter in command.params:
        spelled = parameter.opts[0] if parameter.param_type_name == "option" else None
        if spelled not in (None, "--help"):
            (row,) = [line for line in section.splitlines() if re.match(rf"\| `{spelled}[ `,]", line)]
            assert len(row.split("|")[2].strip()) > 8


def test_the_page_does_not_depend_on_the_terminal() -> None:
    small = {**os.environ, "COLUMNS": "30", "LC_ALL": "C", "NO_COLOR": "1"}
    command = [sys.executable, "-X", "utf8", "-m", "selftrain.cli.reference"]
    shown = subprocess.run(command, capture_output=True, check=True, env=small, cwd=PAGE.parents[1])
    assert shown.stdout.decode() == reference()
