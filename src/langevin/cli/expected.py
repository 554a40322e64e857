"""The errors that are shown as a message, without a traceback."""


def errors() -> tuple[type[Exception], ...]:
    """ValueError, OSError and divergence; any other exception is a bug."""
    if "torch" not in __import__("sys").modules:
        return (ValueError, OSError)
    from langevin.training.loop import Diverged

    return (ValueError, OSError, Diverged)
