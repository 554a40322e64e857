"""All modalities. A new one is a folder and an entry here, or in `parts`; nothing else outside its folder names it."""

from langevin.modalities.joint.modality import Joint
from langevin.modalities.motion.modality import Motion
from langevin.modalities.music.modality import Music
from langevin.modalities.parts import AnyPart
from langevin.modalities.points.modality import Points
from langevin.modalities.table.modality import Table
from langevin.modalities.text.modality import Text

AnyModality = AnyPart | Text | Points | Music | Motion | Table | Joint
