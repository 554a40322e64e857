"""Motion: skeletons in motion capture, and states of physical systems."""
