# %% [markdown]
# # How wrong is my guide?
#
# Variational inference always returns an answer: the guide with the best ELBO that training
# found. The ELBO does not say how far that guide is from the posterior. Here we take a plain
# Pyro model and a plain Pyro guide, which know nothing of PyroLVM, train them with Pyro's own
# `SVI`, and measure the distance. Figures are in nats a datum: 1 nat is a factor of e ≈ 2.7 in
# probability.

# %%
import math
import os

import matplotlib.pyplot as plt
import pyro
import pyro.distributions as dist
import torch
from pyro.infer import SVI, Trace_ELBO
from pyro.infer.importance import psis_diagnostic
from torch import nn

import pyrolvm as lvm
from pyrolvm import diagnostics, guides, models

smoke = bool(os.environ.get("PYROLVM_SMOKE"))
pyro.set_rng_seed(0)

# %% [markdown]
# ## A model and a guide: where is the walker?
#
# A walker stands on a plane at `z`, standard normal. Two beacons report their distances to the
# walker, `x`, with an error of 0.2. The only convention to keep: independent data stand in a
# plate called `"data"`, and networks act on the last axis. The guide is a small network that
# turns the two readings into a Gaussian with independent coordinates.

# %%
beacons = torch.tensor([[-1.0, 0.0], [1.0, 0.0]])
encoder = nn.Sequential(nn.Linear(2, 128), nn.ReLU(), nn.Linear(128, 4))


def model(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        distance = (z[..., None, :] - beacons).norm(dim=-1)
        pyro.sample("x", dist.Normal(distance, 0.2).to_event(1), obs=x)


def guide(x):
    pyro.module("encoder", encoder)
    loc, log_scale = encoder(x).chunk(2, dim=-1)
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(loc, log_scale.exp()).to_event(1))


def walkers(size):
    z = torch.randn(size, 2)
    return z, (z[:, None] - beacons).norm(dim=-1) + 0.2 * torch.randn(size, 2)


_, x_train = walkers(1000)
svi = SVI(model, guide, pyro.optim.Adam({"lr": 3e-3}), Trace_ELBO())
losses = [svi.step(x_train) / len(x_train) for _ in range(300 if smoke else 3000)]
print(f"training ELBO, last 100 steps: {-sum(losses[-100:]) / 100:.3f} nats a datum")

# %% [markdown]
# ## The measurement
#
# `lvm.score` draws 1,000 particles from the guide for every datum, weighs each by log w = log
# p(x, z) − log q(z | x), and reads everything from these weights, in double precision.

# %%
z_test, x_test = walkers(100 if smoke else 300)
print(lvm.score(model, guide, x_test))

# %% [markdown]
# - **ELBO** is the mean log weight.
# - **log p(x)**, the evidence, is not known for this model. What stands there is the
#   importance-weighted bound (IWAE) from the same draws; on average it lies between the ELBO and
#   the truth.
# - **gap** is evidence minus ELBO, the divergence KL(guide ‖ posterior). Where the evidence is a
#   lower bound, the gap is one too: hence the sign ≥.
# - **k̂** describes the tail of the weights. Above the threshold they are too uneven to be
#   averaged.
#
# ## First trap: one k̂ for the whole batch
#
# Pyro's own `psis_diagnostic` gives a data set a single weight, the product of all its data's
# weights. Such a product is spread out more with every datum, so that its k̂ is soon large for
# any guide that is not exact. Datum by datum, k̂ says which posteriors to distrust.

# %%
log_weights = lvm.log_densities(model, guide, x_test, num_particles=1000).log_weights
khat, threshold = diagnostics.pareto_khat(log_weights), diagnostics.khat_threshold(1000)
batch_khat = psis_diagnostic(model, guide, x_test, num_particles=1000, max_plate_nesting=1)
share = (khat > threshold).double().mean()
print(f"log weights (particles × data)     {tuple(log_weights.shape)}")
print(f"one k-hat for the batch            {batch_khat:.2f} (threshold {threshold:.2f})")
print(f"one k-hat a datum                  median {khat.median():.2f}, {share:.0%} too high")

# %% [markdown]
# ## Second trap: a guide that misses a mode does not know it
#
# Two distances do not say on which side of the line through the beacons the walker stands: the
# posterior has two mirror images with half of the mass each. Our Gaussian covers one. If it
# covered that one perfectly, every log weight would be log p(x) − log 2: constant weights, k̂ =
# −∞, a reported gap of 0, and a true gap of log 2 ≈ 0.69 nats. Nothing computed from these draws
# can tell, because no draw ever lands on the other side.
#
# What helps is a second guide that looks elsewhere. This one mirrors the first; it needs no
# training.


# %%
def both_sides(x):
    pyro.module("encoder", encoder)
    loc, log_scale = encoder(x).chunk(2, dim=-1)
    locs = torch.stack([loc, loc * torch.tensor([1.0, -1.0])], dim=-2)
    sides = dist.Normal(locs, log_scale.exp()[..., None, :]).to_event(1)
    halves = dist.Categorical(logits=torch.zeros(len(x), 2))
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.MixtureSameFamily(halves, sides))


