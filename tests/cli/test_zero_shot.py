"""The command zero-shot, and what follows it: a folder that is labelled by class names alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from tests.learn.foundation import tiny_presets
from tests.learn.foundation.tiny_presets import SIDE, WORDS

pytestmark = [
    pytest.mark.keras,
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"),
]


Command = Callable[..., Any]  # tests/conftest.py, selftrain


@pytest.mark.slow
def test_a_folder_is_labelled_by_class_names_alone(selftrain: Command, tmp_path: Path) -> None:
    keras.utils.set_random_seed(3)
    digits = load_digits()
    scans = np.stack([np.asarray(Image.fromarray((scan * 15.9).astype(np.uint8)).resize((SIDE, SIDE)).convert("RGB"))
                      for scan in digits.images])  # fmt: skip
    preset = tiny_presets.clip_of_digits(tmp_path / "clip", scans[:1200], digits.target[:1200])
    (tmp_path / "pool").mkdir()
    for at in range(1200, 1500):
        Image.fromarray(scans[at]).save(tmp_path / "pool" / f"{at}.png")
    classes, model = ",".join("0123456789"), str(tmp_path / "model")
    called = [part for at, word in enumerate(WORDS) for part in ("--called", f"{at}={word}")]
    said = selftrain("zero-shot", "--preset", str(preset), "--classes", classes, "--prompt", "a {}", *called,
                   "--out", model, "--json")  # fmt: skip
    assert said.code == 0, said.err
    made = json.loads(said.out)
    assert made["image_size"] == SIDE
    assert "no label taught or calibrated this model" in made["note"]
    out = tmp_path / "labels.csv"
    labelled = selftrain(
        "pseudo-label", "--model", model, "--images", str(tmp_path / "pool"), "--out", str(out), "--threshold", "0"
    )
    assert labelled.code == 0, labelled.err
    table = pd.read_csv(out, dtype={"class": str})
    truth = [str(digits.target[int(Path(path).stem)]) for path in table["path"]]
    assert (table["class"] == truth).mean() > 0.3  # chance is .1


def test_what_does_not_fit_is_refused_before_a_preset_is_loaded(selftrain: Command, tmp_path: Path) -> None:
    def refused(*options: str) -> str:
        ended = selftrain("zero-shot", *options)
        assert ended.code == 2
        return str(" ".join(ended.err.split()))

    out = str(tmp_path / "model")
    two = ["--preset", "gone", "--out", out]
    assert "give two or more names" in refused(*two, "--classes", "cat")
    assert "write {} once" in refused(*two, "--classes", "cat,dog", "--prompt", "a photo")
    assert "is not CLASS=WORDS" in refused(*two, "--classes", "cat,dog", "--called", "cat")
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "notes.txt").write_text("mine")
    assert "was left as it is" in refused("--preset", "gone", "--classes", "cat,dog", "--out", str(mine))
    assert not (tmp_path / "model").exists()
    assert (mine / "notes.txt").read_text() == "mine"


def test_an_unknown_preset_is_refused_with_the_nearest_name(selftrain: Command, tmp_path: Path) -> None:
    said = selftrain(
        "zero-shot", "--preset", "clip_vit_base_patch23", "--classes", "cat,dog", "--out", str(tmp_path / "model")
    )
    assert said.code == 2
    assert "did you mean 'clip_vit_base_patch32'" in " ".join(said.err.split())
    assert not (tmp_path / "model").exists()
