"""Training: the loop, optimizers, EMAs, checkpoints, step planning and recovery from failures; for any kind of data."""
