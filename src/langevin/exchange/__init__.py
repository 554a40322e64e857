"""A run for other programs, and networks of other programs as runs: export, import, reference forwards."""
