"""The adapters: in the package, only they import MLflow, DVC, Great Expectations and ZenML."""
