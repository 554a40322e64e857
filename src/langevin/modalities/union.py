"""All modalities. A new one is a folder and an entry here; nothing else outside its folder names it."""

from langevin.modalities.image.modality import Image
from langevin.modalities.motion.modality import Motion
from langevin.modalities.music.modality import Music
from langevin.modalities.points.modality import Points
from langevin.modalities.speech.modality import Speech
from langevin.modalities.table.modality import Table
from langevin.modalities.text.modality import Text
from langevin.modalities.video.modality import Video

AnyModality = Image | Text | Points | Speech | Music | Table | Video | Motion
