"""Does a Manifest of a million rows take seconds and little memory, and ten million ten times that?

Every build, write and read runs in an interpreter of its own, whose peak memory counts from after the imports. Two
contents: as ingest leaves it, and after a round, where most of the pool has a pseudo-label with its probabilities.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import psutil
from pydantic import JsonValue

from benchmarks.machine import ROOT
from benchmarks.record import Check, Result

ROWS, MANY_ROWS = 1_000_000, 10_000_000
REPETITIONS, REPETITIONS_OF_MANY = 5, 3
SECONDS, MEGABYTES = 3.0, 600.0
LINEAR = 12.0  # times as much for ten times the rows: a tenth of slack, and as much for caches outgrown
CONTENTS = ("ingested", "pseudo_labeled")
CLASSES = 10
Measured = dict[str, float]


def measure(*, quick: bool) -> Result:
    """Build, write, read at both sizes."""
    few, many = (ROWS // 20, MANY_ROWS // 20) if quick else (ROWS, MANY_ROWS)
    checks: list[Check] = []
    details: dict[str, JsonValue] = {}
    with tempfile.TemporaryDirectory() as folder:
        for content in CONTENTS:
            small = [_one(content, few, Path(folder)) for _ in range(1 if quick else REPETITIONS)]
            large = [_one(content, many, Path(folder)) for _ in range(REPETITIONS_OF_MANY)]
            details[content] = {str(few): [dict(each) for each in small], str(many): [dict(each) for each in large]}
            checks += _checks(content, _median(small), _median(large), few=few)
    return Result(checks=tuple(checks), details=details)


def _checks(content: str, small: Measured, large: Measured, *, few: int) -> list[Check]:
    seconds, peak = (_disk(each) for each in (small, large)), (_peak(each) for each in (small, large))
    (short, long), (low, high) = seconds, peak
    name, told = content.replace("_", "-"), f"{few:,} rows"
    return [
        Check(what=f"{name}, {told}: write + read", measured=short, relation="<", target=SECONDS, unit="s"),
        Check(what=f"{name}, {told}: peak memory", measured=low, relation="<", target=MEGABYTES, unit="MB"),
        Check(what=f"{name}, ten times the rows: seconds", measured=long / short, relation="<=", target=LINEAR),
        Check(what=f"{name}, ten times the rows: memory", measured=high / low, relation="<=", target=LINEAR),
    ]


def _disk(measured: Measured) -> float:
    return measured["write_s"] + measured["read_s"]


def _peak(measured: Measured) -> float:
    return max(measured["build_peak_mb"], measured["read_peak_mb"])


def _median(measured: list[Measured]) -> Measured:
    return {name: float(np.median([each[name] for each in measured])) for name in measured[0]}


def _one(content: str, rows: int, folder: Path) -> Measured:
    path = folder / "manifest.parquet"
    measured: Measured = {}
    for stage in ("build", "read"):
        command = [sys.executable, "-m", "benchmarks.manifest", stage, content, str(rows), str(path)]
        shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if shown.returncode:
            raise RuntimeError(f"{stage} of {rows} rows ended with {shown.returncode}: {shown.stderr[-500:]}")
        measured |= json.loads(shown.stdout)
    measured["file_mb"] = path.stat().st_size / 1e6
    path.unlink()
    print(f"    {content}, {rows:,} rows: {', '.join(f'{k} {v:.4g}' for k, v in measured.items())}", flush=True)
    return {name: round(value, 4) for name, value in measured.items()}


# What follows runs in the measured interpreter.


def _build(content: str, rows: int, path: Path) -> Measured:
    from selftrain.data.label_map import LabelMap
    from selftrain.data.manifest import Manifest

    table = _table(content, rows)
    names = LabelMap(tuple(f"class_{k}" for k in range(CLASSES)))
    held, before = _resident_mb(), _peak_mb()
    clock = _Clock()
    manifest = Manifest.build(table, names)
    build = clock.lap()
    manifest.write(path)
    write = clock.lap()
    del table
    return {"build_s": build, "write_s": write, "build_peak_mb": _peak_mb(), "rows_mb": held, "rows_peak_mb": before}


def _read(path: Path) -> Measured:
    from selftrain.data.manifest import Manifest

    clock = _Clock()
    manifest = Manifest.read(path)
    read, peak = clock.lap(), _peak_mb()
    digest = manifest.digest
    return {"read_s": read, "read_peak_mb": peak, "digest_s": clock.lap() if digest else 0.0}


def _table(content: str, rows: int) -> object:
    """Rows as a round leaves them: 4 % with a human label; of the pool, 4 in 5 pseudo-labelled if `content` says so."""
    import pyarrow as pa

    from selftrain.data.columns import from_codes

    rng = np.random.default_rng(0)
    kind = rng.choice(4, rows, p=[0.02, 0.01, 0.01, 0.96]).astype(np.int8)  # train, validation, test, unlabeled
    human = kind < 3
    pseudo = ~human & (rng.random(rows) < 0.8) if content == "pseudo_labeled" else np.zeros(rows, bool)
    labelled = human | pseudo
    kind[pseudo] = 0
    shards = [f"{k:020x}.array_record" for k in range(-(-rows // 20_000))]
    sides = rng.integers(100, 2000, (2, rows), dtype=np.int32)
    columns = {
        "image_id": _hex_ids(rng, rows),
        "shard": from_codes(np.arange(rows) // 20_000, shards),
        "index": pa.array((np.arange(rows) % 20_000).astype(np.int32)),
        "origin": _origins(rows),
        "width": pa.array(sides[0]),
        "height": pa.array(sides[1]),
        "phash": pa.array(rng.integers(0, 2**64, rows, dtype=np.uint64)),
        "split": from_codes(kind, ["train", "validation", "test", "unlabeled"]),
        "label": pa.array(rng.integers(0, CLASSES, rows, dtype=np.int32), mask=~labelled),
        "label_source": from_codes(np.where(human, 0, np.where(pseudo, 1, -1)), ["human", "pseudo"]),
        "weight": pa.array(np.ones(rows, np.float32)),
    }
    if pseudo.any():
        columns |= _pseudo(rng, pseudo)
    return pa.table(columns)


def _pseudo(rng: np.random.Generator, pseudo: npt.NDArray[np.bool_]) -> dict[str, object]:
    import pyarrow as pa

    from selftrain.data.columns import from_codes, sparse_lists

    rows, at = len(pseudo), np.flatnonzero(pseudo)
    probs = np.full((len(at), CLASSES), 0.1 / (CLASSES - 1), np.float16)
    probs[np.arange(len(at)), rng.integers(0, CLASSES, len(at))] = 0.9
    return {
        "confidence": pa.array(np.full(rows, 0.9, np.float32), mask=~pseudo),
        "probs": sparse_lists(rows, at, probs),
        "round": pa.array(np.ones(rows, np.int16), mask=~pseudo),
        "teacher": from_codes(np.where(pseudo, 0, -1), ["0" * 64]),
    }


def _hex_ids(rng: np.random.Generator, rows: int) -> object:
    digits = np.frombuffer(b"0123456789abcdef", np.uint8)
    text = np.empty((rows, 64), np.uint8)
    for start in range(0, rows, 1 << 17):
        part = text[start : start + (1 << 17)]
        part[:] = digits[rng.integers(0, 16, part.shape, dtype=np.uint8)]
    return _fixed_text(text)


def _origins(rows: int) -> object:
    name = np.frombuffer(b"photos/unlabeled/00000000.jpg", np.uint8)
    text = np.tile(name, (rows, 1))
    number, place = np.arange(rows), name.tobytes().index(b"0")
    for digit in range(8):
        text[:, place + 7 - digit] = number // 10**digit % 10 + ord("0")
    return _fixed_text(text)


def _fixed_text(text: npt.NDArray[np.uint8]) -> object:
    import pyarrow as pa

    rows, width = text.shape
    offsets = np.arange(0, (rows + 1) * width, width, dtype=np.int64)
    kind = pa.string() if offsets[-1] < 2**31 else pa.large_string()
    narrow = offsets.astype(np.int32) if kind == pa.string() else offsets
    return pa.Array.from_buffers(kind, rows, [None, pa.py_buffer(narrow), pa.py_buffer(text)])


class _Clock:
    def __init__(self) -> None:
        self._since = time.perf_counter()

    def lap(self) -> float:
        now = time.perf_counter()
        taken, self._since = now - self._since, now
        return taken


def _resident_mb() -> float:
    return float(psutil.Process().memory_info().rss) / 1e6


def _peak_mb() -> float:
    """The most this interpreter has held; of its own memory map, so not what the one that started it had held."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1e3 * 1.024 for line in lines if line.startswith("VmHWM"))
    except OSError:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # bytes on macOS


def _main() -> None:
    stage, content, rows, path = sys.argv[1:]
    _build(content, 1000, Path(f"{path}.small"))  # everything is imported that is imported when it is first needed
    _read(Path(f"{path}.small"))
    start = _resident_mb()
    measured = _build(content, int(rows), Path(path)) if stage == "build" else _read(Path(path))
    print(json.dumps({name: value - start if name.endswith("_mb") else value for name, value in measured.items()}))


if __name__ == "__main__":
    _main()
