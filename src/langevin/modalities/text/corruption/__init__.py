"""Corrupts clean text with spelling and grammar errors that people make, to measure correction."""
