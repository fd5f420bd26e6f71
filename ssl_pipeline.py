"""The name that `zenml pipeline run ssl_pipeline` takes: this module is the pipeline."""

import sys

from pipelines.ssl_pipeline import ssl_pipeline

sys.modules[__name__] = ssl_pipeline  # type: ignore[assignment]
