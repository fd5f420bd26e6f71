"""How many images per second does training see in mixed bfloat16, compared with float32?

Both are the steps of a run: gathered, augmented, forward, backward, averaged. What a processor or GPU gains hangs on
whether it computes in bfloat16, and on the network: the wide ResNet is to gain, the depthwise ones are told beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

from pydantic import JsonValue

from benchmarks import timing
from benchmarks.record import Check, Result, Table
from benchmarks.steps import CLASSES, labelled, steps_of
from selftrain.config import Precision, Recipe

TARGET = 1.0
REPETITIONS = 5
STEPS, QUICK_STEPS = 12, 2
IMAGES = 512
NETWORKS = {"wide_resnet_16_2": (32, 64), "efficientnet_b0_050": (32, 64), "mobilenet_v2_100": (160, 16)}  # px, batch
GAINS = "wide_resnet_16_2"
COLUMNS = ("network", "pixels", "batch", "float32, images/s", "mixed_bfloat16, images/s", "ratio", "of processor time")


def measure(*, quick: bool) -> Result:
    """Each network's step in both."""
    checks: list[Check] = []
    details: dict[str, JsonValue] = {}
    rows = []
    for backbone, (size, batch) in NETWORKS.items():
        steps = QUICK_STEPS if quick else STEPS
        recipe = Recipe(backbone=backbone, batch_size=batch, strength="strong")
        calls = {each: training(recipe, each, size, steps) for each in get_args(Precision)}
        for call in calls.values():
            call()  # traces
        taken = timing.in_turns(calls, repetitions=1 if quick else REPETITIONS)
        exact, mixed = (timing.median(taken[each]) for each in get_args(Precision))
        ratio = exact.wall / mixed.wall
        if backbone == GAINS:
            what = f"{backbone}: images per second in mixed_bfloat16 over float32"
            checks.append(Check(what=what, measured=ratio, relation=">", target=TARGET))
        speeds = (f"{steps * batch / each.wall:.0f}" for each in (exact, mixed))
        rows.append((backbone, str(size), str(batch), *speeds, f"{ratio:.2f}", f"{exact.cpu / mixed.cpu:.2f}"))
        details[backbone] = timing.as_json(taken)
    lines = Table(title="Training steps, medians over alternating turns", columns=COLUMNS, rows=tuple(rows))
    return Result(checks=tuple(checks), details={"seconds": details}, tables=(lines,))


def training(recipe: Recipe, precision: Precision, size: int, steps: int) -> Callable[[], object]:
    """`steps` steps of `recipe` on images of `size` pixels, in `precision`."""
    from selftrain.learn.networks.backbones import untrained
    from selftrain.learn.networks.copies import at_precision
    from selftrain.learn.training.course import course

    examples = labelled(size, images=IMAGES, labels=IMAGES)
    chosen = course(recipe, examples, min_human_share=0.0, seed=0, unlabeled=None)
    model = untrained(recipe, str(recipe.backbone), image_size=size, classes=CLASSES, seed=0)
    return steps_of(chosen, at_precision(model, precision), steps)
