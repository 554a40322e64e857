"""Measurements of motions: physics of systems, feet and joints of skeletons, what action is done, likeness, copying."""
