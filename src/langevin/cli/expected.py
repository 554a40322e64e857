"""The errors that are messages to the user."""


def errors() -> tuple[type[Exception], ...]:
    """ValueError, OSError and divergence; anything else is a defect."""
    if "torch" not in __import__("sys").modules:
        return (ValueError, OSError)
    from langevin.training.loop import Diverged

    return (ValueError, OSError, Diverged)
