"""The pages: what stands in their blocks is a configuration, a call with arguments or a command with options there are.

A block that is neither YAML of an experiment nor Python nor a command is not looked at.
"""

from __future__ import annotations

import ast
import inspect
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main
import yaml

import selftrain
from selftrain import config
from selftrain.cli.app import app
from selftrain.config import Experiment, parse

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    ROOT / "README.md",
    *sorted(set((ROOT / "docs").glob("*.md")) - {ROOT / "docs" / "cli.md"}),
]  # that is generated
MAPS = ("CONTRIBUTING.md", "docs/architecture.md")
COMMAND = "selftrain "
CALLED = re.compile(r"selftrain\.\w+")
LINKING = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "benchmarks").rglob("*.md")),
]


PATH = r"`((?:selftrain|steps|pipelines|tests|docs|k8s)/[\w./-]*)`"
PLANNED = re.compile(rf"will lie in {PATH}")
NAMED = re.compile(rf"`(\w+)` in {PATH}")


def blocks(page: Path) -> Iterator[str]:
    """The indented blocks of a page, and what it fences, without their margin."""
    text = page.read_text(encoding="utf-8")
    for lines in re.findall(r"(?:^ {4}.*\n|^\n(?= {4}))+", text, re.MULTILINE):
        yield inspect.cleandoc(lines)
    yield from re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def of_pages() -> list[tuple[str, str]]:
    return [(page.name, block) for page in PAGES for block in blocks(page)]


def configurations() -> list[tuple[str, str]]:
    keys = tuple(f"{name}:" for name in Experiment.model_fields)
    return [(page, block) for page, block in of_pages() if block.startswith(keys)]


def calls() -> list[tuple[str, str]]:
    found = []
    for page, block in of_pages():
        try:
            tree = ast.parse(block)
        except SyntaxError:
            continue
        nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
        found += [(page, ast.unparse(node)) for node in nodes if CALLED.fullmatch(ast.unparse(node.func))]
    return found


def commands() -> list[tuple[str, str]]:
    lines = [
        (page, line.split("  #")[0].strip())
        for page, block in of_pages()
        for line in block.replace("\\\n", " ").splitlines()
    ]
    return [(page, line) for page, line in lines if line.startswith(COMMAND)]


def test_pages_have_examples_of_each_kind() -> None:
    assert len(configurations()) >= 5
    assert len(calls()) >= 6
    assert len(commands()) >= 10


@pytest.mark.parametrize(("page", "block"), configurations())
def test_a_configuration_in_a_page_is_one(page: str, block: str) -> None:
    parse(yaml.safe_load(block))


@pytest.mark.parametrize(("page", "call"), calls())
def test_a_call_in_a_page_fits_its_function_and_gives_it_what_it_needs(page: str, call: str) -> None:
    node = ast.parse(call, mode="eval").body
    assert isinstance(node, ast.Call)
    function = getattr(selftrain, ast.unparse(node.func).removeprefix("selftrain."))
    given = {keyword.arg: None for keyword in node.keywords if keyword.arg}
    inspect.signature(function).bind(*node.args, **given)


@pytest.mark.parametrize(("page", "line"), commands())
def test_the_options_of_a_command_in_a_page_are_its_own(page: str, line: str) -> None:
    words = [word for word in shlex.split(re.split(r" [|>&]|;", line)[0]) if word not in ("...", "[...]")][1:]
    command = typer.main.get_command(app)
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]
    options = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    unknown = [word for word in words if word.startswith("-") and word.split("=")[0] not in {*options, "--help"}]
    assert not unknown, f"{page}: {line}"
    alone = not hasattr(command, "commands") or (command.invoke_without_command and (words or command.name == "runs"))
    assert alone, f"{page}: {line} names no command"


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub names them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", LINKING, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_links_of_a_page_lead_to_files_and_headings_there_are(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)\s]+)\)", page.read_text(encoding="utf-8"))
    for path, _, anchor in (link.partition("#") for link in links):
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{path} is not there"
        assert not anchor or anchor in anchors(there), f"{path} has no heading {anchor}"


@pytest.mark.parametrize("page", MAPS)
def test_a_map_names_rooms_and_modules_there_are_and_says_which_will_come(page: str) -> None:
    text = " ".join((ROOT / page).read_text(encoding="utf-8").split())
    planned = set(PLANNED.findall(text))
    named = set(re.findall(PATH, text)) - planned
    assert len(named) >= 5
    assert not [path for path in named if not (ROOT / path).exists()]
    assert not [path for path in planned if (ROOT / path).exists()], "is built: tell what to touch there"


@pytest.mark.parametrize("page", MAPS)
def test_a_map_finds_a_name_in_the_module_it_points_to(page: str) -> None:
    text = " ".join((ROOT / page).read_text(encoding="utf-8").split())
    pairs = [(name, ROOT / path) for name, path in NAMED.findall(text) if path.endswith(".py")]
    assert not [f"{name} in {path}" for name, path in pairs if path.is_file() and name not in path.read_text()]


@pytest.mark.parametrize("recipe", ["Pretraining", "Distillation"])
def test_the_guide_lists_every_key_of_a_recipe_with_its_default(recipe: str) -> None:
    fields = getattr(config, recipe).model_fields
    text = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    for name, field in fields.items():
        default = str(field.default).lower() if isinstance(field.default, bool) else field.default
        shown = "none" if default is None else f"`{default}`"
        assert f"| `{name}` | {shown} |" in text


@pytest.mark.parametrize(
    ("section", "called"),
    [
        (config.Inbox, "inbox"),
        (config.Sampling, "inbox.sampling"),
        (config.Retrain, "retrain"),
        (config.Drift, "drift"),
        (config.Notify, "notify"),
    ],
)
def test_the_guide_to_production_lists_every_key_with_its_default(section: type[config.Section], called: str) -> None:
    text = (ROOT / "docs" / "production.md").read_text(encoding="utf-8")
    for name, field in section.model_fields.items():
        default = "required" if field.is_required() else field.get_default(call_default_factory=True)
        if isinstance(default, config.Sampling):
            continue  # its keys stand there themselves
        if isinstance(default, config.Triggers):
            default = default.model_dump(exclude_defaults=True)
        (shown,) = re.findall(rf"^\| `{called}\.{name}` \| (.*?) \|", text, re.MULTILINE)
        listed = None if shown == "none" else yaml.safe_load(shown.strip("`"))
        assert listed == (list(default) if isinstance(default, tuple) else default), f"{called}.{name}"
    conditions = text[text.index("| key of `any_of`") :]
    assert all(f"| `{name}` |" in conditions for name in config.Triggers.model_fields)
