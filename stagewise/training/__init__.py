"""Training one stage: windows, the rows they are made of, a step, an epoch, convergence, checkpoints, and memory."""
