"""The name that `zenml pipeline run ssl_pipeline` takes: this module is the pipeline."""

import sys

from pipelines.ssl_pipeline import ssl_pipeline
from selftrain.adapters.runs.entry import Entry

sys.modules[__name__] = Entry(ssl_pipeline)  # type: ignore[assignment]
