"""The learning benchmarks: what a draw shows and hides, what is counted, and what is kept."""

from __future__ import annotations

import datetime
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from pydantic import BaseModel

from benchmarks import draws, kept
from benchmarks.machine import this_machine
from benchmarks.photos import SkippedError
from benchmarks.record import RESULTS, Record, Result, Table, page, read, write
from benchmarks.rows import Labelled, Row, gains, mean, precise_enough, surely_worse, table
from selftrain.config import DigitsSource
from selftrain.evaluate.evaluation import Comparison
from selftrain.evaluate.statistics.intervals import Interval, paired_difference, wilson

TEST = 100


def compared(better: int, worse: int) -> Comparison:
    """A model against a reference that are both right on 60 of the images, and one alone on `better` and `worse`."""
    neither = TEST - 60 - better - worse
    return Comparison(
        reference=(60 + worse) / TEST,
        reference_interval=wilson(60 + worse, TEST),
        difference=(better - worse) / TEST,
        difference_interval=paired_difference(both=60, only_first=better, only_second=worse, neither=neither),
        n10=better,
        n01=worse,
        p_value=1.0,
        alpha=0.05,
    )


def row(
    seed: int,
    teacher: Comparison,
    control: Comparison | None,
    *,
    precise: tuple[Labelled, ...] = (Labelled(accepted=10, right=9),),
    promoted: tuple[Comparison, ...] = (),
    best_round: int | None = None,
    configuration: str = "c0ffee",
) -> Row:
    """The student of round 1 is the best model if there is a control, and else the first teacher, unless it says so."""
    accuracy = teacher.reference + teacher.difference
    return Row(
        task="10 labels a class",
        seed=seed,
        configuration=configuration,
        training_labels=100,
        validation_labels=50,
        pool=1_000,
        test=TEST,
        near_copies_left_out=0,
        accuracy=accuracy,
        interval=Interval(0.0, 1.0),
        teacher=teacher,
        control=control,
        promoted=promoted,
        rounds=1,
        best_round=(0 if control is None else 1) if best_round is None else best_round,
        verdict="exhausted",
        validation=(0.6, 0.7),
        used=(Labelled(accepted=800, right=700),),
        precise=precise,
        image_steps=2_000_000,
        control_image_steps=2_000_000,
        training_seconds=60.0,
        control_seconds=60.0,
        seconds=150.0,
        machine="two cores",
        date=datetime.date(2026, 11, 21),
        commit="c0de",
    )


def test_a_draw_shows_no_label_of_its_pool_and_hides_the_right_ones() -> None:
    from sklearn.datasets import load_digits

    drawn = draws.digits(DigitsSource(labeled=200, seed=3))
    listing = drawn.source.scan().table
    splits = dict(zip(listing["path"].to_pylist(), listing["split"].to_pylist(), strict=True))
    labels = dict(zip(listing["path"].to_pylist(), listing["label"].to_pylist(), strict=True))
    assert set(drawn.hidden) == {path for path, split in splits.items() if split == "unlabeled"}
    assert all(labels[path] is None for path in drawn.hidden)
    assert len(drawn.hidden) == 1_797 - 200 - 150 - 400
    truth = load_digits().target
    assert all(int(label) == truth[int(path[6:10])] for path, label in drawn.hidden.items())


@pytest.mark.data
def test_cifar10_is_drawn_by_the_order_of_its_archive() -> None:
    drawn = _or_skip(lambda: draws.cifar10(labeled=30, unlabeled=50, test=20))
    listing = drawn.source.scan().table
    assert listing["split"].to_pylist() == ["test"] * 20 + [None] * 30 + ["unlabeled"] * 50
    assert sorted(drawn.hidden) == [f"train-{number:06d}.png" for number in range(30, 80)]
    assert drawn.source.read("train-000000.png").startswith(b"\x89PNG")
    assert listing["label"].null_count == 50


