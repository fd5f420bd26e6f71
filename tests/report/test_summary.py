"""The summary of a run: what its table says of each round, and its lines of the result."""

import math

from rich.console import Console

from selftrain.report.summary import result_lines, rounds_table, summary
from selftrain.selflabel.rounds.history import Round
from selftrain.selflabel.rounds.record import RunRecord

STUDENT = Round(
    index=1,
    backbone="b",
    labeled=100,
    accepted=992,
    pool=2904,
    threshold="0.9",
    validation_accuracy=0.9,
    validation_metric=0.9,
    seconds=60,
    model_digest="1",
    method="noisy_student",
)


def row(finished: Round) -> list[str]:
    """The cells of the table's only row."""
    console = Console(width=200)
    with console.capture() as shown:
        console.print(rounds_table([finished]))
    return shown.get().splitlines()[1].split()


def test_a_student_of_pseudo_labels_shows_how_many_it_learnt_from() -> None:
    assert row(STUDENT) == ["1", "b", "100", "992/2904", "0.9", "90.0", "%", "60", "no"]


def test_a_student_in_training_shows_no_pseudo_labels() -> None:
    student = STUDENT.model_copy(update={"method": "fixmatch", "accepted": 0, "threshold": None})
    assert row(student) == ["1", "b", "100", "in", "training", "-", "90.0", "%", "60", "no"]


def test_a_student_that_diverged_has_no_accuracy() -> None:
    student = STUDENT.model_copy(update={"diverged": "the loss became nan", "validation_accuracy": math.nan})
    assert row(student) == ["1", "b", "100", "992/2904", "0.9", "diverged", "60", "no"]


def test_each_p_value_is_shown_with_the_name_of_its_test() -> None:
    record = RunRecord(
        run_id="r", name="digits", status="completed",
        teacher_test_accuracy=0.8, p_value=0.25, p_value_test="sign",
        control_test_accuracy=0.9, control_p_value=0.5, control_p_value_test="paired permutation",
    )  # fmt: skip
    _, teacher, control = result_lines(record)
    assert teacher.endswith("80.0 %; sign p = 0.25")
    assert control.endswith("90.0 %; paired permutation p = 0.5")


def test_validation_is_named_by_what_the_rounds_hold() -> None:
    console = Console(width=200)
    with console.capture() as shown:
        for validated_by in ("ap50", "map", None):
            record = RunRecord(
                run_id="r", name="n", status="running", rounds=(STUDENT,), metric="map", validated_by=validated_by
            )
            console.print(summary(record))
        console.print(summary(record.model_copy(update={"metric": "accuracy"})))
    heads = [line for line in shown.get().splitlines() if line.startswith("round")]
    assert [line.split("valid.")[1].split()[0] for line in heads] == ["AP50", "mAP", "mAP", "s"]
    assert "0.900" in shown.get()


def test_outlines_have_a_line_with_their_interval() -> None:
    record = RunRecord(
        run_id="r", name="n", status="completed", metric="map", mask_map=0.39, mask_ap50=0.7, mask_interval=(0.35, 0.43)
    )
    assert "outlines on test: mAP 0.390 (95 % interval 0.350 to 0.430)" in result_lines(record)
    older = record.model_copy(update={"mask_interval": None})
    assert "outlines on test: mAP 0.390" in result_lines(older)


def test_a_grown_test_set_shows_both_numbers() -> None:
    record = RunRecord(
        run_id="r", name="digits", status="completed", test_accuracy=0.9, test_interval=(0.85, 0.95), test_looks=3,
        test_images=500, test_version=2, earlier_test_images=400, earlier_test_accuracy=0.8,
        earlier_test_interval=(0.75, 0.85),
    )  # fmt: skip
    _, whole, part = result_lines(record)
    assert whole.startswith("test accuracy 90.0 %")
    assert part == (
        "this test set is version 2, with 500 images; on the 400 of them that the version before held too: 80.0 % "
        "(95 % interval 75.0 to 85.0)"
    )


def test_images_that_wait_or_give_way_are_counted_by_their_reason() -> None:
    record = RunRecord(run_id="r", name="d", status="completed", excluded_groups=4, reserved=5, disputed=6, misnamed=7)
    groups, reserved, disputed, misnamed = result_lines(record)[1:]
    assert misnamed.startswith("7 images have the name of another format")
    assert groups == "4 images left out: their group has images in validation or test"
    assert reserved.startswith("5 unlabelled images reserved")
    assert disputed.startswith("6 images left out: people disagree")
