"""Does the final model of the digits run beat its first teacher on test, over several draws of the 100 labels?

Killed and started again, it goes on with the seed it was at, from the last checkpoint of the training it was in; the
results of finished seeds hold as long as the code behind them does.
"""

from __future__ import annotations

import hashlib
import shutil
import statistics
import time
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from benchmarks import digits
from benchmarks.machine import ROOT
from benchmarks.record import Check, Result
from selftrain.adapters import code_digest
from selftrain.config import Experiment
from selftrain.evaluate.significance import mcnemar

SEEDS = range(5)
ACCURACY, MEAN_ACCURACY, P_VALUE = 0.95, 0.96, 0.05
PLACE = ROOT / ".selftrain" / "benchmarks" / "digits_seeds"
MODULES = ["selftrain.data.dataset", "selftrain.data.ingest", "selftrain.selflabel.loop"]
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
    e = digits.experiment(seed, PLACE, steps=steps)
    depends_on = code_digest.digest(MODULES) + e.model_dump_json(exclude={"workspace"})
    place = PLACE / hashlib.sha256(depends_on.encode()).hexdigest()[:16]
    e, kept = e.model_copy(update={"workspace": str(place)}), place.with_suffix(".json")
    if kept.exists():
        result = SeedResult.model_validate_json(kept.read_text())
    else:
        result = _run(e, seed, place)
        part = kept.with_suffix(".part")
        part.write_text(result.model_dump_json())
        part.replace(kept)
        shutil.rmtree(place)
    print(
        f"    seed {seed}: teacher {result.teacher:.4f}, final {result.final:.4f} (round {result.best_round} of "
        f"{result.rounds}, {result.verdict}), p {result.p_value:.2g}, {result.training_seconds:.0f} s of training",
        flush=True,
    )
    return result


def _run(e: Experiment, seed: int, place: Path) -> SeedResult:
    import keras

    keras.utils.clear_session()
    resumed, started = place.exists(), time.monotonic()
    finished = digits.run(e, _Said(seed))
    history, compared = finished.history, finished.report.comparison
    if compared is None:
        raise RuntimeError("the report on test has no comparison with the first teacher")
    return SeedResult(
        seed=seed,
        teacher=compared.reference_accuracy,
        final=finished.report.accuracy,
        rounds=history.students,
        best_round=history.best.index,
        verdict=str(finished.verdict),
        validation=tuple(each.validation_accuracy for each in history.rounds),
        accepted=tuple(each.accepted for each in history.rounds[1:]),
        better=compared.n10,
        worse=compared.n01,
        p_value=compared.p_value,
        training_seconds=round(sum(each.seconds for each in history.rounds), 1),
        seconds=None if resumed else round(time.monotonic() - started, 1),
    )


class _Said:
    """A line a quarter of a training."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def __call__(self, done: int, total: int, note: str = "") -> None:
        if done * 4 // total > (done - 1) * 4 // total:
            print(f"    seed {self._seed}: step {done} of {total}, {note}", flush=True)
