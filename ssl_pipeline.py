"""The name that `zenml pipeline run ssl_pipeline` takes: this module is the pipeline."""

import sys

from pipelines.ssl_pipeline import ssl_pipeline
from selftrain.adapters.process_lock import signature

sys.modules[__name__] = ssl_pipeline.with_options(extra=signature())  # type: ignore[assignment]
