"""Does the final model of the digits run beat its first teacher on test, over several draws of the 100 labels?

Killed and started again, it goes on with the seed it was at, from the last checkpoint of the training it was in; the
results of finished seeds hold as long as the code behind them does.
"""

from __future__ import annotations

import statistics
import time
from functools import partial
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from benchmarks import digits, loops
from benchmarks.kept import kept
from benchmarks.record import Check, Result
from selftrain.config import Experiment
from selftrain.data.sources import open_source
from selftrain.evaluate.significance import mcnemar
from selftrain.selflabel.loop import read_test

SEEDS = range(5)
ACCURACY, MEAN_ACCURACY, P_VALUE = 0.95, 0.96, 0.05
QUICK_STEPS = 8


class SeedResult(BaseModel):
    """One seed's run; `better` test images are right by the final model alone, `worse` by the first teacher alone."""

    model_config = ConfigDict(frozen=True)

    seed: int
    teacher: float
    final: float
    rounds: int
    best_round: int
    verdict: str
    validation: tuple[float, ...]
    accepted: tuple[int, ...]
    better: int
    worse: int
    p_value: float
    training_seconds: float
    seconds: float | None  # of the whole run; None where it was resumed


def measure(*, quick: bool) -> Result:
    """All seeds, those that were finished before read from the disk."""
    steps = QUICK_STEPS if quick else None
    results = [_of_seed(seed, steps=steps) for seed in (range(2) if quick else SEEDS)]
    first = results[0]
    mean = statistics.mean(each.final for each in results)
    pooled = mcnemar(sum(each.better for each in results), sum(each.worse for each in results))
    gains = [each.final - each.teacher for each in results]
    return Result(
        checks=(
            Check(
                what="default seed: test accuracy over the first teacher's",
                measured=first.final - first.teacher,
                relation=">",
                target=0,
            ),
            Check(what="default seed: test accuracy", measured=first.final, relation=">", target=ACCURACY),
            Check(what="mean test accuracy", measured=mean, relation=">", target=MEAN_ACCURACY),
            Check(what="pooled McNemar p", measured=pooled, relation="<", target=P_VALUE),
        ),
        details={
            "mean_teacher": round(statistics.mean(each.teacher for each in results), 5),
            "mean_final": round(mean, 5),
            "mean_gain": round(statistics.mean(gains), 5),
            "sd_gain": round(statistics.stdev(gains), 5),
            "seeds_above_their_teacher": sum(gain > 0 for gain in gains),
            "seeds_passed": sum(each.verdict == "passed" for each in results),
            "better": sum(each.better for each in results),
            "worse": sum(each.worse for each in results),
            "seeds": [each.model_dump(mode="json") for each in results],
        },
    )


def _of_seed(seed: int, *, steps: int | None) -> SeedResult:
    e = digits.experiment(seed, steps=steps)
    configuration, run = e.model_dump_json(exclude={"workspace"}), partial(_run, e, seed)
    result = kept(SeedResult, "digits_seeds", configuration, run, fresh=steps is not None)
    print(
        f"    seed {seed}: teacher {result.teacher:.4f}, final {result.final:.4f} (round {result.best_round} of "
        f"{result.rounds}, {result.verdict}), p {result.p_value:.2g}, {result.training_seconds:.0f} s of training",
        flush=True,
    )
    return result


def _run(e: Experiment, seed: int, keep: Path) -> SeedResult:
    import keras

    keras.utils.clear_session()
    resumed, started = keep.exists(), time.monotonic()
    with loops.scratch(keep.name) as workspace:
        e = e.model_copy(update={"workspace": str(workspace)})
        ended = loops.run(e, open_source(e.source), keep, loops.Said(f"seed {seed}"))
        report = read_test(ended.looped, pixels_of=ended.pixels_of)
    history, compared = ended.looped.history, report.comparison
    if compared is None:
        raise RuntimeError("the report on test has no comparison with the first teacher")
    return SeedResult(
        seed=seed,
        teacher=compared.reference_accuracy,
        final=report.accuracy,
        rounds=history.students,
        best_round=history.best.index,
        verdict=str(ended.verdict),
        validation=tuple(each.validation_accuracy for each in history.rounds),
        accepted=tuple(each.accepted for each in history.rounds[1:]),
        better=compared.n10,
        worse=compared.n01,
        p_value=compared.p_value,
        training_seconds=round(sum(each.seconds for each in history.rounds), 1),
        seconds=None if resumed else round(time.monotonic() - started, 1),
    )
