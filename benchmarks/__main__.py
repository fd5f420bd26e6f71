"""`python -m benchmarks [NAME ...]`: measure, print, record under benchmarks/results/."""

from __future__ import annotations

import argparse
import datetime
import importlib
import os
import subprocess
import sys
import time
from collections.abc import Callable

# In the order in which they disturb each other least: the short ones first.
NAMES = (
    "target_precision",
    "drift",
    "promotion",
    "manifest",
    "augmentation",
    "in_training",
    "groups",
    "precision",
    "ingest",
    "queries",
    "review",
    "report",
    "space",
    "not_due",
    "inbox",
    "serving",
    "image",
    "pseudo_label",
    "label_folder",
    "more_labels",
    "queue_value",
    "fan_out",
    "nuclei",
    "detector_peer",
    "detector_steps",
    "training",
    "interruptions",
    "small_images",
    "run",
    "growth",
    "lost_nodes",
    "guarantees",
)
# They train for hours, so they run only when they are named.
LEARNING = (
    "few_labels",
    "few_boxes",
    "digits_seeds",
    "digits_labels",
    "flowers_20",
    "flowers_half",
    "cifar10_mobilenet",
    "cifar10_few",
    "cifar10_scratch",
    "cifar10_pretrained",
)


def main() -> int:
    """Exit code 0 when all that was asked for was measured or skipped aloud, whether or not targets are met."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    hours = f"for hours, and only if named: {', '.join(LEARNING)}"
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"if none is named: {', '.join(NAMES)}; {hours}")
    parser.add_argument("--quick", action="store_true", help="a small version of each, to see that it runs; no record")
    parser.add_argument(
        "--budget", choices=("cpu", "gpu"), help="of what trains for hours: two cores', or a GPU's; else by the machine"
    )
    parser.add_argument(
        "--seeds", type=int, metavar="N", help="of what trains for hours: measure the first N seeds only"
    )
    again = (
        "of what trains for hours: take rows that a record holds of the same configuration, whatever code measured them"
    )
    parser.add_argument("--recorded", action="store_true", help=again)
    arguments = parser.parse_args()
    known = (*NAMES, *LEARNING)
    if arguments.seeds is not None and arguments.seeds < 1:
        parser.error(f"--seeds is {arguments.seeds}; give 1 or more")
    unknown = sorted(set(arguments.names) - set(known))
    if unknown:
        parser.error(f"unknown benchmark {unknown[0]!r}; there are {', '.join(known)}")
    names = arguments.names or list(known if arguments.quick else NAMES)
    if len(names) == 1:
        measure(names[0], arguments)
        return 0
    options = [option for option in sys.argv[1:] if option not in names]
    # Each in a process of its own: what one leaves in memory must not slow the next.
    return max(subprocess.run([sys.executable, "-m", "benchmarks", name, *options]).returncode for name in names)


def measure(name: str, arguments: argparse.Namespace) -> None:
    """Run one benchmark in this process."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from benchmarks import machine, record
    from benchmarks.photos import SkippedError
    from benchmarks.protocol import Asked

    module = importlib.import_module(f"benchmarks.{name}")
    run: Callable[..., record.Result] = module.measure
    question = str(module.__doc__).partition("\n")[0]
    here, commit = machine.this_machine(), machine.commit()
    print(f"{name}: {question}", flush=True)
    if here.busy:
        print(f"  WARNING: load {here.load} on {here.cores} cores; times measured now say little", flush=True)
    started = time.monotonic()
    asked = Asked(
        quick=arguments.quick,
        kind=arguments.budget or ("gpu" if here.accelerator else "cpu"),
        seeds=arguments.seeds,
        recorded=arguments.recorded,
    )
    try:
        result = run(asked) if name in LEARNING else run(quick=asked.quick)
    except SkippedError as skipped:
        print(f"  SKIPPED: {skipped}", flush=True)
        return
    seconds = time.monotonic() - started
    for check in result.checks:
        print(f"  {check.line()}")
    for table in result.tables:
        print(f"{table.title}\n{table.aligned()}")
    if asked.quick:
        print(f"  quick, {seconds:.0f} s; not recorded", flush=True)
        return
    # One machine's budget does not replace another's.
    name = f"{name}_gpu" if name in LEARNING and asked.kind == "gpu" else name
    record.write(
        record.Record(
            benchmark=name,
            question=question,
            date=datetime.date.today(),
            commit=commit,
            seconds=round(seconds, 1),
            machine=here,
            result=result,
        )
    )
    print(f"  {seconds:.0f} s; recorded in benchmarks/results/{name}.json", flush=True)


if __name__ == "__main__":
    sys.exit(main())