@pytest.mark.data
def test_flowers_are_tested_on_the_same_photos_in_every_draw_and_labelled_on_others() -> None:
    first, second, half = (
        _or_skip(lambda: draws.flowers(0, per_class=(20, 10))),
        _or_skip(lambda: draws.flowers(1, per_class=(20, 10))),
        _or_skip(lambda: draws.flowers(0, per_class=None)),
    )

    def photos_of(drawn: draws.Draw, split: str) -> set[str]:
        listing = drawn.source.scan().table
        pairs = zip(listing["path"].to_pylist(), listing["split"].to_pylist(), strict=True)
        return {path for path, other in pairs if other == split}

    assert photos_of(first, "test") == photos_of(second, "test") == photos_of(half, "test")
    assert photos_of(first, "train") != photos_of(second, "train")
    assert len(photos_of(first, "train")) == 100
    assert len(photos_of(first, "validation")) == 50
    assert set(first.hidden) == photos_of(first, "unlabeled")
    labels = len(photos_of(half, "train")) + len(photos_of(half, "validation"))
    assert labels == pytest.approx(len(half.hidden), rel=0.01)


def _or_skip(draw: Callable[[], draws.Draw]) -> draws.Draw:
    try:
        return draw()
    except SkippedError as missing:
        pytest.skip(str(missing))  # it names the archive, which is never copied into the project


@pytest.mark.keras
def test_accepted_labels_are_counted_by_the_hidden_ones(tmp_path: Path) -> None:
    from benchmarks.loops import ingested
    from benchmarks.protocol import counted
    from selftrain.config import Experiment, Fixed, PseudoLabel
    from selftrain.data.manifest import Split
    from selftrain.selflabel.selection.pseudo_labels import select

    drawn = draws.digits(DigitsSource())
    manifest = ingested(Experiment(workspace=str(tmp_path)), drawn.source).manifest
    rows = manifest.rows(Split.UNLABELED)
    paths = manifest.table["origin"].take(rows).to_pylist()
    answers = np.full((len(rows), 10), 0.01, np.float32)
    answers[:, 7] = 0.91  # every image is called a seven
    answers[5:] = 0.1  # and but for five of them, none is sure
    labels = select(
        manifest.image_ids()[rows],
        answers,
        PseudoLabel(threshold=Fixed(value=0.9)),
        round_index=1,
        teacher="sevens",
        class_names=tuple("0123456789"),
    )
    sevens = sum(drawn.hidden[path] == "7" for path in paths[:5])
    assert counted(labels, manifest, drawn.hidden) == Labelled(accepted=5, right=sevens)
    swapped: Mapping[str, str] = dict.fromkeys(drawn.hidden, "7")
    assert counted(labels, manifest, swapped) == Labelled(accepted=5, right=5)


def test_the_page_of_results_says_what_the_records_hold() -> None:
    assert (RESULTS / "README.md").read_text(encoding="utf-8") == page(read())


def test_a_mean_has_students_interval_and_one_seed_has_none() -> None:
    # By hand: the standard error of 1, 2, 3 is 1 / sqrt(3), and t(.975; 2) is 4.3027.
    assert mean([1.0, 2.0, 3.0]) == pytest.approx(
        (2.0, 2.0 - 4.3027 / math.sqrt(3), 2.0 + 4.3027 / math.sqrt(3)), abs=1e-4
    )
    assert mean([0.5]).value == 0.5
    assert math.isnan(mean([0.5]).low)
    assert math.isnan(mean([]).value)


def test_gains_are_means_over_the_seeds_and_a_first_teacher_that_stays_best_gains_nothing_over_itself() -> None:
    over_teacher, over_control = gains([row(0, compared(12, 2), compared(5, 8)), row(1, compared(0, 0), None)])
    assert over_teacher.measured == pytest.approx(0.05)
    assert over_teacher.met
    assert over_control.measured == pytest.approx(-0.015)
    assert not over_control.met
    assert not gains([row(1, compared(0, 0), None)])[1].met
    with pytest.raises(ValueError, match="seed 3: a student is the best model, and there is no control"):
        gains([row(3, compared(12, 2), None, best_round=1)])


def test_a_model_is_surely_worse_only_beyond_the_interval() -> None:
    assert not surely_worse(row(0, compared(2, 4), None))
    assert surely_worse(row(0, compared(1, 20), None))
    assert surely_worse(row(0, compared(20, 1), None, promoted=(compared(20, 1), compared(1, 20))))


