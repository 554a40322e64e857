"""Runs for other programs, and networks of other programs as runs."""
