"""The start of Keras: a command that predicts loads no library that it does not use, and hides none for good."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import sys
from selftrain.adapters.process.quiet_start import UNUSED, start_keras
start_keras(lean=True)
assert not set(UNUSED) & set(sys.modules), sorted(set(UNUSED) & set(sys.modules))
import matplotlib, pandas, sklearn
import keras, numpy
model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
print(model.predict(numpy.ones((3, 2)), verbose=0).shape)
"""


@pytest.mark.keras
def test_a_lean_start_leaves_out_what_keras_does_not_need_and_it_can_be_imported_later() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "(3, 1)\n"), done.stderr
