"""Several modalities side by side in one run."""
