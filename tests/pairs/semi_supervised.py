"""Semi-supervised variational autoencoder, the generative model M2: a class and a style.

Without labels the class is a latent that the guide draws from q(y | x), or that it leaves to be
summed out; with labels it is observed.

References:
    Kingma, Rezende, Mohamed & Welling (2014), Semi-supervised Learning with Deep Generative
    Models, equations 2 and 4.
"""

from __future__ import annotations

import pyro
import torch
from pyro.distributions import Bernoulli, Normal, OneHotCategorical
from torch import nn

from tests.pairs.program import Program, generator

CLASSES, STYLE, PIXELS, HIDDEN = 3, 2, 8, 16


class SemiSupervisedVAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.decoder = nn.Sequential(
            nn.Linear(CLASSES + STYLE, HIDDEN), nn.Softplus(), nn.Linear(HIDDEN, PIXELS)
        )
        self.classifier = nn.Linear(PIXELS, CLASSES)
        self.encoder = nn.Sequential(
            nn.Linear(CLASSES + PIXELS, HIDDEN), nn.Softplus(), nn.Linear(HIDDEN, 2 * STYLE)
        )

    def model(self, x, y=None):
        pyro.module("ssvae", self)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", Normal(x.new_zeros(STYLE), 1.0).to_event(1))
            chances = x.new_full((CLASSES,), 1.0 / CLASSES)
            y = pyro.sample("y", OneHotCategorical(chances), obs=y,
                            infer={"enumerate": "parallel"})  # fmt: skip
            logits = self.decoder(_beside(z, y))
            pyro.sample("x", Bernoulli(logits=logits).to_event(1), obs=x)

    def guide(self, x, y=None):
        pyro.module("ssvae", self)
        with pyro.plate("data", len(x)):
            if y is None:
                y = pyro.sample("y", OneHotCategorical(logits=self.classifier(x)))
            loc, log_scale = self.encoder(_beside(x, y)).chunk(2, -1)
            pyro.sample("z", Normal(loc, log_scale.exp()).to_event(1))

    def guide_of_style(self, x, y=None):
        """Draws the style only; where it does, the class is summed out of the model."""
        pyro.module("ssvae", self)
        with pyro.plate("data", len(x)):
            share = self.classifier(x).softmax(-1) if y is None else y
            loc, log_scale = self.encoder(_beside(x, share)).chunk(2, -1)
            pyro.sample("z", Normal(loc, log_scale.exp()).to_event(1))


def _beside(*parts):
    """Join on the last axis what has different batch shapes."""
    batch = torch.broadcast_shapes(*(part.shape[:-1] for part in parts))
    return torch.cat([part.expand(*batch, part.shape[-1]) for part in parts], -1)


def data():
    source = generator(3)
    y = nn.functional.one_hot(torch.arange(12) % CLASSES, CLASSES).float()
    chances = torch.rand(CLASSES, PIXELS, generator=source)
    return {"x": torch.bernoulli(y @ chances, generator=source), "y": y}


def labelled_pair():
    vae = SemiSupervisedVAE()
    return Program(vae.model, vae.guide, data())


def unlabelled_pair():
    vae = SemiSupervisedVAE()
    return Program(vae.model, vae.guide, data()["x"])


def summed_pair():
    vae = SemiSupervisedVAE()
    return Program(vae.model, vae.guide_of_style, data()["x"], summed_out=("y",))
