# %% [markdown]
# # How complex must the encoder be?
#
# An encoder has to undo its generator. How large must it be for that? Pareek & Risteski (2021)
# give two answers. If the generator is *strongly invertible*, an encoder need not be much larger
# than the generator: gradient descent through the generator, and a Langevin chain after it, can
# be written as a network. If it is not, it can hide a *one-way* function, and then the encoder
# must be exponentially large although the generator is small.
#
# The theorems are theirs; all generators, sizes and numbers below are ours. The evidence is known
# (in closed form or by quadrature), so that each guide is measured against the truth.

# %%
import os
import tempfile

import pyro
import torch

import pyrolvm as lvm
from pyrolvm import guides, models, plots
from pyrolvm.objectives import forward_kl

smoke = bool(os.environ.get("PYROLVM_SMOKE"))
pyro.set_rng_seed(0)

# %% [markdown]
# ## Two generators that could not be more alike
#
# A `ResidualGenerator` adds a network with Lipschitz constant c < 1 to the identity. All
# distances are kept up to the factors 1 − c and 1 + c, whatever the weights: that is certified.
# What a sample shows is less.

# %%
residual = models.ResidualGenerator(latent_dim=2, contraction=0.5, noise_scale=0.2)
print(lvm.invertibility(residual))
z = torch.randn(5, 2)
error = (residual.inverse(residual.generate(z)) - z).abs().max()
print(f"its inverse by fixed-point iteration is off by {error:.1e}")

# %% [markdown]
# A `SignPermutation` reads the signs of z as bits and puts out other bits, one for one. Its
# posterior is as simple as can be: half a normal in each dimension, on the right side of 0.

# %%
bits = 4 if smoke else 8
signed = models.SignPermutation(bits, permutation="signed-bits")
gray = models.SignPermutation(bits, permutation="gray-code")
x = gray(size=3)
print("signs of z, found exactly:", gray.posterior(x).sample().sign().int().tolist()[0])
print("log p(x) in closed form:  ", gray.log_evidence(x).tolist()[0])

# %% [markdown]
# ## Nothing to approximate, everything to amortize
#
# `SignGuide` holds these posteriors *exactly*; no richer family could help it. All that it has to
# learn is which bits belong to x. The sign has no gradient, so that the ELBO teaches nothing;
# forward KL on pairs that the generator simulates does.


# %%
def share_of_data_right(model: lvm.models.SignPermutation, width: int) -> float:
    guide = guides.SignGuide(model, hidden=(width,))
    data = model(size=256)
    lvm.fit(
        model, guide, data, loss=forward_kl, train="guide", batch_size=256, learning_rate=3e-2,
        steps=50 if smoke else 1500, progress=False,
    )  # fmt: skip
    return lvm.score(model, guide, data, num_particles=100).frame["tv_share"].item()


widths = (8, 32) if smoke else (8, 32, 64, 128)
print("share of data with a total variation of at most 0.1, by width of the encoder")
print("width       " + "".join(f"{width:8}" for width in widths))
for name, model in {"signed bits": signed, "Gray code": gray}.items():
    shares = [share_of_data_right(model, width) for width in widths]
    print(f"{name:12}" + "".join(f"{share:8.2f}" for share in shares))

# %% [markdown]
# In the Gray code each output depends on two inputs only, but each input depends on *all* outputs
# (it is a parity), and a network with one hidden layer pays for that: 8 units nearly undo the
# signed bits, 32 do not yet undo the Gray code for a single datum, and only 128 do for all. The
# same difference between a function and its inverse, taken to the extreme, is what makes a
# function one-way. It is an **amortization gap**: a comparison of ELBOs alone would not tell it
# from a poor family.
#
# ## Many-to-one is another kind of hard
#
# A `Folding` generator folds the unit interval k times: 2^k latents for every x, and so many
# modes. Here the family sets a limit, an **approximation gap**: C components cannot do better than
# log(2^k / C) nats, up to what the modes share.

# %%
study = lvm.Study(
    "which gap",
    [
        {
            "model": [
                {"name": "residual-generator", "latent_dim": 2, "contraction": 0.5},
                {"name": "folding", "num_folds": 1},
            ],
            "guide": {
                "name": "amortized",
                "family": "mixture",
                "num_components": [1, 2],
                "hidden": [[4], [16]] if smoke else [[4], [16], [64]],
            },
            "data": "simulated:200" if smoke else "simulated:4000",
            "steps": 60 if smoke else 2000,
            "learning_rate": 1e-2,
            "oracle_steps": 30 if smoke else 300,
            "test_size": 20 if smoke else 100,
        }
    ],
)
with tempfile.TemporaryDirectory() as folder:
    result = study.run(out=folder, progress=False)
columns = ["model", "guide.num_components", "guide.hidden", "parameters"]
gaps = ["gap", "approximation_gap", "amortization_gap"]
print(result.frame[[*columns, *gaps]].round(3).to_string(index=False))

# %% [markdown]
# ## The figure
#
# Encoder parameters against the gap. The dark part stays however large the encoder becomes, the
# light part is what the encoder loses besides. The dotted line stands at 0.05 nats.

# %%
plots.encoder_budget(result.frame)

# %% [markdown]
# For the invertible generator one Gaussian is enough, and the encoder's size is all that matters.
# On the folded one both families end near log 2 = 0.69 nats, for different reasons. A single
# Gaussian cannot do better: that is approximation. Two could, and fall to a few hundredths when
# they are fitted to each datum; but the ELBO is content with one mode, and no encoder here found
# the other: that is amortization. The total alone does not tell the two apart.
#
# ## The generator can help its own encoder
#
# `Langevin` is the construction behind the first theorem: an affine start, gradient steps through
# the generator, then a Langevin chain. The weights it uses are the generator's; its own are few.

# %%
data = residual(size=40 if smoke else 1000).detach()
rivals = {
    "full, 16 units": guides.Amortized(residual, "full", hidden=(16,)).standardise_by(data),
    "Langevin": guides.Langevin(residual, num_descent=10, num_langevin=5),
}
steps, oracle_steps = (20, 10) if smoke else (2000, 400)
table = lvm.compare(residual, rivals, data, steps=steps, oracle_steps=oracle_steps, progress=False)
print(table.frame[["parameters", "gap", "gap_se", "khat_median"]].round(4).to_string())

# %% [markdown]
# With 11 parameters of its own the chain ends several times closer than an encoder of 133. Its
# density has no closed form, so its gap is that of the whole chain, an upper bound on the gap of
# where it ends. A generator of signs would not guide it at all: there is no gradient to follow.
#
# **To take home.** Ask *which* gap it is before buying a larger encoder. An approximation gap
# wants components; an amortization gap wants width, depth, data, another objective, or the
# generator's own gradient. `pyrolvm study encoder-complexity`, `one-way`, `folding` and `langevin`
# do all of this at size.
