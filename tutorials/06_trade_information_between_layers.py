# %% [markdown]
# # Which layer should hold the information?
#
# A model with several latent layers can put what it knows of x into any of them. The *rate* of a
# layer, E KL(q(z_l | z_{>l}, x) ‖ p(z_l | z_{>l})), bounds how much that is, and is its price in
# nats. Xiao & Bamler (2023) train with one weight for each layer's rate,
#
# distortion + β₁ R₁ + β₂ R₂,
#
# and so trade information between layers. The method is theirs; all numbers below are ours.

# %%
import os
import tempfile

import pyro

import pyrolvm as lvm
from pyrolvm import datasets, guides, models
from pyrolvm.diagnostics.rates import fano_accuracy
from pyrolvm.inference.rate_plane import linear_rate_plane, run_rate_plane
from pyrolvm.objectives import LayerwiseELBO
from pyrolvm.plots.linear_rate_plane import linear_rate_plane as draw_linear
from pyrolvm.plots.rate_plane import rate_plane, task_maps
from pyrolvm.plots.rate_plane_tasks import fano_curve

smoke = bool(os.environ.get("PYROLVM_SMOKE"))
pyro.set_rng_seed(0)

# %% [markdown]
# ## Rates are measured, weights are chosen
#
# Neither the model nor the guide knows of the weights: they belong to the objective. What they did
# is then read off the trained pair, never weighted. `layer_rates` needs a guide that is drawn from
# the top down, as the model is; for others the rate has no parts.

# %%
digits = datasets.digits()
model = models.HierarchicalVAE(latent_dims=(16, 4), obs_dim=64)
guide = guides.Layerwise(model).standardise_by(digits.train)
lvm.fit(
    model, guide, digits.train, loss=LayerwiseELBO({"z_1": 3.0, "z_2": 0.3}),
    steps=20 if smoke else 1500, progress=False,
)  # fmt: skip
print(lvm.layer_rates(model, guide, digits.test, num_particles=20))

# %% [markdown]
# ## Trading, exactly
#
# In a linear Gaussian hierarchy the best guide is known for all weights. Each of these points is
# exact, and takes milliseconds. Raising β₂ lowers R₂, and *raises* R₁: what the upper layer gives
# up, the lower one takes over.

# %%
linear = models.HierarchicalLinearGaussian(latent_dims=(3, 2), obs_dim=5)
exact = linear_rate_plane(linear, 5 if smoke else 21)
row = exact.frame[exact.frame["weight_1"] == 1]
print(row.iloc[:: 1 if smoke else 5].round(3).to_string(index=False))

# %% [markdown]
# One weight for both layers (the β-VAE) is only a curve through the plane of rates, the dotted
# one. No guide has a distortion below h(X) − R₁ − R₂, the black line; only weights of 1, the plain
# ELBO, reach it. Which means: for other weights the best guide is *not* the posterior, and to
# judge it as one would be a mistake.

# %%
draw_linear(exact)

# %% [markdown]
# ## What can be read from a code?
#
# A classifier that sees a draw of z₂ cannot know more of the class than R₂ nats. Fano's inequality
# turns that into an accuracy. For ten equally likely classes:

# %%
for rate in (0.0, 0.07, 0.5, 1.0, 2.0, 2.31):
    print(f"rate {rate:4.2f} nats: accuracy at most {fano_accuracy(rate, 10):.3f}")

# %% [markdown]
# ## The plane of a real model
#
# `run_rate_plane` trains a model under every pair of weights, all of a seed at once, and measures
# on held-out rows what each is good for. A killed run goes on; a finished one is read again.

# %%
if smoke:
    digits = datasets.Dataset(
        "few digits", digits.train[:200], "continuous", digits.source, digits.licence,
        digits.test[:100], digits.image_shape, digits.train_labels[:200], digits.test_labels[:100],
    )  # fmt: skip
with tempfile.TemporaryDirectory() as folder:
    plane = run_rate_plane(
        digits, grid=2 if smoke else 5, seeds=(0,) if smoke else (0, 1),
        steps=20 if smoke else 1500, out=folder, progress=False,
    )  # fmt: skip
columns = ["rate_1", "rate_2", "psnr", "accuracy_drawn", "fano_bound", "accuracy_mean", "score"]
means = plane.frame.groupby(["weight_1", "weight_2"])[[*columns, "negative_elbo"]].mean()
print(means.round(2).to_string())

# %% [markdown]
# Each task has its own optimum: β₁ small for reconstruction, β₁ large and β₂ small for classes
# from z₂, in between for samples, and (1, 1) for the likelihood, where theory wants it.

# %%
for best in plane.optima:
    print(
        f"{best.task.title:27} best at ({best.weight_1:g}, {best.weight_2:g}), rates "
        f"{best.rate_1:.1f} + {best.rate_2:.1f}; {len(best.rivals)} points are as good"
    )
task_maps(plane.frame)

# %% [markdown]
# The same in the plane of rates, which is where to aim at: a point is a model, its marker β₁, its
# colour β₂.

# %%
rate_plane(plane.frame)

# %% [markdown]
# ## Draws obey the bound, means do not
#
# The filled points are probes that see a draw of z₂. The open ones see its mean, as most
# evaluations do, and some lie where nothing should be: accuracies of one half at a rate of
# nearly 0. There is no contradiction. A mean is a function of x, of any information however small
# its range; the rate charges for the noise around it, which such a probe never sees.

# %%
fano_curve(plane.frame, plane.facts["num_classes"], plane.facts["label_entropy"])
above = (plane.frame["accuracy_mean"] > plane.frame["fano_bound"]).sum()
print(f"probes of means above the bound: {above} of {len(plane.frame)}")

# %% [markdown]
# **To take home.**
#
# | wanted | what limits it | where to go |
# |---|---|---|
# | reconstruction | the total rate | small β₁: the layer that feeds x must not be starved |
# | classes from z₂ | R₂, by Fano's inequality | R₂ well above the classes' entropy: β₂ < β₁ |
# | samples | rates beyond information | a moderate R₂: neither unused nor far from the prior |
# | likelihood | everything | weights of 1 |
#
# Two seeds, small networks and a small classifier: the order of neighbours in the plane is noise,
# its regions are not. `pyrolvm.report.rate_plane_page.write_rate_plane(plane)` writes a page.
