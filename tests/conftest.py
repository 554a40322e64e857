"""What many rooms' tests share. Small tensors are faster on one thread than on two that wait for each other."""

import pytest
import torch
from hypothesis import settings

from tests import pictures, tiny

settings.register_profile("untimed", deadline=None)  # how long an example takes is the machine's affair
settings.load_profile("untimed")


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory):
    """What is kept to be faster the next time is kept apart from the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LANGEVIN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A finished run of four steps on two classes of 8x8 pictures. Nobody changes it: copy it for that."""
    folder = tmp_path_factory.mktemp("trained")
    return tiny.run_of(pictures.classes(folder / "data"), folder / "run")


@pytest.fixture(scope="session")
def captioned(tmp_path_factory):
    """The same, told by captions such as 'red disc'."""
    folder = tmp_path_factory.mktemp("captioned")
    return tiny.run_of(pictures.captions(folder / "data"), folder / "run")
