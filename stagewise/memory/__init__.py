"""Memory of a training step: predicted before anything runs, and measured while it does."""
