"""Clean text made faulty as people do it, to train what repairs it."""
