"""How good samples are: one file a metric, and the report."""
