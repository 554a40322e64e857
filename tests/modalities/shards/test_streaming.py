"""Training on shards is training on the files in them, whatever the memory, the threads and the place of a stop."""

import asyncio
import threading

import pytest
import torch
import yaml

from langevin import notebook
from langevin.modalities.ahead import ReadAhead
from langevin.modalities.image.data import load_parts, quiet
from langevin.modalities.image.sources import Folder
from langevin.modalities.image.store import Streaming
from langevin.run.pack import pack
from langevin.run.train import resume_run, train_run
from langevin.run.plan import Wanted
from tests import clips, motions, pictures, scores, texts, voices
