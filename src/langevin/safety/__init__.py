"""Tests for memorised training data."""
