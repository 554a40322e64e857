"""How text is scored: overlap with references, corrections, spelling, variety, memory of the training text, likelihood."""
