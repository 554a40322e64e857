"""Points in one to 64 dimensions, drawn from a known distribution or read from a file."""
