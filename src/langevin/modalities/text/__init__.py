"""Text: how it is read, coded and scored."""
