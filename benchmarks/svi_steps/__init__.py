"""One training step of the same mathematics: Pyro, PyroLVM, PyTorch by hand, and NumPyro."""
