# %% [markdown]
# # How wrong is my guide?
#
# Variational inference always returns an answer: the guide with the best ELBO that training found.
# The ELBO does not say how far that guide is from the posterior. Here we take a plain Pyro model and
# a plain Pyro guide, which know nothing of PyroLVM, train them with Pyro's own `SVI`, and measure
# the distance. Everything is in nats a datum, averaged over data; 1 nat is a factor of e ≈ 2.7 in
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
# ## A model: where is the walker?
#
# A walker stands somewhere on a plane, `z`, standard normal. Two beacons report their distance to
# the walker, `x`, each with an error of 0.2. The only rule to keep is Pyro's usual one: data that
# are independent stand in a plate, and the plate is called `"data"`.

# %%
beacons = torch.tensor([[-1.0, 0.0], [1.0, 0.0]])


def model(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        distance = (z[..., None, :] - beacons).norm(dim=-1)
        pyro.sample("x", dist.Normal(distance, 0.2).to_event(1), obs=x)


encoder = nn.Sequential(
    nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4)
)


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
print(f"training: ELBO of the last 100 steps {-sum(losses[-100:]) / 100:.3f} nats a datum")

# %% [markdown]
# ## The measurement
#
# `lvm.diagnose` draws 1,000 particles for every datum from the guide, weighs each with
# log w = log p(x, z) − log q(z | x), and reads everything from these weights, in double precision.

# %%
z_test, x_test = walkers(100 if smoke else 300)
measured = lvm.diagnose(model, guide, x_test)
print(measured)

# %% [markdown]
# - **ELBO** is the mean log weight.
# - **log p(x)** is not known for this model. What stands there is the importance-weighted (IWAE)
#   bound from the same draws: it lies between the ELBO and the truth.
# - **gap** is the evidence minus the ELBO, and equals the divergence KL(guide ‖ posterior). With a
#   bound on the evidence it is a lower bound too, hence the sign ≥.
# - **k̂** describes the tail of the weights: above the threshold, importance sampling cannot repair
#   the guide at this number of draws.
#
# ## First trap: one k̂ for the whole batch
#
# Pyro's own diagnostic, `psis_diagnostic`, gives a data set a single weight, the product of all its
# data's weights. The spread of such a product grows with every datum, so that its k̂ is large
# whatever the guide. Asked datum by datum, k̂ says which posteriors to distrust.

# %%
log_weights = lvm.log_densities(model, guide, x_test, num_particles=1000).log_weights
khat, threshold = diagnostics.pareto_khat(log_weights), diagnostics.khat_threshold(1000)
batch = psis_diagnostic(model, guide, x_test, num_particles=1000, max_plate_nesting=1)
print(f"log weights: {tuple(log_weights.shape)}, particles × data")
print(f"one k-hat for the batch: {batch:.1f}, threshold {threshold:.2f}")
share = (khat > threshold).double().mean()
print(f"one k-hat a datum: median {khat.median():.2f}, above the threshold {share:.0%}")

# %% [markdown]
# The batch is condemned as a whole, although the guide is usable for most data and bad for some.
#
# ## Second trap: a guide that misses a mode cannot know it
#
# Two distances do not say on which side of the line through the beacons the walker stands: the
# posterior has two mirror images, each with half of the mass. Our Gaussian guide covers one. If it
# covered that one perfectly, every log weight would be log p(x) − log 2: constant weights, a k̂ of
# −∞, a reported gap of 0, and a true gap of log 2 ≈ 0.69 nats. No figure computed from these draws
# can tell, for no draw ever lands on the other side.
#
# What helps is a second guide that looks elsewhere. This one takes the same encoder, and
# mirrors it; nothing has to be trained.


# %%
def both_sides(x):
    loc, log_scale = encoder(x).chunk(2, dim=-1)
    locs = torch.stack([loc, loc * torch.tensor([1.0, -1.0])], dim=-2)
    sides = dist.Normal(locs, log_scale.exp()[..., None, :]).to_event(1)
    halves = dist.Categorical(logits=torch.zeros(len(x), 2))
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.MixtureSameFamily(halves, sides))


pair = {"one side": guide, "both sides": both_sides}
compared = lvm.compare(model, pair, x_test, test=x_test, train="nothing", progress=False)
print(compared)

