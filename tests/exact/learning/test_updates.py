"""M-steps against a surrogate that is written out pair by pair, and against the likelihood."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch.distributions import MultivariateNormal

from pyrolvm.exact import solve
from pyrolvm.exact.learning import expectation_step as module
from pyrolvm.exact.learning.expectation_step import expectation_step
from pyrolvm.exact.learning.layers import (
    LayerEquations,
    analytic_change,
    best_output,
    moved,
    proximal_change,
)
from pyrolvm.exact.learning.learning_parts import LearningParts
from pyrolvm.exact.learning.prior import absorbed_prior, best_prior

CASES = [
    (1, (6, 5), 3, "leaky_relu", 1),
    (1, (5,), 9, "abs", 1),
    (1, (4, 5), 2, "relu", 2),
    (2, (6, 5), 3, "relu", 1),
    (2, (5,), 7, "leaky_relu", 2),
    (2, (), 4, "relu", 1),
    (3, (5,), 4, "relu", 1),
]


def problem(random_stack, observe, latent_dim, hidden, obs_dim, activation, components):
    """A generator without a graph and data of another one, so that nothing is at its optimum."""
    stack = random_stack(latent_dim, hidden, obs_dim, 0.4, activation, seed=3)
    x = observe(random_stack(latent_dim, hidden, obs_dim, 0.4, activation, seed=8), 12)
    stack = replace(
        stack,
        weights=tuple(weight.detach() for weight in stack.weights),
        biases=tuple(bias.detach() for bias in stack.biases),
    )
    if components > 1:
        shift = torch.arange(components, dtype=torch.float64)
        stack = replace(
            stack,
            prior_loc=stack.prior_loc + shift[:, None],
            prior_scale_tril=stack.prior_scale_tril * (1 + 0.3 * shift[:, None, None]),
            prior_logits=0.5 * shift,
        )
    return stack, x


def everything(stack, **changes):
    """All tensors of a generator learn."""
    layers = (True,) * len(stack.weights)
    mixed = stack.prior_logits is not None
    return replace(LearningParts(layers, layers, True, False, True, True, mixed), **changes)


def surrogate(old, x):
    """Expected log joint under the posterior of ``old``, as a function of a generator.

    The activation codes stay those of the old regions. Nothing is summed over regions or reduced.
    """
    found = solve(old, x)
    parts = found.parts if old.prior_logits is not None else (found,)
    shares = found.responsibilities if old.prior_logits is not None else torch.ones(len(x), 1)
    pieces = []
    for k, part in enumerate(parts):
        pairs, folded = part.expectation, part.folded
        tril = torch.from_numpy(folded.prior_scale_tril)
        point = pairs.partition.anchors[pairs.region] + pairs.mean
        datum = torch.from_numpy(pairs.datum)
        pieces.append((
            k,
            datum,
            torch.from_numpy(pairs.probability) * shares[datum, k],
            torch.from_numpy(folded.to_latent(point)),
            tril @ torch.from_numpy(pairs.covariance) @ tril.mT,
            torch.from_numpy(pairs.partition.codes[pairs.region]),
        ))  # fmt: skip

    def value(new):
        total = torch.zeros((), dtype=torch.float64)
        for k, datum, weight, z, covariance, codes in pieces:
            hidden, jacobian = z, torch.eye(old.latent_dim, dtype=torch.float64)
            jacobian = jacobian.expand(len(z), -1, -1)
            first = 0
            for w, b, slope in zip(new.weights, new.biases, new.slopes, strict=False):
                gains = torch.where(codes[:, first : first + len(b)], 1.0, b.new_tensor(slope))
                first += len(b)
                hidden, jacobian = gains * (hidden @ w.mT + b), gains[:, :, None] * (w @ jacobian)
            mean = hidden @ new.weights[-1].mT + new.biases[-1]
            jacobian = new.weights[-1] @ jacobian
            square = (x[datum] - mean) ** 2
            square = square + torch.einsum("pds,pst,pdt->pd", jacobian, covariance, jacobian)
            inside = -0.5 * square / new.noise_scale**2 - new.noise_scale.log()
            component = new if new.prior_logits is None else new.components()[k]
            prior = MultivariateNormal(component.prior_loc, scale_tril=component.prior_scale_tril)
            precision = torch.cholesky_inverse(component.prior_scale_tril)
            inside = inside.sum(1) + prior.log_prob(z)
            inside = inside - 0.5 * (covariance * precision).sum((1, 2))
            if new.prior_logits is not None:
                inside = inside + new.prior_logits.log_softmax(0)[k]
            total = total + weight @ inside
        return total

    return value


def tensors(stack):
    """Every tensor of a generator with a way to change it."""
    for layer in range(len(stack.weights)):
        for kind in ("weights", "biases"):

            def put(value, kind=kind, layer=layer):
                every = list(getattr(stack, kind))
                every[layer] = value
                return replace(stack, **{kind: tuple(every)})

            yield f"{kind}[{layer}]", getattr(stack, kind)[layer], put
    names = ["noise_scale", "prior_loc", "prior_scale_tril"]
    for name in names + ["prior_logits"] * (stack.prior_logits is not None):
        yield name, getattr(stack, name), lambda v, name=name: replace(stack, **{name: v})


def gradient_of(function, tensor, put):
    leaf = tensor.clone().requires_grad_()
    (found,) = torch.autograd.grad(function(put(leaf)), leaf)
    return found


@pytest.mark.parametrize("case", CASES)
def test_the_surrogate_has_the_gradient_of_the_likelihood(random_stack, observe, case):
    stack, x = problem(random_stack, observe, *case)
    value = surrogate(stack, x)
    random = torch.Generator().manual_seed(0)
    for name, tensor, put in tensors(stack):
        direction = torch.randn(tensor.shape, generator=random, dtype=torch.float64)
        if name == "prior_scale_tril":
            direction = direction.tril()
        exact = (gradient_of(value, tensor, put) * direction).sum().item() / len(x)

        def moved_by(h, tensor=tensor, direction=direction, put=put):
            return solve(put(tensor + h * direction), x).log_evidence.mean().item()

        slopes = [(moved_by(h) - moved_by(-h)) / (2 * h) for h in (2e-4, 4e-4)]
        numeric = (4 * slopes[0] - slopes[1]) / 3
        assert exact == pytest.approx(numeric, abs=1e-7 * max(1, abs(exact))), name


@pytest.mark.parametrize("case", CASES)
def test_the_equations_of_a_hidden_layer_hold_its_gradient(random_stack, observe, case):
    stack, x = problem(random_stack, observe, *case)
    step, value = expectation_step(stack, x.numpy()), surrogate(stack, x)
    found = {name: gradient_of(value, tensor, put) for name, tensor, put in tensors(stack)}
    for layer in range(len(stack.slopes)):
        equations = LayerEquations.of(step, layer, everything(stack))
        wanted = torch.cat([found[f"weights[{layer}]"], found[f"biases[{layer}]"][:, None]], 1)
        torch.testing.assert_close(
            torch.from_numpy(equations.gradient), wanted, rtol=1e-9, atol=1e-9
        )


@pytest.mark.parametrize("case", CASES)
def test_every_update_is_stationary(random_stack, observe, case):
    stack, x = problem(random_stack, observe, *case)
    step, value = expectation_step(stack, x.numpy()), surrogate(stack, x)
    learning = everything(stack)
    updates = {
        f"layer {layer}": (
            moved(stack, layer, proximal_change(step, layer, learning, 1e-13), 1.0),
            [f"weights[{layer}]", f"biases[{layer}]"],
        )
        for layer in range(len(stack.slopes))
    }
    last = len(stack.slopes)
    updates["output"] = (
        best_output(step, x.numpy(), learning, 0.0),
        [f"weights[{last}]", f"biases[{last}]", "noise_scale"],
    )
    names = ["prior_loc", "prior_scale_tril"] + ["prior_logits"] * learning.prior_logits
    updates["prior"] = best_prior(step, learning), names
    for layer in range(last):
        names = [f"weights[{layer}]", f"biases[{layer}]"]
        analytic = moved(stack, layer, analytic_change(step, layer, learning, 1e-13), 1.0)
        updates[f"analytic {layer}"] = analytic, names
    for label, (new, wanted) in updates.items():
        assert value(new) > value(stack) + 1e-6, label
        for name, tensor, put in tensors(new):
            if name in wanted:
                slope = gradient_of(value, tensor, put)
                slope = slope.tril() if name == "prior_scale_tril" else slope
                assert slope.abs().max() < 1e-7 * len(x), (label, name)


@pytest.mark.parametrize("isotropic", [True, False])
@pytest.mark.parametrize("case", CASES)
def test_exact_updates_never_lower_the_likelihood(random_stack, observe, case, isotropic):
    stack, x = problem(random_stack, observe, *case)
    learning = everything(stack, isotropic=isotropic)
    if isotropic:
        tied = stack.noise_scale.mean().expand(stack.obs_dim)
        stack = replace(stack, noise_scale=tied)
    step = expectation_step(stack, x.numpy())
    values = [step.nll]
    for _ in range(5):
        for new in (
            lambda step: best_output(step, x.numpy(), learning, 1e-6),
            lambda step: best_prior(step, learning),
        ):
            step = expectation_step(new(step), x.numpy())
            values.append(step.nll)
    assert all(new <= old + 1e-12 for old, new in pairwise(values))
    assert values[-1] < values[0] - 0.05
    assert (len(set(step.stack.noise_scale.tolist())) == 1) is isotropic


@pytest.mark.parametrize("case", CASES)
def test_the_likelihood_in_reduced_coordinates_is_that_of_the_engine(random_stack, observe, case):
    stack, x = problem(random_stack, observe, *case)
    found = expectation_step(stack, x.numpy())
    torch.testing.assert_close(
        torch.from_numpy(found.log_evidence), solve(stack, x).log_evidence, rtol=1e-11, atol=1e-10
    )


@pytest.mark.parametrize("away", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_portions_of_data_add_up(random_stack, observe, monkeypatch, case, away):
    """Also where a far datum in the last portion makes the box grow, with other regions."""
    stack, x = problem(random_stack, observe, *case)
    x[-1] += away * (60 if stack.latent_dim == 2 else 8)
    whole = expectation_step(stack, x.numpy())
    monkeypatch.setattr(module, "MOST_PAIRS", 0)
    monkeypatch.setattr(module, "FEWEST_ROWS", 5)
    parts = expectation_step(stack, x.numpy())
    if stack.latent_dim == 1:
        assert len(parts.sums) == len(whole.sums)
    elif away and stack.latent_dim == 2:
        assert len(parts.sums) > len(whole.sums)
    np.testing.assert_allclose(parts.log_evidence, whole.log_evidence, rtol=1e-9)
    np.testing.assert_allclose(parts.responsibilities, whole.responsibilities, atol=1e-9)
    np.testing.assert_allclose(parts.features, whole.features, rtol=1e-7, atol=1e-9)
    learning = everything(stack)
    updates = [
        lambda step: best_output(step, x.numpy(), learning, 0.0),
        lambda step: best_prior(step, learning),
    ]
    if stack.slopes:
        updates.append(lambda step: moved(stack, 0, proximal_change(step, 0, learning, 1e-3), 1.0))
    for update in updates:
        some, every = (solve(update(step), x).log_evidence for step in (parts, whole))
        torch.testing.assert_close(some, every, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("case", [case for case in CASES if case[-1] == 1])
def test_the_absorbed_prior_is_the_best_prior(random_stack, observe, case):
    stack, x = problem(random_stack, observe, *case)
    step = expectation_step(stack, x.numpy())
    absorbed = absorbed_prior(step)
    assert absorbed.prior_loc is stack.prior_loc
    nothing = LearningParts((False,), (False,), prior_loc=True, prior_scale_tril=True)
    wanted = solve(best_prior(step, nothing), x).log_evidence
    torch.testing.assert_close(solve(absorbed, x).log_evidence, wanted, rtol=1e-9, atol=1e-9)
    assert wanted.mean() > -step.nll + 1e-4


def test_what_does_not_learn_stays(random_stack, observe):
    stack, x = problem(random_stack, observe, 1, (4, 5), 2, "relu", 2)
    step, nothing = expectation_step(stack, x.numpy()), LearningParts((False,) * 3, (False,) * 3)
    only = {
        "weights[1]": replace(nothing, weights=(False, True, False)),
        "biases[1]": replace(nothing, biases=(False, True, False)),
        "weights[2]": replace(nothing, weights=(False, False, True)),
        "biases[2]": replace(nothing, biases=(False, False, True)),
        "noise_scale": replace(nothing, noise=True),
        "prior_loc": replace(nothing, prior_loc=True),
        "prior_scale_tril": replace(nothing, prior_scale_tril=True),
        "prior_logits": replace(nothing, prior_logits=True),
    }
    value = surrogate(stack, x)
    for name, learning in only.items():
        if "[1]" in name:
            new = moved(stack, 1, proximal_change(step, 1, learning, 1e-13), 1.0)
        elif name.startswith("prior"):
            new = best_prior(step, learning)
        else:
            new = best_output(step, x.numpy(), learning, 0.0)
        before = {key: tensor for key, tensor, _ in tensors(stack)}
        for key, tensor, put in tensors(new):
            if key == name:
                assert not torch.allclose(tensor, before[key]), name
                slope = gradient_of(value, tensor, put)
                slope = slope.tril() if key == "prior_scale_tril" else slope
                slope = slope.sum() if key == "noise_scale" else slope
                assert slope.abs().max() < 1e-6, name
            else:
                torch.testing.assert_close(tensor, before[key], rtol=1e-12, atol=1e-13)


def test_noise_stops_at_its_floor_and_never_rises_to_it(random_stack, observe):
    stack, x = problem(random_stack, observe, 1, (5,), 3, "relu", 1)
    learning = everything(stack)
    step = expectation_step(stack, x.numpy())
    high = best_output(step, x.numpy(), learning, 0.3**2)
    assert (high.noise_scale >= torch.minimum(stack.noise_scale, torch.tensor(0.3))).all()
    quiet = replace(stack, noise_scale=0.05 * stack.noise_scale)
    step = expectation_step(quiet, x.numpy())
    free = best_output(step, x.numpy(), learning, 0.0)
    floored = best_output(step, x.numpy(), learning, 1e6)
    expected = torch.maximum(free.noise_scale, quiet.noise_scale)
    torch.testing.assert_close(floored.noise_scale, expected)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_unit_that_is_off_for_all_data_spoils_nothing(observe, random_stack, seed):
    """Its weights stay; the others are as good as if it were not there."""
    stack, x = problem(random_stack, observe, 1, (8,), 2, "relu", 1)
    random = torch.Generator().manual_seed(seed)
    weight = torch.randn(8, 1, generator=random, dtype=torch.float64)
    bias = torch.randn(8, generator=random, dtype=torch.float64)
    bias[3] = -1e3
    stack = replace(stack, weights=(weight, stack.weights[1]), biases=(bias, stack.biases[1]))
    learning = everything(stack)
    new = best_output(expectation_step(stack, x.numpy()), x.numpy(), learning, 0.0)
    assert torch.equal(new.weights[1][:, 3], stack.weights[1][:, 3])
    others = torch.arange(8) != 3
    shorter = replace(
        stack,
        weights=(weight[others], stack.weights[1][:, others]),
        biases=(bias[others], stack.biases[1]),
    )
    alone = best_output(expectation_step(shorter, x.numpy()), x.numpy(), learning, 0.0)
    before, after, wanted = (solve(each, x).log_evidence.sum() for each in (stack, new, alone))
    assert after > before + 0.1
    torch.testing.assert_close(after, wanted, rtol=1e-6, atol=1e-6)


def test_weights_stay_where_every_unit_is_off(random_stack, observe):
    stack, x = problem(random_stack, observe, 1, (4,), 3, "relu", 1)
    stack.biases[0].fill_(-1e6)
    step = expectation_step(stack, x.numpy())
    learning = everything(stack, weights=(True, True), biases=(True, False))
    new = best_output(step, x.numpy(), learning, 0.0)
    torch.testing.assert_close(new.weights[-1], stack.weights[-1])
    change = proximal_change(step, 0, learning, 1e-6)
    assert all(float(part.abs().max()) == 0 for part in change)
