"""The name that `zenml pipeline run ssl_pipeline` takes: this module is the pipeline."""

import sys

from pipelines.ssl_pipeline import ssl_pipeline
from selftrain.adapters.runs.entry import entry

sys.modules[__name__] = entry(ssl_pipeline)  # type: ignore[assignment]
