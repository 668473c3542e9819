"""Exact gradients against central differences."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch

from pyrolvm.exact import AffineStack, Partition, SecondDerivativeError, log_evidence, solve


def tensors_of(stack):
    """Every tensor of a stack, by name, as independent leaves."""
    leaves = {f"weights[{i}]": w for i, w in enumerate(stack.weights)}
    leaves |= {f"biases[{i}]": b for i, b in enumerate(stack.biases)}
    names = ("noise_scale", "prior_loc", "prior_scale_tril")
    leaves |= {name: getattr(stack, name) for name in names}
    return {name: leaf.detach().clone().requires_grad_() for name, leaf in leaves.items()}


def build(leaves, slopes):
    layers = len(slopes) + 1
    return AffineStack(
        tuple(leaves[f"weights[{i}]"] for i in range(layers)),
        tuple(leaves[f"biases[{i}]"] for i in range(layers)),
        slopes,
        leaves["noise_scale"],
        leaves["prior_loc"],
        leaves["prior_scale_tril"],
    )


@pytest.mark.parametrize(
    ("latent_dim", "hidden", "obs_dim", "activation"),
    [
        (1, (6, 5), 3, "relu"),
        (1, (5,), 9, "abs"),
        (1, (), 4, "relu"),
        (2, (6, 5), 3, "leaky_relu"),
        (2, (4, 4, 4), 7, "relu"),
        (2, (), 4, "relu"),
    ],
)
def test_gradient_matches_central_differences(
    random_stack, observe, latent_dim, hidden, obs_dim, activation
):
    stack = random_stack(latent_dim, hidden, obs_dim, 0.3, activation, seed=7)
    x = observe(stack, 8).requires_grad_()
    weight = torch.linspace(-1.0, 2.0, 8, dtype=torch.float64)
    leaves = tensors_of(stack)
    (log_evidence(build(leaves, stack.slopes), x) @ weight).backward()

    def value(name, shift):
        moved = {key: leaf.detach() for key, leaf in leaves.items()}
        data = x.detach()
        if name == "x":
            data = data + shift
        else:
            moved[name] = moved[name] + shift
        return (solve(build(moved, stack.slopes), data).log_evidence @ weight).item()

    random = torch.Generator().manual_seed(0)
    for name, leaf in {**leaves, "x": x}.items():
        for _ in range(3):
            direction = torch.randn(leaf.shape, generator=random, dtype=torch.float64)
            if name == "prior_scale_tril":
                direction = direction.tril()
            step = 1e-4
            slopes = [
                (value(name, h * direction) - value(name, -h * direction)) / (2 * h)
                for h in (step, 2 * step)
            ]
            numeric = (4 * slopes[0] - slopes[1]) / 3
            exact = (leaf.grad * direction).sum().item()
            assert exact == pytest.approx(numeric, rel=1e-6, abs=2e-6), name


def test_second_derivative_raises(random_stack, observe):
    stack = random_stack(1, (5,), 3)
    x = observe(stack, 4)
    total = log_evidence(stack, x).sum()
    (gradient,) = torch.autograd.grad(total, [stack.weights[0]], create_graph=True)
    with pytest.raises(SecondDerivativeError, match="first derivatives only"):
        (total + gradient.square().sum()).backward()


def test_no_graph_without_parameters(random_stack, observe):
    stack = random_stack(2, (5,), 3)
    detached = AffineStack(
        tuple(w.detach() for w in stack.weights),
        tuple(b.detach() for b in stack.biases),
        *(getattr(stack, field.name) for field in fields(stack)[2:] if field.init),
    )
    x = observe(stack, 4)
    value = log_evidence(detached, x, partition=Partition.of(detached))
    assert not value.requires_grad
    torch.testing.assert_close(value, solve(detached, x).log_evidence)


def test_scalar_noise_in_single_precision_gets_its_gradient(random_stack, observe):
    stack = random_stack(2, (5,), 3)
    noise = torch.tensor(0.2, requires_grad=True)
    layers = (stack.weights, stack.biases, stack.slopes)
    tied = AffineStack(*layers, noise, stack.prior_loc, stack.prior_scale_tril)
    log_evidence(tied, observe(stack, 6).float()).sum().backward()
    assert noise.grad is not None
    assert noise.grad.dtype == torch.float32
    assert noise.grad.shape == ()
    assert stack.weights[0].grad.abs().sum() > 0


def test_ascent_raises_the_evidence(random_stack, observe):
    stack = random_stack(2, (6,), 4, 0.5, seed=1)
    x = observe(random_stack(2, (6,), 4, 0.2, seed=9), 50)
    leaves = tensors_of(stack)
    optimiser = torch.optim.Adam(list(leaves.values()), 0.02)
    values = []
    for _ in range(15):
        optimiser.zero_grad()
        loss = -log_evidence(build(leaves, stack.slopes), x).mean()
        loss.backward()
        optimiser.step()
        values.append(loss.item())
    assert values[-1] < values[0] - 0.5
