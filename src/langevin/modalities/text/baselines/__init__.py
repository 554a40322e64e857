"""What a task on text reaches without learning, or with next to none: the values a model has to beat."""