pair = {"one side": guide, "both sides": both_sides}
print(lvm.compare(model, pair, x_test, test=x_test, train="nothing", progress=False))

# %% [markdown]
# Guides of one model are measured against one evidence, the tightest bound among them. Under it
# the gap of the one-sided guide is larger than what it claimed for itself, while its k̂ is as
# before. With only two latents we can also get the truth, by summing the joint density over a
# fine grid.

# %%
axis = torch.linspace(-6.0, 6.0, 301, dtype=torch.float64)
grid = torch.cartesian_prod(axis, axis)
likelihood = dist.Normal((grid[:, None] - beacons).norm(dim=-1)[:, None], 0.2)
log_prior = dist.Normal(0.0, 1.0).log_prob(grid).sum(-1, keepdim=True)
log_joint = log_prior + likelihood.log_prob(x_test.double()).sum(-1)
truth = log_joint.logsumexp(0) + 2 * (axis[1] - axis[0]).log()
hidden = truth - diagnostics.iwae(log_weights)  # nats that the guide's own draws did not find
true_gap = truth - diagnostics.elbo(log_weights)
unaware = (hidden > 0.5) & (khat < threshold)
print(f"log p(x) on the grid            {truth.mean():.3f} nats")
print(f"true gap of the one-sided guide {true_gap.mean():.3f} nats")
print(f"a side is missing (> 0.5 nats)  {(hidden > 0.5).sum()} of {len(x_test)} data")
print(f"... although k-hat is low       {unaware.sum()} of them")

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
colors = {"c": hidden, "cmap": "viridis", "vmin": 0, "vmax": math.log(2), "s": 14}
points = left.scatter(*z_test.T, **colors)
left.plot(*beacons.T, "^", color="black", markersize=9)
left.set(
    aspect="equal", title="Where the walkers are (triangles: beacons)", xlabel="z₁", ylabel="z₂"
)
figure.colorbar(points, label="evidence that the guide did not find (nats)")
right.scatter(khat, hidden, **colors)
right.axvline(threshold, color="0.4", linewidth=1)
right.axhline(math.log(2), color="0.4", linewidth=1)
right.text(khat.max(), math.log(2), "log 2", ha="right", va="bottom")
right.set(title="k̂, its threshold, and what is missing", xlabel="k̂", ylabel="nats not found")
for axes in (left, right):
    axes.spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# Near the beacons' line the two sides meet, and the guide's draws reach both. Away from it they
# do not, and about log 2 goes missing. The upper left of the right panel is the trap: k̂ is low,
# and half of the posterior is not there. A low k̂ says that the weights can be averaged, not
# that the guide has seen everything. (Points below 0 are estimates that overshoot: the bound
# holds on average, and where k̂ is high a single estimate may be far off.)
#
# ## Is the ruler right? A posterior known in closed form
#
# In a linear Gaussian model, x = Wz + b + noise of covariance Σ, the posterior is N(m(x), Λ⁻¹)
# with Λ = I + Wᵀ Σ⁻¹ W. From a guide with D independent coordinates, N(m(x), diag s²), it is
# away by
#
# KL = ½ [Σᵢ sᵢ² Λᵢᵢ − D − Σᵢ log sᵢ² − log det Λ].
#
# Its derivative in sᵢ² vanishes at sᵢ² = 1/Λᵢᵢ, which leaves ½ [Σᵢ log Λᵢᵢ − log det Λ] nats for
# every datum. We write that best mean-field guide by hand, and measure it like any other.

# %%
linear = models.LinearGaussian(latent_dim=2, obs_dim=5, noise_scale=0.3)
x_linear = linear(size=100 if smoke else 1000).detach()
scaled = (linear.decoder[0].weight / linear.noise_scale[:, None]).detach().double()
precision = torch.eye(2) + scaled.T @ scaled


def mean_field(x):
    with pyro.plate("data", len(x)):
        loc, scale = linear.posterior(x).mean, precision.diagonal().rsqrt()
        pyro.sample("z", dist.Normal(loc, scale).to_event(1))


closed_form = 0.5 * (precision.diagonal().log().sum() - precision.logdet())
row = lvm.score(linear, mean_field, x_linear).frame.iloc[0]
exact = lvm.score(linear, guides.Exact(linear), x_linear).frame.iloc[0]
print(f"mean field, closed form  {closed_form:.4f} nats")
print(f"mean field, measured     {row.gap:.4f} ± {row.gap_se:.4f} nats")
print(f"exact guide, measured    {exact.gap:.0e} nats")

# %% [markdown]
# The measurement agrees with the closed form to within a few standard errors, and finds nothing
# where there is nothing to find: under the exact guide every log weight is log p(x), up to
# rounding.
#
# **To take home.** Ask for gap and k̂ datum by datum. Read ≥ as what it says, and bring a second
# guide that looks elsewhere before believing that a gap is small. Where a model knows its own
# evidence the sign ≥ goes away; the next two tutorials stay with such models.
