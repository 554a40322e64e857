"""`--avoid`: guidance away from a condition."""

import pytest
import torch

from langevin.modalities.image.options import Sample
from langevin.modalities.modality import RequestContext
from langevin.run.directory import load_model, open_run
from langevin.run.generate import changed


def drawn(run, options, *, guidance):
    model = changed(load_model(open_run(run))[0], guidance=guidance)
    context = RequestContext(model=model, data=open_run(run).open_data, count=4, seed=3)
    return model.run(model.modality.plan(options, context)).values


def test_guidance_from_a_condition_to_itself_is_none(trained, captioned):
    """D_ref + w (D - D_ref) with D_ref = D."""
    for run, words in ((trained, "disc"), (captioned, "red disc")):
        plain = drawn(run, Sample(condition=(words,)), guidance=1.0)
        assert torch.equal(drawn(run, Sample(condition=(words,), avoid=(words,)), guidance=3.0), plain)
        away = drawn(run, Sample(condition=(words,), avoid=("bar" if run == trained else "blue bar",)), guidance=3.0)
        assert not torch.equal(away, plain)
        assert not torch.equal(away, drawn(run, Sample(condition=(words,)), guidance=3.0))


def test_it_needs_guidance_and_a_known_class(trained):
    with pytest.raises(ValueError, match="give --guidance above 1"):
        drawn(trained, Sample(avoid=("bar",)), guidance=1.0)
    with pytest.raises(ValueError, match="no class is called 'sun'"):
        drawn(trained, Sample(avoid=("sun",)), guidance=2.0)


def test_a_further_condition_of_weight_0_is_none_and_one_of_another_leads_elsewhere(trained, captioned):
    for run, words, other in ((trained, "disc", "bar"), (captioned, "red disc", "blue bar")):
        plain = drawn(run, Sample(condition=(words,)), guidance=1.0)
        none = drawn(run, Sample(condition=(words,), also=(f"{other}:0",)), guidance=1.0)
        assert (none.float() - plain.float()).abs().max() <= 1  # another size of batch
        more = drawn(run, Sample(condition=(words,), also=(f"{other}:4",)), guidance=1.0)
        less = drawn(run, Sample(condition=(words,), also=(f"{other}:-4",)), guidance=1.0)
        assert not torch.equal(more, plain)
        assert not torch.equal(more, less)


def test_weights_are_numbers_within_reason(trained):
    with pytest.raises(ValueError, match="no class is called 'sun'"):
        drawn(trained, Sample(also=("sun:2",)), guidance=1.0)
    for bad in ("disc:1000", "disc:nan", ":2"):
        with pytest.raises(ValueError, match="--also takes NAME or NAME:WEIGHT"):
            drawn(trained, Sample(also=(bad,)), guidance=1.0)
