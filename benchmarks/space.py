"""How long does UMAP take to lay out 20,000 images, and does one seed give one picture?

Vectors of 1,280 numbers in ten clusters, as embeddings of a network are. Each layout is made in a process of its own,
imports and compiling included. `pip install umap-learn` first: selftrain draws UMAP where it is installed, PCA always.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time

import numpy as np
from pydantic import JsonValue

from benchmarks.photos import SkippedError
from benchmarks.record import Check, Result

IMAGES, QUICK_IMAGES, NUMBERS, CLUSTERS, LAYOUTS = 20_000, 500, 1280, 10, 2


def measure(*, quick: bool) -> Result:
    """The slower of two layouts, and whether they are the same to the last bit."""
    from selftrain.report.plane import has_umap

    if not has_umap():
        raise SkippedError("umap-learn is not installed; run: pip install umap-learn")
    images = QUICK_IMAGES if quick else IMAGES
    made = []
    for _ in range(LAYOUTS):
        command = [sys.executable, "-m", "benchmarks.space", str(images)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        made.append(json.loads(done.stdout.splitlines()[-1]))
        print(f"    {made[-1]['seconds']:.1f} s, {made[-1]['digest'][:12]}", flush=True)
    checks = (
        Check(what="the slower layout", measured=max(m["seconds"] for m in made), relation="<", target=90, unit="s"),
        Check(what="pictures of one seed", measured=len({m["digest"] for m in made}), relation="<=", target=1),
    )
    details: JsonValue = made
    return Result(checks=checks, details={"images": images, "numbers": NUMBERS, "layouts": details})


def _laid(images: int) -> dict[str, float | str]:
    """Lay out so many images; how long it took, and a digest of where they are."""
    from selftrain.report.plane import planes

    draw = np.random.default_rng(0)
    centres = draw.normal(size=(CLUSTERS, NUMBERS)) * 2
    vectors = (centres[np.arange(images) % CLUSTERS] + draw.normal(size=(images, NUMBERS))).astype(np.float32)
    started = time.perf_counter()
    at = planes(vectors)["UMAP"]
    return {"seconds": time.perf_counter() - started, "digest": hashlib.sha256(at.tobytes()).hexdigest()}


if __name__ == "__main__":
    print(json.dumps(_laid(int(sys.argv[1]))))