def test_labels_that_are_all_wrong_are_counted_in_the_table_and_none_at_all_are_not() -> None:
    counted = (Labelled(accepted=5, right=0), Labelled(accepted=0, right=0))
    assert "5, 0.0 %; 0" in row(0, compared(9, 1), None, precise=counted).cells()


def test_a_target_precision_is_kept_if_every_round_keeps_it_and_not_asked_where_nothing_is_accepted() -> None:
    good, bad, none = Labelled(accepted=100, right=88), Labelled(accepted=100, right=87), Labelled(accepted=0, right=0)
    pair = compared(1, 0)
    assert precise_enough(row(0, pair, None, precise=(good, none)), target=0.88) is True
    assert precise_enough(row(0, pair, None, precise=(good, bad)), target=0.88) is False
    assert precise_enough(row(0, pair, None, precise=(none,)), target=0.88) is None


@pytest.mark.keras
def test_guarantees_count_the_loops_that_were_asked_and_name_those_that_fail() -> None:
    from benchmarks.guarantees import judged

    good, bad, none = Labelled(accepted=100, right=88), Labelled(accepted=100, right=87), Labelled(accepted=0, right=0)
    fine = row(0, compared(12, 2), None, precise=(good,))
    imprecise = row(1, compared(12, 2), None, precise=(bad,))
    worse = row(2, compared(1, 20), None, precise=(none,))
    precision, kept_models = judged({"digits": (fine, imprecise), "flowers": (worse,)}).checks
    assert precision.measured == 0.5
    assert not precision.met
    assert kept_models.measured == 1
    assert not kept_models.met
    details = judged({"digits": (fine, imprecise), "flowers": (worse,)}).details
    assert details["target_missed"] == ["digits: 10 labels a class, seed 1"]
    assert details["surely_worse"] == ["flowers: 10 labels a class, seed 2"]
    assert details["nothing_accepted"] == 1
    assert all(check.met for check in judged({"digits": (fine,)}).checks)
    another = fine.model_copy(update={"task": "by another method, from the same first teacher"})
    asked = judged({"digits": (fine, another, imprecise)})
    assert asked.checks[0].measured == 0.5
    assert asked.details["first_teachers"] == 2


def test_loops_that_two_benchmarks_report_are_judged_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks import guarantees

    for name, seconds in (("digits_seeds", 60.0), ("digits_seeds_gpu", 70.0), ("digits_labels", 80.0)):
        ours = row(0, compared(12, 2), compared(5, 3)).model_copy(update={"training_seconds": seconds})
        write(recorded(name, (ours,)), tmp_path)
    write(recorded("manifest", ()), tmp_path)
    monkeypatch.setattr(guarantees, "read", lambda: read(tmp_path))
    assert set(guarantees.recorded_rows()) == {"digits_labels", "digits_seeds_gpu"}
    (tmp_path / "digits_labels.json").unlink()
    assert set(guarantees.recorded_rows()) == {"digits_seeds", "digits_seeds_gpu"}


def test_the_table_has_a_line_a_seed_and_their_means() -> None:
    shown = table([row(0, compared(12, 2), compared(5, 3)), row(1, compared(10, 2), None)])
    assert [line[1] for line in shown.rows] == ["0", "1", "mean of 2"]
    assert shown.rows[2][6].startswith("+9.0 (")
    assert (shown.rows[2][7], shown.rows[2][8].split()[0]) == ("70.0", "+1.0")
    assert all(len(line) == len(shown.columns) for line in shown.rows)
    without = table([row(seed, compared(12, 2), None, best_round=1) for seed in range(2)])
    assert [line[7:9] for line in without.rows] == [("-", "-")] * 3
    assert Table(title="", columns=("a", "b"), rows=(("1", "2"),)).markdown() == [
        "| a | b |",
        "| --- | --- |",
        "| 1 | 2 |",
    ]


def recorded(name: str, rows: tuple[Row, ...]) -> Record:
    """A record of `rows`, or of a benchmark that trains nothing if there are none."""
    from benchmarks.protocol import result

    return Record(
        benchmark=name,
        question="?",
        date=datetime.date(2026, 11, 21),
        commit="c",
        seconds=1.0,
        machine=this_machine(),
        result=result((), rows) if rows else Result(checks=(), details={}),
    )


