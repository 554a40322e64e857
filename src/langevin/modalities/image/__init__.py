"""Pictures: how they are read, coded and scored."""
