"""The process of a trial: `python trial_process.py FOLDER` loads a registered model and asks it what FOLDER says.

It is a serving process as production's: it knows MLflow and the model's address, and imports nothing of selftrain.
"""

from __future__ import annotations

import base64
import json
import math
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

STATUS = Path("/proc/self/status")
ASKED, ANSWERED = "asked.json", "answered.json"


def main(folder: Path) -> None:
    """Read `asked.json` in `folder`, and write `answered.json` beside it."""
    asked: dict[str, Any] = json.loads((folder / ASKED).read_text())
    import mlflow.pyfunc

    mlflow.set_tracking_uri(asked["tracking_uri"])
    mlflow.set_registry_uri(asked["tracking_uri"])
    model = mlflow.pyfunc.load_model(asked["model"])
    golden = [base64.b64decode(image) for image in asked["golden"]]
    broken = {name: base64.b64decode(image) for name, image in asked["broken"].items()}
    # Beside a whole image: what is broken must not take its neighbours with it.
    rows = ask(model, [*broken.values(), golden[0]])
    batch = [golden[place % len(golden)] for place in range(asked["batch"])]
    answers = ask(model, batch)[: len(golden)]  # the first batch: its shape is compiled here, and only once
    began = time.perf_counter()
    whole = ask(model, batch)
    batch_ms = 1000 * (time.perf_counter() - began)
    result = {
        "probabilities": [row["probabilities"] for row in answers],
        "broken_answered": [name for name, row in zip(broken, rows, strict=False) if not row["error"]],
        "neighbour_answered": rows[-1]["label"] is not None,
        "batch_answered": sum(row["label"] is not None for row in whole),
        "latency_ms": percentile([single(model, golden[k % len(golden)]) for k in range(asked["requests"])], 0.95),
        "batch_ms": batch_ms,
        "memory_mb": peak_mb(),
    }
    (folder / ANSWERED).write_text(json.dumps(result))


def ask(model: Any, images: Sequence[bytes]) -> list[dict[str, Any]]:
    """The model's rows for `images`."""
    import pandas as pd

    answered: list[dict[str, Any]] = model.predict(pd.DataFrame({"image": list(images)})).to_dict("records")
    return answered


def single(model: Any, image: bytes) -> float:
    """The milliseconds of a request with one image."""
    began = time.perf_counter()
    ask(model, [image])
    return 1000 * (time.perf_counter() - began)


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of `values` do not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def peak_mb() -> float:
    """The peak memory of this process in MB. Linux's own count: getrusage's starts with that of its parent."""
    try:
        lines = STATUS.read_text().splitlines()
        (line,) = [line for line in lines if line.startswith("VmHWM:")]
        return int(line.split()[1]) * 1024 / 1e6
    except (OSError, ValueError):
        kilo = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * kilo / 1e6


if __name__ == "__main__":
    main(Path(sys.argv[1]))
