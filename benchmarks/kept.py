"""Kept results: what took hours to measure, on disk until the code behind it or its configuration changes."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from benchmarks.machine import ROOT
from selftrain.adapters.process import code_digest
from selftrain.files.writing import replace_text

PLACE = ROOT / ".selftrain" / "benchmarks"
MODULES = ["selftrain.data.store.dataset", "selftrain.data.ingest.ingest", "selftrain.selflabel.loop"]
OWN = ("digits.py", "draws.py", "loops.py", "protocol.py")  # what measures, beside the core that is measured
T = TypeVar("T", bound=BaseModel)


def kept(kind: type[T], name: str, configuration: str, make: Callable[[Path], T], *, fresh: bool = False) -> T:
    """What `make` returned before for benchmark `name`, this `configuration`, code and backend; else what it returns.

    `make` is given a folder to keep what it goes on from after a kill; the folder is removed once the result is kept.
    With `fresh` it is made whatever is there, from nothing.
    """
    import keras

    own = [Path(__file__).with_name(name).read_text() for name in OWN]
    kinds = json.dumps(kind.model_json_schema(), sort_keys=True)
    depends_on = [code_digest.digest(MODULES), *own, kinds, configuration, keras.config.backend()]
    place = PLACE / name / hashlib.sha256("\n".join(depends_on).encode()).hexdigest()[:16]
    path = place.with_suffix(".json")
    if fresh:
        path.unlink(missing_ok=True)
        shutil.rmtree(place, ignore_errors=True)
    if path.exists():
        return kind.model_validate_json(path.read_text(encoding="utf-8"))
    result = make(place)
    replace_text(path, result.model_dump_json())
    shutil.rmtree(place, ignore_errors=True)
    return result
