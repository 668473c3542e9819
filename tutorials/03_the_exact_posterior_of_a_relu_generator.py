# %% [markdown]
# # What does the exact posterior of a ReLU generator look like?
#
# A generator that is a ReLU network is *piecewise affine*: between its kinks it is a straight
# line (one latent) or a plane (two latents). On each piece we have a linear Gaussian model,
# whose posterior is a Gaussian. The whole posterior is therefore a sum of Gaussians, each cut
# off at the borders of its piece. Balestriero, Paris and Baraniuk (2020) worked this out; here
# we do it by hand for one latent, then let PyroLVM do it for two, and train a network without a
# guide.

# %%
import copy
import math
import os

import matplotlib.pyplot as plt
import pyro
import torch
from matplotlib.collections import PolyCollection
from pyro import poutine
from torch.distributions import Normal

import pyrolvm as lvm
from pyrolvm import datasets, guides, models

smoke = bool(os.environ.get("PYROLVM_SMOKE"))
pyro.set_rng_seed(0)

# %% [markdown]
# ## Four pieces by hand
#
# The model: z is standard normal, x = g(z) + noise with standard deviation σ = 0.3. We choose
# the weights so that g is a zigzag with kinks where a hidden unit switches on: at −1, 0 and 1.

# %%
model = models.CPAGenerator(latent_dim=1, obs_dim=1, hidden=(3,), noise_scale=0.3).double()
first, _, last = model.decoder  # Linear(1, 3), ReLU, Linear(3, 1)
with torch.no_grad():
    first.weight.fill_(1.0)
    first.bias.copy_(torch.tensor([1.0, 0.0, -1.0]))
    last.weight.copy_(torch.tensor([[2.0, -4.0, 4.0]]))
    last.bias.zero_()

# %% [markdown]
# On a piece where g(z) = a z + c, Bayes' rule for Gaussians gives a precision 1 + a²/σ² and a
# mean; the piece weighs as much as its line explains x, N(x; c, σ² + a²), times the share of its
# Gaussian that lies inside the piece. The weights of all pieces add up to the evidence p(x).

# %%
x, sigma = torch.tensor([[1.0]], dtype=torch.float64), model.noise_scale.item()
edges = torch.tensor([-math.inf, -1.0, 0.0, 1.0, math.inf], dtype=torch.float64)
inside = torch.tensor([-2.0, -0.5, 0.5, 2.0], dtype=torch.float64)  # a point of each piece
active = (inside[:, None] * first.weight[:, 0] + first.bias > 0).double()  # (pieces, units)
a = (active * last.weight * first.weight[:, 0]).sum(1).detach()
c = (active * last.weight * first.bias).sum(1).detach() + last.bias.detach()

precision = 1 + a**2 / sigma**2
piece = Normal(a * (x[0] - c) / sigma**2 / precision, precision.rsqrt())
explains = Normal(c, (sigma**2 + a**2).sqrt()).log_prob(x[0]).exp()
share = piece.cdf(edges[1:]) - piece.cdf(edges[:-1])
weight = explains * share
print("piece from    to   slope   mean    std   posterior weight")
for row in zip(edges, edges[1:], a, piece.mean, piece.stddev, weight / weight.sum(), strict=False):
    print("{:10.0f} {:5.0f} {:7.1f} {:6.2f} {:6.3f} {:10.3f}".format(*map(float, row)))

z = torch.linspace(-8.0, 8.0, 32_001, dtype=torch.float64)[:, None]
with torch.no_grad():
    joint = Normal(0.0, 1.0).log_prob(z[:, 0]) + Normal(model.decoder(z), sigma).log_prob(x)[:, 0]
print(f"log p(x) by hand        {weight.sum().log():.10f} nats")
print(f"log p(x) by quadrature  {torch.trapezoid(joint.exp(), z[:, 0]).log():.10f} nats")
print(f"lvm.log_evidence        {lvm.log_evidence(model, x).value.item():.10f} nats")

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
colors = ["#a87400", "#0072b2", "#d55e00", "#00876a"]
for i, color in enumerate(colors):
    here = z[(z >= max(edges[i], -2.5)) & (z <= min(edges[i + 1], 2.5))]
    density = weight[i] / weight.sum() * piece.log_prob(here[:, None])[:, i].exp() / share[i]
    left.plot(here, a[i] * here + c[i], color=color, linewidth=2)
    right.fill_between(here, density, color=color, alpha=0.85, linewidth=0)
left.axhspan(1 - sigma, 1 + sigma, color="0.9", zorder=0)
left.text(-2.4, 1.0, "x = 1 ± σ", va="center")
left.set(xlabel="z", ylabel="g(z)", title="The generator: four affine pieces")
right.set(xlabel="z", ylabel="p(z | x = 1)", title="The posterior: one cut Gaussian a piece")
for axes in (left, right):
    axes.spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# Hand, engine and quadrature agree, the latter up to the error of its grid.
#
# The generator crosses x = 1 three times, so the posterior has three modes: no single Gaussian
# can be right here, however large the encoder that puts it out.
#
# ## The same as a Pyro guide
#
# `guides.ExactCPA` finds the pieces of any such network and samples this posterior, as an
# ordinary Pyro guide. It can be checked with plain Pyro: under the exact posterior, and under no
# other guide, log p(x, z) − log q(z | x) equals log p(x) at every draw.

# %%
exact = guides.ExactCPA(model)
print("draw of z    log p(x, z) − log q(z | x)")
for _ in range(5):
    drawn = poutine.trace(exact).get_trace(x)
    scored = poutine.trace(poutine.replay(model, drawn)).get_trace(x)
    difference = scored.log_prob_sum() - drawn.log_prob_sum()
    print(f"{drawn.nodes['z']['value'].item():9.4f}    {difference.item():.10f}")

