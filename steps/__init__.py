"""ZenML steps, one a file: unwrap, call the core, wrap."""
