"""Music: notes of several voices in time."""
