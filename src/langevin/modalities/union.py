"""All modalities. A new one is a folder and an entry in `parts`, or here; nothing else outside its folder names it."""

from langevin.modalities.joint.modality import Joint
from langevin.modalities.parts import AnyPart
from langevin.modalities.table.modality import Table

AnyModality = AnyPart | Table | Joint
