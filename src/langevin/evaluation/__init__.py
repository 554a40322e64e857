"""Metrics of sample quality, one file per metric, and the report."""
