"""Charts, pages and summaries of a run."""
