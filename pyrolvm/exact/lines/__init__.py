"""The exact posterior along a line, for any latent dimension."""
