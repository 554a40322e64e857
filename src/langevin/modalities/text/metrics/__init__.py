"""Metrics of text: overlap with references, corrections, spelling, variety, memorisation, n-gram likelihood."""
