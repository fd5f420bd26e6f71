"""What `zenml pipeline run retraining_pipeline` imports: this module replaces itself with the pipeline."""

import sys
from pathlib import Path

from selftrain.adapters.process.own_packages import own_packages_first

with own_packages_first(Path(__file__).resolve().parent):
    from pipelines.retraining_pipeline import retraining_pipeline
from selftrain.adapters.retraining.life import look_again
from selftrain.adapters.runs.entry import Entry

sys.modules[__name__] = Entry(retraining_pipeline, then=look_again)  # type: ignore[assignment]  # any object may stand for a module
