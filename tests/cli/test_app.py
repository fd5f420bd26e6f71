"""The command line: what each command prints, where, and how it ends."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from selftrain.config.text.file import read_experiment
from selftrain.data.sources.source import open_source

Paint = Callable[..., Path]
HEAVY = {"tensorflow", "keras", "mlflow", "zenml", "matplotlib", "great_expectations", "dvc", "pyarrow"}
Command = Callable[..., Any]  # tests/conftest.py, selftrain


@pytest.fixture
def pets(tmp_path: Path, paint: Paint) -> Path:
    for k in range(8):
        paint(tmp_path / "pets" / "labeled" / "cat" / f"{k}.png", "red", seed=k)
        paint(tmp_path / "pets" / "labeled" / "dog" / f"{k}.png", "blue", seed=k)
    for k in range(40):
        paint(tmp_path / "pets" / "unlabeled" / f"{k}.png", "blue", seed=100 + k)
    return Path("pets")


def test_init_writes_a_configuration_and_says_what_it_saw(selftrain: Command, pets: Path) -> None:
    ended = selftrain("init", "--labeled", pets / "labeled", "--unlabeled", pets / "unlabeled")
    assert ended.code == 0
    assert "2 classes, 16 labelled images: cat 8, dog 8" in ended.out
    assert "selftrain run --config pets.yaml" in ended.out
    assert read_experiment(Path("pets.yaml")).source.model_dump()["labeled"] == "pets/labeled"
    assert "selftrain init --labeled pets/labeled" in Path("pets.yaml").read_text()


def test_init_gives_its_facts_as_json(selftrain: Command, pets: Path) -> None:
    folders = ["--labeled", pets / "labeled", "--unlabeled", pets / "unlabeled"]
    ended = selftrain("init", *folders, "--out", "new/x.yaml", "--name", "my-pets", "--target", ".8", "--json")
    facts = json.loads(ended.out)
    assert facts["survey"]["classes"] == {"cat": 8, "dog": 8}
    assert facts["path"] == "new/x.yaml"
    assert (facts["experiment"]["name"], facts["experiment"]["gate"]["target"]) == ("my-pets", 0.8)


def test_init_replaces_nothing_without_force(selftrain: Command, pets: Path) -> None:
    folders = ["--labeled", pets / "labeled", "--unlabeled", pets / "unlabeled"]
    assert selftrain("init", *folders).code == 0
    Path("pets.yaml").write_text("mine")
    again = selftrain("init", *folders)
    assert (again.code, again.out) == (2, "")
    assert "exists and was left as it is" in again.err
    assert Path("pets.yaml").read_text() == "mine"
    assert selftrain("init", *folders, "--force").code == 0


def test_init_takes_a_list_or_finds_the_splits_of_a_download(selftrain: Command, pets: Path) -> None:
    pictures = sorted(pets.rglob("*.png"))
    rows = [f"{path.relative_to(pets)},{path.parent.name.replace('unlabeled', '-1')}" for path in pictures]
    (pets / "list.csv").write_text("\n".join(["filename,class", *rows]))
    ended = selftrain("init", "--table", pets / "list.csv")
    assert (ended.code, ended.err) == (0, "")
    assert "note: 40 rows have no label: they say '-1'" in ended.out
    assert read_experiment(Path("list.yaml")).source.model_dump()["path"] == "pets/list.csv"
    (pets / "labeled").rename(pets / "train")
    (pets / "list.csv").unlink()
    assert selftrain("init", "--labeled", "pets", "--splits", "auto").code == 0
    assert read_experiment(Path("pets.yaml")).source.model_dump()["unlabeled"] == "pets/unlabeled"


def test_init_asks_about_a_class_whose_name_may_mean_that_nobody_has_looked(selftrain: Command, pets: Path) -> None:
    (pets / "labeled" / "cat").rename(pets / "labeled" / "unknown")
    folders = ["--labeled", pets / "labeled", "--unlabeled", pets / "unlabeled"]
    asked = selftrain("init", *folders)
    assert (asked.code, asked.out) == (2, "")
    assert "'unknown' of 8 images: is that a class, or have they no label?" in asked.err
    assert selftrain("init", *folders, "--class", "unknown").code == 0


def test_init_takes_none_for_a_class_where_it_is_said_to_be_one(selftrain: Command, pets: Path) -> None:
    pictures = sorted((pets / "labeled").rglob("*.png"))
    labels = ["none" if path.parent.name == "cat" else path.parent.name for path in pictures]
    images = [{"bytes": path.read_bytes(), "path": path.name} for path in pictures]
    pq.write_table(pa.table({"image": images, "label": labels}), pets / "pets.parquet")
    given = ["--labeled", pets / "pets.parquet", "--unlabeled", pets / "unlabeled"]
    refused = selftrain("init", *given)
    assert (refused.code, refused.out) == (2, "")
    assert "have no label: they say 'none'; if that is a class," in refused.err
    assert selftrain("init", *given, "--class", "none").code == 0
    source = read_experiment(Path("pets.yaml")).source
    assert set(open_source(source).scan().table["label"].to_pylist()) == {"none", "dog", None}


def test_init_takes_a_doubtful_word_of_a_list_for_a_class_where_it_is_said_to_be_one(
    selftrain: Command, pets: Path
) -> None:
    rows = [f"{path.relative_to(pets)},{path.parent.name.replace('cat', 'unknown')}" for path in pets.rglob("*.png")]
    (pets / "list.csv").write_text("\n".join(["path,label", *(row.replace(",unlabeled", ",") for row in rows)]))
    given = ["--table", pets / "list.csv"]
    assert "give --class to `selftrain init`" in selftrain("init", *given).err
    assert "2 classes, 16 labelled images: dog 8, unknown 8" in selftrain("init", *given, "--class", "unknown").out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("init", "--labeled", "gone", "--unlabeled", "pets/unlabeled"), "'gone' is not a folder"),
        (("init", "--labeled", "pets/unlabeled", "--unlabeled", "pets/labeled"), "holds no class folders"),
        (("init", "--labeled", "pets/labeled", "--unlabeled", "pets/labeled"), "are the same place"),
        (
            ("init", "--labeled", "pets/labeled", "--unlabeled", "pets/unlabeled", "--teacher-backbone", "resnet"),
            "did you mean",
        ),
        (("init", "--labeled", "pets/labeled", "--unlabeled", "pets/unlabeled", "--name", "a b"), "name: "),
        (("run", "--config", "gone.yaml"), "gone.yaml is not a file"),
        (("predict", "gone.png"), ""),
        (("pseudo-label", "--model", "m", "--images", "gone", "--out", "x.csv"), "gone is not a folder"),
        (("pseudo-label", "--model", "m", "--images", "pets", "--out", "x.csv"), "'m' is not a model"),
        (
            ("pseudo-label", "--model", "m", "--images", "pets", "--out", "x.csv", "--per-class", "cat"),
            "'cat' is not CLASS=SHARE",
        ),
        (
            ("pseudo-label", "--model", "m", "--images", "pets", "--out", "x.csv", "--per-class", "cat=2"),
            "share from 0 to 1",
        ),
        (("pseudo-label", "--model", "models:/x", "--images", "pets", "--out", "x.csv"), "not a model address"),
        (("promote", "--force"), "add --why"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(
    selftrain: Command, pets: Path, arguments: tuple[str, ...], said: str
) -> None:
    ended = selftrain(*arguments)
    assert ended.code == 2
    assert said in ended.err
    assert len(ended.err.splitlines()) <= 1
    assert "Traceback" not in ended.err


@pytest.mark.parametrize("arguments", [("predict",), ("nonsense",), ("predict", "x", "--version", "0")])
def test_what_cannot_be_parsed_is_exit_code_2(selftrain: Command, arguments: tuple[str, ...]) -> None:
    assert selftrain(*arguments).code == 2


def test_predict_names_each_path_that_is_not_there(selftrain: Command) -> None:
    ended = selftrain("predict", "gone.png", "away", "--json")
    assert ended.code == 2
    assert [(row["path"], row["label"], row["error"]) for row in json.loads(ended.out)] == [
        ("gone.png", None, "no such file or folder"), ("away", None, "no such file or folder"),
    ]  # fmt: skip


def test_importing_the_command_line_loads_nothing_heavy() -> None:
    code = f"import sys, selftrain.cli.app; print(sorted({HEAVY} & set(sys.modules)))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_the_version_is_printed_and_loads_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from selftrain.cli.app import main\n"
        "sys.argv = ['selftrain', '--version']\n"
        "try:\n    main()\n"
        "finally:\n"
        f"    print(sorted({HEAVY} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.splitlines() == ["selftrain 0.1.0", "[]"]


def test_a_run_of_an_earlier_version_is_a_line_of_the_list_that_says_so() -> None:
    from selftrain.adapters.runs.records import EARLIER
    from selftrain.cli.app import run_row
    from selftrain.selflabel.rounds.record import RunRecord

    old = RunRecord(run_id="r", name="digits", status="completed", error=EARLIER)
    assert run_row(old) == ("r", "digits", "completed", "-", "-", "-", "made by an earlier version of selftrain")
    new = RunRecord(run_id="r", name="digits", status="failed", test_accuracy=0.9, registered_version=3)
    assert run_row(new) == ("r", "digits", "failed", "-", "0", "90.0 %", "3")
