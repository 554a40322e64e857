"""The recipe that is suggested for a text follows from how often it will be seen."""

import pytest

from langevin.modalities.modality import Budget
from langevin.modalities.text.modality import Text
from tests import texts


@pytest.mark.parametrize(("minutes", "often"), [(0.01, False), (10.0, True)])
def test_a_text_that_is_seen_often_keeps_its_best_weights_and_the_reasons_say_so(tmp_path, minutes, often):
    data = Text(path=str(texts.corpus(tmp_path / "corpus")))
    suggested = data.suggest(data.open()[0], Budget(minutes=minutes, flops=1e10))
    assert suggested.recipe["training"]["keep_best"] is often
    assert any("least held-out loss" in reason for reason in suggested.reasons) is often
