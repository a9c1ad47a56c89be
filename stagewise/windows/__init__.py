"""From items on disk to batches of windows: where rows come from, which windows, and reading them ahead."""
