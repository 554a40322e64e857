"""What must not leave a model: memorised data."""
