"""Pairs that ship in Pyro's own package: CEVAE, Gaussian processes, and mutated emission models.

References:
    Louizos et al. (2017), Causal Effect Inference with Deep Latent-Variable Models.
    Hensman, Matthews & Ghahramani (2015), Scalable Variational Gaussian Process Classification.
    Titsias & Lawrence (2010), Bayesian Gaussian Process Latent Variable Model.
    Weinstein & Marks (2021), A Structured Observation Distribution for Generative Biological
    Sequence Prediction and Forecasting.
"""

from __future__ import annotations

import torch
from pyro.contrib import gp
from pyro.contrib.cevae import CEVAE
from pyro.contrib.mue.models import FactorMuE, ProfileHMM

from tests.pairs.program import Program, generator


def cevae_pair():
    source = generator(5)
    z = torch.randn(16, generator=source)
    t = torch.bernoulli(torch.sigmoid(z), generator=source)
    x = z[:, None] + 0.5 * torch.randn(16, 3, generator=source)
    y = torch.bernoulli(torch.sigmoid(z + 2 * t - 1), generator=source)
    cevae = CEVAE(feature_dim=3, outcome_dist="bernoulli", latent_dim=2, hidden_dim=8,
                  num_layers=2, num_samples=4)  # fmt: skip
    return Program(cevae.model, cevae.guide, {"x": x, "t": t, "y": y})


def _curve():
    x = torch.linspace(0.0, 4.0, 12)
    return x, (x.sin() > 0).float()


def variational_gp_pair():
    x, y = _curve()
    process = gp.models.VariationalGP(
        x, y, gp.kernels.RBF(1), gp.likelihoods.Binary(), whiten=True, jitter=1e-4
    )
    return Program(process.model, process.guide, None, outside="f", steps=50)


def sparse_gp_pair():
    x, y = _curve()
    process = gp.models.VariationalSparseGP(
        x, y, gp.kernels.RBF(1), x[::3].clone(), gp.likelihoods.Binary(), whiten=True, jitter=1e-4
    )
    return Program(process.model, process.guide, None, outside="u", steps=50)


def gplvm_pair():
    y = torch.randn(3, 8, generator=generator(6))
    start = torch.randn(8, 1, generator=generator(7))
    process = gp.models.SparseGPRegression(
        start, y, gp.kernels.RBF(1), torch.zeros(3, 1), jitter=1e-4
    )
    process.Xu.data = torch.linspace(-1.0, 1.0, 3)[:, None]
    latent = gp.models.GPLVM(process)
    return Program(latent.model, latent.guide, None, outside="X", steps=50)


def _sequences():
    letters = torch.randint(4, (6, 5), generator=generator(8))
    return torch.nn.functional.one_hot(letters, 4).to(torch.get_default_dtype())


def profile_hmm_pair():
    hmm = ProfileHMM(latent_seq_length=3, alphabet_length=4)
    data = {"seq_data": _sequences(), "local_scale": 1.0}
    return Program(hmm.model, hmm.guide, data, outside="precursor_seq", steps=20)


def factor_mue_pair():
    mue = FactorMuE(data_length=5, alphabet_length=4, z_dim=2)
    data = {"seq_data": _sequences(), "local_scale": 1.0, "local_prior_scale": 1.0}
    return Program(mue.model, mue.guide, data, outside="W", steps=10)
