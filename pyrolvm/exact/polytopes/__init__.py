"""Regions and Gaussian integrals in three and more latent dimensions."""
