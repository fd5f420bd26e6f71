"""What `zenml pipeline run unrolled_pipeline` imports: this module replaces itself with the pipeline."""

import sys

from pipelines.unrolled_pipeline import unrolled_pipeline
from selftrain.adapters.runs.entry import UnrolledEntry

sys.modules[__name__] = UnrolledEntry(unrolled_pipeline)  # type: ignore[assignment]  # any object may stand for a module
