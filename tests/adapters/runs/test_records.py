"""Run records: a run whose values this version cannot read is said to be older."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from selftrain.adapters.runs.records import EARLIER, record_of
from selftrain.report.summary import result_lines
from selftrain.selflabel.rounds.history import Round
from selftrain.selflabel.rounds.record import RunRecord

ROUND = Round(
    index=0,
    backbone="small",
    labeled=10,
    validation_accuracy=0.5,
    validation_metric=0.5,
    seconds=1,
    model_digest="m",
)
RECORD = RunRecord(run_id="r", name="digits", status="completed", rounds=(ROUND,))


def stored(value: object, path: str | None = None) -> SimpleNamespace:
    """An artifact as ZenML answers it: its class by its path, and the value only where that class is there."""
    kind = type(value)

    def load() -> object:
        assert path is None, "a value of a class that is gone cannot be loaded"
        return value

    return SimpleNamespace(
        data_type=SimpleNamespace(import_path=path or f"{kind.__module__}.{kind.__name__}"), load=load
    )


def step(**values: Any) -> SimpleNamespace:
    defaults = {
        "status": SimpleNamespace(is_successful=True),
        "start_time": 1,
        "inputs": {},
        "outputs": {},
        "config": SimpleNamespace(parameters={}),
    }
    return SimpleNamespace(**{**defaults, **values})


def run(**steps: SimpleNamespace) -> Any:
    return SimpleNamespace(
        id="r",
        status=SimpleNamespace(value="completed"),
        steps=steps,
        config=SimpleNamespace(parameters={"experiment": {"name": "digits", "title": "Digits"}}),
        exception_info=None,
        get_body=lambda: SimpleNamespace(status_reason="killed"),
    )


def test_a_finished_run_answers_the_record_that_it_left() -> None:
    assert record_of(run(record=step(outputs={"record": [stored(RECORD)]}))) == RECORD


def test_an_unfinished_run_answers_its_rounds_and_why_it_ended() -> None:
    parameter = step(config=SimpleNamespace(parameters={"finished": ROUND.model_dump(mode="json")}))
    later = step(start_time=2, inputs={"finished": [stored(ROUND.model_copy(update={"index": 1}))]})
    record = record_of(run(log_round_2=later, log_round=parameter))
    assert [each.index for each in record.rounds] == [0, 1]
    assert (record.name, record.error) == ("digits", "killed")


@pytest.mark.parametrize(
    "steps",
    [
        {"record": step(outputs={"record": [stored(RECORD, "selftrain.record.RunRecord")]})},
        {"log_round": step(inputs={"finished": [stored(ROUND, "selftrain.selflabel.rounds.Round")]})},
        {"log_round": step(config=SimpleNamespace(parameters={"finished": {"of": "another version"}}))},
    ],
)
def test_a_run_of_an_earlier_version_is_said_to_be_one(steps: dict[str, SimpleNamespace]) -> None:
    record = record_of(run(**steps))
    assert (record.run_id, record.name, record.title, record.status) == ("r", "digits", "Digits", "completed")
    assert record.rounds == ()
    assert record.error == EARLIER == "made by an earlier version of selftrain"
    assert f"error: {EARLIER}" in result_lines(record)


def test_an_unfinished_run_of_a_detector_is_known_to_be_one() -> None:
    unfinished = run()
    assert record_of(unfinished).metric == "accuracy"
    unfinished.config.parameters["experiment"]["task"] = "detection"
    assert (record_of(unfinished).metric, record_of(unfinished).rounds_metric) == ("map", "map")
    unfinished.config.parameters["experiment"]["gate"] = {"metric": "ap50"}
    assert (record_of(unfinished).metric, record_of(unfinished).rounds_metric) == ("map", "ap50")


def test_an_unfinished_run_of_a_detector_answers_its_rounds() -> None:
    logged = step(config=SimpleNamespace(parameters={"finished": ROUND.model_dump(mode="json")}))
    later = step(start_time=2, inputs={"finished": [stored(ROUND.model_copy(update={"index": 1}))]})
    record = record_of(run(log_round_of_detector=logged, log_round_of_detector_2=later))
    assert [each.index for each in record.rounds] == [0, 1]
