"""The configuration file: YAML, read as an Experiment and changed without losing its comments."""

from __future__ import annotations

import difflib
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

import yaml

from selftrain.config import Experiment, parse
from selftrain.config.text.braces import changed_in_braces
from selftrain.errors import ConfigError
from selftrain.files.writing import replace_text

# The keys that ZenML reads in a run's file. It silently ignores all others.
RUN_KEYS = frozenset(
    {
        "build",
        "cache_policy",
        "cleanup_hook_source",
        "enable_artifact_metadata",
        "enable_artifact_visualization",
        "enable_cache",
        "enable_heartbeat",
        "enable_pipeline_logs",
        "enable_step_logs",
        "end_hook_source",
        "environment",
        "execution_mode",
        "extra",
        "failure_hook_source",
        "init_hook_kwargs",
        "init_hook_source",
        "model",
        "parameters",
        "pause_hook_source",
        "resume_hook_source",
        "retry",
        "run_name",
        "schedule",
        "secrets",
        "settings",
        "start_hook_source",
        "steps",
        "substitutions",
        "success_hook_source",
        "tags",
    }
)


def read_experiment(path: Path) -> Experiment:
    """The Experiment in the YAML file `path`, under `parameters: experiment:`.

    Raises ConfigError naming the file if it is missing, not YAML, or not an experiment.
    """
    return _parsed(path, _text(path))


def change_experiment(path: Path, values: Mapping[str, object], *, reasons: Mapping[str, str]) -> Experiment:
    """Set dotted keys such as "teacher.batch_size" in the file, all or none; returns the new Experiment.

    Comments, order and quotes stay. `reasons` become the comments beside the changed keys, or above a section in
    braces. Raises ConfigError for a file that cannot be read, changed or written, and for a value that is not allowed.
    The file then stays as it was.
    """
    text = _text(path)
    _parsed(path, text)
    changed = _changed(text, values, reasons)
    experiment = _parsed(path, changed)
    if yaml.safe_load(changed) != _expected(text, values):
        raise ConfigError(f"{path} is too unusual to be changed by a program; set {dict(values)} in it yourself")
    try:
        replace_text(path, changed)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written ({error.strerror}); set {dict(values)} in it yourself") from error
    return experiment


@contextmanager
def overridden_copy(path: Path | None, values: Mapping[str, object]) -> Iterator[Path]:
    """A copy of the file `path` (None: of an empty one) with dotted keys set, which exists while the block runs.

    The file itself stays as it is, and the copy has no comments. Raises ConfigError for a file that is not a
    configuration, and for a value that is not allowed.
    """
    text = "parameters: {experiment: {}}" if path is None else _text(path)
    named = path or Path("experiment.yaml")
    _parsed(named, text)
    changed = yaml.safe_dump(_expected(text, values))
    _parsed(named, changed)
    with tempfile.TemporaryDirectory(prefix="selftrain-") as folder:
        copy = Path(folder, named.name)
        copy.write_text(changed, encoding="utf-8")
        yield copy


def _text(path: Path) -> str:
    if not path.is_file():
        raise ConfigError(f"{path} is not a file; `selftrain init` writes a configuration, and configs/ has examples")
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from error


def _parsed(path: Path, text: str) -> Experiment:
    try:
        _refuse_repeated(path, yaml.compose(text, Loader=yaml.SafeLoader))
        content: Any = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict) or not isinstance(content.get("parameters", {}), dict):
        raise ConfigError(f"{path} has no `parameters:` section; see configs/digits.yaml")
    _refuse_unknown(path, content, RUN_KEYS, "at the top")
    _refuse_unknown(path, content.get("parameters", {}), frozenset({"experiment"}), "under `parameters`")
    experiment = content.get("parameters", {}).get("experiment")
    try:
        return parse({} if experiment is None else experiment)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error.message}") from error


def _refuse_repeated(path: Path, root: yaml.Node | None) -> None:
    """Raise ConfigError for a key that stands twice in one mapping: YAML would silently take the last."""
    for mapping in _mappings(root):
        lines: dict[str, int] = {}
        for key, _ in mapping.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in lines:
                raise ConfigError(
                    f"{path}: the key {key.value!r} in line {line} stands in line {lines[key.value]} already; keep one"
                )
            lines[key.value] = line


def _mappings(root: yaml.Node | None) -> Iterator[yaml.MappingNode]:
    """The mappings below `root`, each once: an alias leads to a node again."""
    nodes, visited = [root], set[int]()
    while nodes:
        node = nodes.pop()
        if id(node) in visited or not isinstance(node, yaml.CollectionNode):
            continue
        visited.add(id(node))
        if isinstance(node, yaml.MappingNode):
            yield node
            nodes += [value for _, value in node.value]
        else:
            nodes += node.value


def _refuse_unknown(path: Path, content: Mapping[str, object], allowed: frozenset[str], where: str) -> None:
    for key in content:
        if key not in allowed:
            if key in Experiment.model_fields:
                raise ConfigError(f"{path}: {key!r} is {where}; it belongs under `parameters: experiment:`")
            near = difflib.get_close_matches(str(key), sorted(allowed), n=1, cutoff=0.0)[0]
            raise ConfigError(f"{path}: unknown key {key!r} {where}; did you mean {near!r}?")


def _expected(text: str, values: Mapping[str, object]) -> Any:
    content = _unshared(yaml.safe_load(text))
    for key, value in values.items():
        path = ("parameters", "experiment", *key.split("."))
        node = content
        for section in path[:-1]:
            node[section] = node.get(section) or {}
            node = node[section]
        node[path[-1]] = value
    return content


def _unshared(node: Any) -> Any:
    """A copy without aliases: what they repeat is written out."""
    return {key: _unshared(value) for key, value in node.items()} if isinstance(node, dict) else node


def _changed(text: str, values: Mapping[str, object], reasons: Mapping[str, str]) -> str:
    from ruamel.yaml import YAML
    from ruamel.yaml.comments import CommentedMap

    elsewhere = {}
    for key, value in values.items():
        path, reason = ("parameters", "experiment", *key.split(".")), reasons.get(key, "")
        changed = changed_in_braces(text, path, _as_text(value), reason=reason)
        text = text if changed is None else changed
        if changed is None:
            elsewhere[path] = _as_text(value), reason
    if not elsewhere:
        return text
    editor = YAML()
    editor.preserve_quotes = True
    editor.width = 4096
    root: Any = editor.load(text)
    for path, (value, reason) in elsewhere.items():
        node = root
        for section in path[:-1]:
            if node.get(section) is None:
                node[section] = CommentedMap()
            node = node[section]
        node[path[-1]] = editor.load(value)
        _comment(node, path[-1], reason)
    dumped = StringIO()
    editor.dump(root, dumped)
    return dumped.getvalue()


def _as_text(value: object) -> str:
    """`value` as text that every YAML version reads alike. YAML 1.1 reads 1e-05 as a string."""
    if isinstance(value, float):
        import numpy as np

        return np.format_float_positional(value, trim="0")
    return yaml.safe_dump([value], default_flow_style=True, width=4096, allow_unicode=True).strip()[1:-1]


def _comment(node: Any, name: str, reason: str) -> None:
    """Put `reason` beside the key; comment lines below it stay where they are."""
    if not reason:
        return
    token = node.ca.items.get(name, [None] * 4)[2]
    following = token.value[token.value.index("\n") :] if token is not None and "\n" in token.value else ""
    node.yaml_add_eol_comment(" ".join(reason.split()), name)
    if following:
        added = node.ca.items[name][2]
        added.value = added.value.rstrip("\n") + following
