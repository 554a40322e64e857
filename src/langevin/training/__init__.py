"""Fitting: the loop, optimizers, averages, checkpoints, and how they come through failures. It knows no kind of data."""
