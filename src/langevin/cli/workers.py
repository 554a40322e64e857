"""Numbers of workers, as commands give them."""


def range_of(text: str) -> tuple[int, int]:
    """The least and the largest number of workers, from N or LEAST:MOST. Raises `ValueError` for anything else."""
    low, colon, high = text.partition(":")
    try:
        least, most = int(low), int(high) if colon else int(low)
    except ValueError:
        least, most = 0, 0
    if not 1 <= least <= most <= 10_000:
        raise ValueError(f"--workers is a number from 1, or a range such as 1:4, got {text}")
    return least, most
