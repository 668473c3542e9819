"""Generative models: one file a model, each a plain Pyro program."""

from pyrolvm.models.cpa_generator import CPAGenerator
from pyrolvm.models.linear_gaussian import LinearGaussian
from pyrolvm.models.vae import VAE

__all__ = ["VAE", "CPAGenerator", "LinearGaussian"]