# %% [markdown]
# ## Learning without a guide
#
# `lvm.log_evidence` has exact derivatives in the weights, so maximum likelihood needs no guide
# and no sampling: any optimizer of torch will do. The data are points on a circle. For
# comparison a copy of the network is trained the usual way, by the ELBO with a Gaussian guide,
# from the same start.

# %%
circle = datasets.circle(500, noise_scale=0.1)
by_likelihood = models.CPAGenerator(1, 2, hidden=(32,), noise_scale=0.3, learn_noise=True)
by_elbo = copy.deepcopy(by_likelihood)

optimizer = torch.optim.Adam(by_likelihood.parameters(), lr=1e-2)
for _ in range(100 if smoke else 1500):
    optimizer.zero_grad()
    loss = -lvm.log_evidence(by_likelihood, circle.train).value.mean()
    loss.backward()
    optimizer.step()

gaussian = guides.Amortized(by_elbo, family="diagonal", hidden=(64,))
steps = 100 if smoke else 3000
lvm.fit(by_elbo, gaussian, circle.train, steps=steps, learning_rate=1e-2, progress=False)
print("trained by          held-out log p(x)   noise σ")
for name, trained in {"exact likelihood": by_likelihood, "Gaussian ELBO": by_elbo}.items():
    with torch.no_grad():
        evidence = lvm.log_evidence(trained, circle.test).value.mean()
        print(f"{name:18}  {evidence:7.3f} nats        {trained.noise_scale[0]:.3f}")

# %% [markdown]
# The Gaussian guide cannot hold a posterior with two modes, and the ELBO makes the generator
# pay: it gives the circle up and explains it as noise. The exact likelihood makes it lay the
# line around the circle. Where the two ends of the line meet, a point may have come from either
# end:

# %%
guide = guides.ExactCPA(by_likelihood)
seam = guide.posterior(circle.test).variance[:, 0].argmax()  # its latent is the least certain
z = torch.linspace(-4.0, 4.0, 2001)[:, None]
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
left.scatter(*circle.test.T, s=6, color="0.75", linewidths=0)
left.plot(*by_likelihood.decoder(z).detach().T, color="#0072b2", label="exact likelihood")
left.plot(*by_elbo.decoder(z).detach().T, color="#d55e00", label="Gaussian ELBO")
left.plot(*circle.test[seam], "*", color="black", markersize=13)
left.set(aspect="equal", title="Held-out data, and g(z)", xlim=(-1.7, 1.7), ylim=(-1.7, 1.7))
left.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
density = guide.posterior(circle.test[seam : seam + 1]).log_prob(z[:, None]).exp()[:, 0]
right.fill_between(z[:, 0], density, color="#0072b2", alpha=0.85, linewidth=0)
right.set(xlabel="z", ylabel="p(z | x)", title="Exact posterior of the starred point")
for axes in (left, right):
    axes.spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# ## Two latents: polygons
#
# With two latents the kinks of one hidden layer are straight lines, which cut the plane into
# convex polygons; the posterior is a sum of Gaussians cut to them. We train such a generator on
# the 8 × 8 digits by exact maximum likelihood, and look at held-out digits whose latents are
# least certain (by the entropy of the exact posterior).

# %%
digits = datasets.digits()
generator = models.CPAGenerator(2, 64, hidden=(16,), noise_scale=0.3, learn_noise=True)
optimizer = torch.optim.Adam(generator.parameters(), lr=1e-2)
for _ in range(30 if smoke else 800):
    batch = digits.train[torch.randperm(len(digits.train))[:256]]
    optimizer.zero_grad()
    loss = -lvm.log_evidence(generator, batch).value.mean()
    loss.backward()
    optimizer.step()

guide = guides.ExactCPA(generator)
posterior = guide.posterior(digits.test)
polygons = posterior.regions.polygons
evidence = lvm.log_evidence(generator, digits.test).value.mean()
print(f"held-out log p(x) {evidence:.2f} nats a digit, {len(polygons)} polygons")

# %%
least_certain = posterior.entropy().argsort(descending=True)[:3]
figure, panels = plt.subplots(1, 3, figsize=(11, 3.8), layout="constrained")
for axes, index in zip(panels, least_certain, strict=True):
    image = digits.test[index : index + 1]
    middle, reach = posterior.mean[index], 3 * posterior.variance[index].max().sqrt()
    z_1, z_2 = (torch.linspace(m - reach, m + reach, 200) for m in middle)
    points = torch.cartesian_prod(z_1, z_2)[:, None]
    density = guide.posterior(image).log_prob(points).exp().reshape(200, 200).T.numpy()
    axes.contourf(z_1.numpy(), z_2.numpy(), density, levels=12, cmap="Blues")
    borders = PolyCollection(polygons, facecolor="none", edgecolor="0.35", linewidth=0.7)
    axes.add_collection(borders, autolim=False)
    axes.set(aspect="equal", xlabel="z₁", ylabel="z₂")
    inset = axes.inset_axes((0.76, 0.76, 0.23, 0.23))
    inset.imshow(image.reshape(8, 8).numpy(), cmap="gray_r")
    inset.set(xticks=[], yticks=[])
plt.show()

# %% [markdown]
# Shades are the exact posterior of the digit in the corner, thin lines the borders of the
# polygons. The density is continuous, and bends where it crosses a border; several separate
# hills are several readings of one image.
#
# **To take home.** A ReLU generator with Gaussian noise and up to three latents has a posterior
# and an evidence without any approximation. That makes it a place to learn what a guide costs:
# in nats, as in tutorial 2, and in what the generator learns, as on the circle.
