import pytest
import torch


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # small tensors: threads gain nothing and wait for each other on a busy machine
    yield
    torch.set_num_threads(threads)
