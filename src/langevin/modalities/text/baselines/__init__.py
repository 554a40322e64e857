"""Baselines of text tasks with little or no learning."""
