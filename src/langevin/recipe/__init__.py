"""Recipes: the typed tree of everything a run is made of, read from YAML, completed from data, built into parts.

The one place that knows every room.
"""
