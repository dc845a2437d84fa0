"""From pairs to batches: views, rows, samplers."""
