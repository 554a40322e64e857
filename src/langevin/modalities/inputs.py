"""Types of options that name files. No torch here."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated


@dataclass(frozen=True)
class Reads:
    """Marks an option that names a file: one that a server's client sends along, or one of this machine alone.

    Args:
        mask_of: the option whose image the file is a mask of, which a page can let one draw.
    """

    uploaded: bool = True
    mask_of: str = ""


InputFile = Annotated[str, Reads()]  # a file with what a request is about
LocalFile = Annotated[Path, Reads(uploaded=False)]  # a file that belongs to the machine, which no client may name
