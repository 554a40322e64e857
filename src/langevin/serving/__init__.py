"""The serving engine: many requests at different steps of their sampling share each evaluation of the network."""
