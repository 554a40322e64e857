"""Recipes: the complete typed configuration of a run, read from YAML, completed from the data, and built into its parts.

This package assembles all others: processes, networks, methods, training and modalities.
"""