# %% [markdown]
# Guides of one model are measured against one evidence, the tightest bound among them. Under it the
# one-sided guide's gap is larger than it claimed for itself, while its k̂ has not moved. With two
# latents we can also ask the truth, by summing the joint density over a fine grid.

# %%
axis = torch.linspace(-6.0, 6.0, 301, dtype=torch.float64)
grid = torch.cartesian_prod(axis, axis)
log_prior = dist.Normal(0.0, 1.0).log_prob(grid).sum(-1)
likelihood = dist.Normal((grid[:, None] - beacons).norm(dim=-1)[:, None], 0.2)
log_joint = log_prior[:, None] + likelihood.log_prob(x_test.double()).sum(-1)
truth = log_joint.logsumexp(0) + 2 * (axis[1] - axis[0]).log()

elbo = diagnostics.elbo(log_weights)
claimed, true = diagnostics.iwae(log_weights) - elbo, truth - elbo
print(f"log p(x) on the grid  {truth.mean():.3f} nats")
print(f"gap of one side       {claimed.mean():.3f} claimed, {true.mean():.3f} true")

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
offset = z_test[:, 1].abs()
left.scatter(offset, khat, s=12, color="#0072b2", linewidths=0)
left.axhline(threshold, color="0.4", linewidth=1)
left.annotate(f"threshold {threshold:.2f}", (offset.max(), threshold), ha="right", va="bottom")
left.set(ylabel="k̂ of the one-sided guide", title="k̂ is high only where the two sides are near")
right.scatter(offset, true, s=12, color="#d55e00", linewidths=0, label="true, from the grid")
right.scatter(
    offset, claimed, s=12, color="#0072b2", linewidths=0, label="claimed, from its own draws"
)
right.axhline(math.log(2), color="0.4", linewidth=1)
right.annotate("log 2", (offset.max(), math.log(2)), ha="right", va="top")
right.set(ylabel="gap (nats)", title="Far from the line, log 2 goes unnoticed")
right.legend(frameon=False)
for axes in (left, right):
    axes.set_xlabel("true distance of the walker from the beacons' line")
    axes.spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# Near the line the Gaussian reaches into both sides. A little farther out it touches the other side
# with its tail only, and k̂ raises the alarm. Far out it never goes there: k̂ is calm, and the true
# gap stays at least log 2 all the same. A low k̂ says that the weights can be averaged, not that
# the guide has seen everything.
#
# ## Is the ruler right? A posterior known in closed form
#
# In a linear Gaussian model the posterior is N(m(x), Λ⁻¹) with Λ = I + WᵀW/σ². A guide with
# independent coordinates N(m(x), diag s²) is away from it by
#
# KL = ½ [Σᵢ sᵢ² Λᵢᵢ − D − Σᵢ log sᵢ² − log det Λ],
#
# with D latents. The derivative in sᵢ² is zero at sᵢ² = 1/Λᵢᵢ, which leaves
# ½ [Σᵢ log Λᵢᵢ − log det Λ], the same for every datum. We write that best mean-field guide by hand;
# `lvm` is told nothing about it.

# %%
linear = models.LinearGaussian(latent_dim=2, obs_dim=5, noise_scale=0.3)
x_linear = linear(size=100 if smoke else 1000).detach()
W = linear.decoder[0].weight.detach().double()
precision = torch.eye(2) + W.T @ W / linear.noise_scale.detach() ** 2
best_scale = precision.diagonal().rsqrt()


def mean_field(x):
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(linear.posterior(x).mean, best_scale).to_event(1))


row = lvm.diagnose(linear, mean_field, x_linear).frame.iloc[0]
closed_form = 0.5 * (precision.diagonal().log().sum() - precision.logdet())
print(f"mean-field gap  {closed_form:.4f} nats in closed form")
print(f"                {row.gap:.4f} ± {row.gap_se:.4f} nats measured from draws")
own = lvm.diagnose(linear, guides.Exact(linear), x_linear).frame.iloc[0]
print(f"exact guide     {own.gap:.1e} nats measured from draws")

# %% [markdown]
# The measurement finds the closed form within its standard error, and nothing where there is nothing
# to find: for an exact guide every log weight is log p(x), and what is left is rounding.
#
# **What to take home.** Ask for k̂ and the gap datum by datum. Read ≥ as what it says, and bring a
# second guide that looks elsewhere before you believe that a gap is small. Where a model knows its
# evidence, the sign ≥ goes away: the next two tutorials stay with such models.
