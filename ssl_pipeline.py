"""What `zenml pipeline run ssl_pipeline` imports: this module replaces itself with the pipeline."""

import sys
from pathlib import Path

from selftrain.adapters.process.own_packages import own_packages_first

with own_packages_first(Path(__file__).resolve().parent):
    from pipelines.ssl_pipeline import ssl_pipeline
from selftrain.adapters.runs.entry import Entry

sys.modules[__name__] = Entry(ssl_pipeline)  # type: ignore[assignment]  # any object may stand for a module
