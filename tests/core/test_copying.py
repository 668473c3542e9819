"""Copies share nothing with the originals, and refer to one another."""

from __future__ import annotations

import torch
from pyro.infer.autoguide import AutoGuideList, AutoNormal

from pyrolvm import guides, models
from pyrolvm.core.copying import copied
from pyrolvm.core.reachable import reachable_modules
from pyrolvm.core.threads import limited_threads


def test_a_copied_guide_refers_to_the_copied_model():
    model = models.VAE(2, 3, (4,))
    guide = guides.Amortized(model)
    own_model, own_guide = copied(model, guide)
    assert own_guide.model is own_model
    assert own_model is not model
    assert not set(map(id, own_model.parameters())) & set(map(id, model.parameters()))


def test_an_autoguide_and_its_copy_both_keep_their_model():
    model = models.VAE(2, 3, (4,))
    guide = AutoGuideList(model)
    guide.append(AutoNormal(model))
    x = torch.randn(5, 3)
    guide(x)
    own_model, own_guide = copied(model, guide)
    assert reachable_modules(guide[0].model) == [model]
    assert reachable_modules(own_guide[0].model) == [own_model]
    assert own_guide[0].master() is own_guide
    assert own_guide(x)["z"].shape == guide(x)["z"].shape


def test_threads_are_given_back():
    before = torch.get_num_threads()
    with limited_threads(before + 1):
        assert torch.get_num_threads() == before + 1
        with limited_threads(None):
            assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before
