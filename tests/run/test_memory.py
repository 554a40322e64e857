"""The peak of tensors alive at once is that of a program whose tensors are known."""

import torch

from langevin.run.memory import AliveTensors, peak_bytes

KB = 1000


def kilobyte():
    return torch.empty(KB, dtype=torch.uint8)


def test_what_is_alive_at_once_counts():
    def three_then_two():
        held = [kilobyte() for _ in range(3)]
        held.clear()
        return kilobyte(), kilobyte()

    assert peak_bytes(three_then_two) == 3 * KB


def test_views_and_changes_in_place_are_no_further_tensors():
    def work():
        x = kilobyte()
        y = x.view(10, 100)[:, :50]
        x.add_(1)
        y.mul_(2)
        return y

    assert peak_bytes(work) == KB


def test_a_view_keeps_all_of_its_tensor_alive():
    with AliveTensors() as alive:
        part = kilobyte()[:1]
        assert alive.now == KB
        del part
        assert alive.now == 0
        copy = kilobyte()[:1].clone()
        assert (alive.now, alive.peak, len(copy)) == (1, KB + 1, 1)


def test_what_was_there_before_does_not_count():
    weight = torch.ones(KB, dtype=torch.uint8)
    assert peak_bytes(lambda: weight[:500].add_(1)) == 0
    assert peak_bytes(lambda: weight + 1) == KB


def test_a_module_has_its_intermediate_tensors_alive():
    layers = torch.nn.Sequential(torch.nn.Linear(250, 500), torch.nn.ReLU(inplace=True), torch.nn.Linear(500, 10))
    x = torch.zeros(5, 250)
    assert peak_bytes(lambda: layers(x)) == 4 * 5 * (500 + 10)
