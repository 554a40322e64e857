"""Runs: their directories, training, sampling, evaluation and fitted solvers."""
