"""Mutated files by the thousand: reading one gives data or an error in words, in bounded memory."""
