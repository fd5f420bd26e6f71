"""Images and their table: sources, decoding, the store, splits, the Manifest."""
