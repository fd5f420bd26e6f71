"""Self-training: thresholds, pseudo-labels, the gate and the rounds."""
