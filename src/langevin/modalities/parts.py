"""The modalities that can be a part of a joint one: those whose examples are one tensor. `union` adds the others."""

from langevin.modalities.image.modality import Image
from langevin.modalities.motion.modality import Motion
from langevin.modalities.music.modality import Music
from langevin.modalities.points.modality import Points
from langevin.modalities.speech.modality import Speech
from langevin.modalities.text.modality import Text
from langevin.modalities.video.modality import Video

AnyPart = Image | Text | Points | Speech | Music | Video | Motion
