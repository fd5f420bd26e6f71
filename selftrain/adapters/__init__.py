"""The only importers of mlflow, dvc, great_expectations and zenml."""
