"""Commented configuration: an experiment as YAML for `selftrain run --config`, with a reason beside each choice."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selftrain.config import Experiment
from selftrain.errors import ConfigError
from selftrain.files.places import check_folder
from selftrain.files.writing import replace_text

_UNPRINTABLE = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ud800-\udfff]")  # YAML escapes them, JSON does not
_PLAIN = re.compile(r"[A-Za-z./_][A-Za-z0-9./_-]*[A-Za-z]|[A-Za-z]+(_[a-z0-9]+)*")
_YAML_WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})


@dataclass(frozen=True)
class Commented:
    """An experiment, the reasons for the (dotted) keys to write, and notes for the header."""

    experiment: Experiment
    reasons: Mapping[str, str]
    notes: tuple[str, ...] = ()


def check_free(path: Path, *, force: bool) -> None:
    """Raise ConfigError if `path` cannot be written or is a folder, or is a file and `force` is False."""
    check_folder(path.parent, option="--out")
    if path.is_dir() or (path.exists() and not force):
        raise ConfigError(f"{path} exists and was left as it is; give another --out, or --force to replace it")


def write_commented(commented: Commented, path: Path, *, command: str) -> None:
    """Write the YAML to `path`, whole or not at all. Raises ConfigError where it cannot be written."""
    text = render_commented(commented, path, command=command)
    try:
        replace_text(path, text)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written ({error.strerror}); give another --out") from error


def render_commented(commented: Commented, path: Path, *, command: str) -> str:
    """The YAML that `selftrain run` and ZenML read, a reason beside each choice; `path` is its place."""
    experiment, there = commented.experiment, _one_line(shlex.quote(str(path)))
    header = [
        f"{experiment.name}: written by `{_one_line(command)}`",
        "",
        f"Command    selftrain run --config {there}      (or: zenml pipeline run ssl_pipeline --config {there})",
        f"Hardware   {_cores()}",
        "Expected   unknown until run; write the test accuracy here",
        *(["", *(f"Note       {_one_line(note)}" for note in commented.notes)] if commented.notes else []),
        "",
        "Relative folders start from where you give the command. Keys that are not here have their defaults.",
    ]
    lines = [f"# {line}".rstrip() for line in header]
    lines += ["parameters:", "  experiment:"]
    values = experiment.model_dump(mode="json")
    keys = (*_source_keys(values["source"]), *commented.reasons)
    lines += _yaml({key: _at(values, key) for key in keys}, commented.reasons, indent=4)
    return "\n".join(lines) + "\n"


def _source_keys(source: Mapping[str, object]) -> list[str]:
    return [f"source.{key}" for key, value in source.items() if value is not None]


def _at(values: Mapping[str, Any], key: str) -> object:
    for name in key.split("."):
        values = values[name]
    return values


def _yaml(chosen: Mapping[str, object], reasons: Mapping[str, str], *, indent: int) -> list[str]:
    """Lines of YAML for dotted keys, grouped by section. Each has its reason as a comment."""
    lines: list[str] = []
    sections: dict[str, list[str]] = {"": []}
    for key, value in chosen.items():
        section, _, name = key.rpartition(".")
        text = f"{name}: {_scalar(value)}"
        reason = f"  # {_one_line(reasons[key])}" if reasons.get(key) else ""
        sections.setdefault(section, []).append(text + reason)
    for section, members in sections.items():
        if section:
            lines.append(" " * indent + f"{section}:")
        lines += [" " * (indent + (2 if section else 0)) + member for member in members]
    return lines


def _scalar(value: object) -> str:
    """`value` as a plain word where YAML reads it as one, else as JSON, which YAML reads too.

    >>> _scalar("photos/labeled"), _scalar("no"), _scalar("fleurs: été"), _scalar({"value": 0.9}), _scalar(None)
    ('photos/labeled', '"no"', '"fleurs: été"', '{"value": 0.9}', 'null')
    """
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _YAML_WORDS:
        return value
    return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(value, ensure_ascii=False))


def _one_line(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in " ".join(text.split()))


def _cores() -> str:
    count = os.cpu_count() or 1
    return f"{count} core{'s' if count > 1 else ''} where it was written"
