"""The modalities that can be a part of a joint one: their examples are grids, one an item of the data, and they have
`filled` (x at its full size), `read` (a file as x) and `reader` (what samples say). `union` adds the others."""

from langevin.modalities.image.modality import Image
from langevin.modalities.speech.modality import Speech
from langevin.modalities.video.modality import Video

AnyPart = Image | Speech | Video