def test_a_row_of_the_same_configuration_is_taken_from_a_record_only_when_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmarks import digits_labels, protocol
    from benchmarks.protocol import Asked, Loop, rows

    task = digits_labels.task(10, quick=False)
    loops = [Loop(task.name, seed, task.experiment(seed), task.draw(seed)) for seed in range(2)]
    ours = tuple(row(each.seed, compared(9, 1), None, configuration=each.configuration) for each in loops)
    write(recorded("digits_seeds", ours), tmp_path)
    write(recorded("manifest", ()), tmp_path)
    monkeypatch.setattr(protocol, "read", lambda: read(tmp_path))
    monkeypatch.setattr(kept, "PLACE", tmp_path / "kept")
    monkeypatch.setattr(protocol, "_measured", _refuse)
    assert rows("digits_labels", task, Asked(quick=False, kind="cpu", seeds=2, recorded=True)) == ours
    # What is recorded of the seeds that are not asked for stays.
    assert rows("digits_labels", task, Asked(quick=False, kind="cpu", seeds=1, recorded=True)) == ours
    for asked in (
        Asked(quick=False, kind="cpu", seeds=3, recorded=True),
        Asked(quick=False, kind="cpu", seeds=2),
        Asked(quick=True, kind="cpu", seeds=2, recorded=True),
    ):
        with pytest.raises(_TrainedError):
            rows("digits_labels", task, asked)


class _TrainedError(Exception):
    pass


def _refuse(loop: object, keep: Path) -> Row:
    raise _TrainedError


def test_a_configuration_is_one_wherever_its_weights_lie_and_another_with_another_rate() -> None:
    from benchmarks import digits_labels
    from benchmarks.protocol import Loop
    from selftrain.config import Experiment, Machine, Teacher

    draw = digits_labels.task(10, quick=False).draw(0)

    def configuration(rate: float, folder: Path, *, workers: int | None = None) -> str:
        (folder / "w.h5").touch()
        teacher = Teacher(backbone="MobileNetV2", weights=str(folder / "w.h5"), learning_rate=rate)
        return Loop("t", 0, Experiment(teacher=teacher, machine=Machine(workers=workers)), draw).configuration

    with TemporaryDirectory() as here, TemporaryDirectory() as there:
        assert configuration(1e-3, Path(here)) == configuration(1e-3, Path(there), workers=2)
        assert configuration(1e-3, Path(here)) != configuration(2e-3, Path(here))


class _Number(BaseModel):
    value: int


def test_what_is_kept_is_made_once_a_configuration_and_goes_on_after_a_kill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "PLACE", tmp_path)
    made: list[bool] = []
    diverged = row(0, compared(2, 1), None).model_copy(update={"validation": (0.5, math.nan)})
    assert math.isnan(Row.model_validate_json(diverged.model_dump_json()).validation[1])

    def make(place: Path) -> _Number:
        made.append(place.exists())
        place.mkdir(parents=True, exist_ok=True)
        if len(made) == 1:
            raise KeyboardInterrupt
        return _Number(value=len(made))

    with pytest.raises(KeyboardInterrupt):
        kept.kept(_Number, "name", "a", make)
    assert kept.kept(_Number, "name", "a", make).value == 2
    assert kept.kept(_Number, "name", "a", make).value == 2
    assert kept.kept(_Number, "name", "b", make).value == 3
    assert kept.kept(_Number, "name", "a", make, fresh=True).value == 4
    assert made == [False, True, False, False]
    assert sorted(os.listdir(tmp_path / "name")) == sorted(path.name for path in (tmp_path / "name").glob("*.json"))


def test_every_row_of_every_record_can_be_read() -> None:
    from benchmarks import guarantees, protocol

    assert len(protocol.recorded_rows()) >= 20
    assert guarantees.recorded_rows()


def test_a_recorded_configuration_is_found_again() -> None:
    """A row of many hours is known by its configuration: another digest would measure it again."""
    from benchmarks import digits_labels, protocol

    task = digits_labels.task(10, quick=False)
    loop = protocol.Loop(task.name, 0, task.experiment(0), task.draw(0))
    assert loop.configuration in protocol.recorded_rows()
