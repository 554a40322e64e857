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
