"""Training one stage: a step, an epoch, convergence, checkpoints, and what can go wrong with numbers."""
