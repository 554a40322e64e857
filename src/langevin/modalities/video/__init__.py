"""Clips of moving pictures."""
