r"""M-steps of the layers: the best weights and biases of one layer, all else fixed.

A hidden layer's change X = [dW, dv] maximises the surrogate in which the codes of the regions are
frozen, less a ridge on X:

.. math:: \sum_\omega U_\omega X H_\omega + \lambda X = \sum_\omega V_\omega^\top
          \big( T_\omega - M_\omega \, \text{output}_\omega \big)^\top \bar C_\omega, \qquad
          U = V^\top V, \quad H = \bar C^\top M \bar C .

The right side is the exact gradient of the log likelihood, so that X is a direction of ascent; but
the regions move with the layer, and a full step may lower the likelihood. The last layer moves no
region: it is a regression on the last hidden layer, an exact M-step.

References:
    Balestriero, Paris & Baraniuk (2020), Analytical Probability Distributions and Exact
    Expectation-Maximization for Deep Generative Networks. Notes on the moving regions are ours.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import pinvh

from pyrolvm.exact.folding import Array
from pyrolvm.exact.learning.expectation_step import ExpectationStep
from pyrolvm.exact.learning.frozen_layers import FrozenLayers
from pyrolvm.exact.learning.learning_parts import LearningParts
from pyrolvm.exact.learning.normal_equations import mean_curvature, solve_summed
from pyrolvm.exact.stack import AffineStack

Change = tuple[torch.Tensor, torch.Tensor]

# A unit of the last hidden layer whose mean square is below this share of the largest one (say, a
# ReLU unit that is off for all data) tells nothing about its weights: they stay.
DEAD = 1e-30


@dataclass(frozen=True)
class LayerEquations:
    """What decides a hidden layer's change X, in the columns of [W, v] that learn.

    Attributes:
        outer: U, ``(R, O, O)``.
        inner: H, ``(R, I, I)``.
        gradient: Derivative of the log likelihood, summed over data, ``(O, I)``.
    """

    outer: Array
    inner: Array
    gradient: Array

    @classmethod
    def of(cls, step: ExpectationStep, layer: int, learning: LearningParts) -> LayerEquations:
        """Set the equations up for one hidden layer, counted from 0."""
        frozen = FrozenLayers.of(step)
        inputs, outputs = frozen.inputs[layer], frozen.outputs[layer]
        constant = np.zeros((*inputs.shape[:2], 1))
        constant[:, 0] = 1.0
        columns = _columns(step.stack, layer, learning)
        inputs = np.concatenate([inputs, constant], 2)[:, :, columns]
        pulled = np.swapaxes(frozen.pull @ outputs, 1, 2)
        return cls(
            outer=np.swapaxes(outputs, 1, 2) @ outputs,
            inner=np.swapaxes(inputs, 1, 2) @ (frozen.outer @ inputs),
            gradient=(pulled @ inputs).sum(0),
        )

    @property
    def curvature(self) -> float:
        """Mean curvature of the surrogate over the entries of X."""
        return mean_curvature(self.outer, self.inner)


def proximal_change(
    step: ExpectationStep, layer: int, learning: LearningParts, ridge: float
) -> Change:
    """Where a hidden layer should go, judged by the regions as they are: a direction of ascent.

    Args:
        step: The E-step.
        layer: Number of the hidden layer, from 0.
        learning: Whether its weights, its biases or both may change.
        ridge: Weight of the squared change, as a share of the mean curvature.

    Returns:
        Changes of weights ``(O, I)`` and biases ``(O,)``.
    """
    equations = LayerEquations.of(step, layer, learning)
    found = solve_summed(
        equations.outer, equations.inner, equations.gradient, ridge * equations.curvature
    )
    return _spread(found, _columns(step.stack, layer, learning), step.stack, layer)


def analytic_change(
    step: ExpectationStep, layer: int, learning: LearningParts, ridge: float
) -> Change:
    """The change to the layer that is best on the old regions, with a ridge towards zero.

    What the data leave undetermined goes to zero at once, so that this is no direction of ascent.

    Args:
        step: The E-step.
        layer: Number of the hidden layer, from 0.
        learning: Whether its weights, its biases or both may change.
        ridge: Weight of the squared weights and biases, as a share of the mean curvature.

    Returns:
        Changes of weights ``(O, I)`` and biases ``(O,)``.
    """
    equations = LayerEquations.of(step, layer, learning)
    stack, columns = step.stack, _columns(step.stack, layer, learning)
    now = torch.cat([stack.weights[layer], stack.biases[layer][:, None]], 1).numpy()[:, columns]
    penalty = ridge * equations.curvature
    right = equations.gradient - penalty * now
    found = solve_summed(equations.outer, equations.inner, right, penalty)
    return _spread(found, columns, stack, layer)


def moved(stack: AffineStack, layer: int, change: Change, size: float) -> AffineStack:
    """A generator with one layer moved along a change."""
    weights, biases = list(stack.weights), list(stack.biases)
    weights[layer] = weights[layer] + size * change[0]
    biases[layer] = biases[layer] + size * change[1]
    return replace(stack, weights=tuple(weights), biases=tuple(biases))


def best_output(
    step: ExpectationStep, x: Array, learning: LearningParts, noise_floor: float
) -> AffineStack:
    r"""The last layer by regression, and then the noise that is left.

    .. math:: \sigma^2 = \frac1N \sum_n E |x_n - W h - v|^2

    for each observed coordinate, or averaged over them. Both are the joint maximum of the expected
    log likelihood; a floor on the noise keeps it the maximum above the floor.

    Args:
        step: The E-step.
        x: Observations, ``(N, D)``.
        learning: What of the last layer and the noise may change.
        noise_floor: Smallest variance that the noise may fall to. Noise that lies below already
            does not fall further.

    Returns:
        The generator with these parts new.
    """
    stack = step.stack
    features = step.features
    second = np.sum([part.second for part in step.sums], axis=0)
    spread = second - features.T @ features
    weight = stack.weights[-1].numpy()
    error = x - features @ weight.T - stack.biases[-1].numpy()
    if learning.layer(-1):
        change = _regress(error, features, second, spread, weight, stack, learning)
        stack = moved(stack, len(stack.weights) - 1, change, 1.0)
        error = error - features @ change[0].numpy().T - change[1].numpy()
    if learning.noise:
        weight = stack.weights[-1].numpy()
        variance = (error**2).mean(0)
        variance += np.einsum("dh,hg,dg->d", weight, spread, weight, optimize=True) / len(x)
        stack = replace(stack, noise_scale=_noise(stack, variance, learning, noise_floor))
    return stack


def _regress(
    error: Array,
    features: Array,
    second: Array,
    spread: Array,
    weight: Array,
    stack: AffineStack,
    learning: LearningParts,
) -> Change:
    total = features.sum(0)
    gram = np.block([[second, total[:, None]], [total[None], np.full((1, 1), float(len(error)))]])
    cross = np.concatenate([error.T @ features - weight @ spread, error.sum(0)[:, None]], 1)
    last = len(stack.weights) - 1
    columns = _columns(stack, last, learning)
    columns = columns[np.diag(gram)[columns] > DEAD * np.diag(gram).max()]
    if not len(columns):
        return _spread(cross[:, columns], columns, stack, last)
    gram, cross = gram[np.ix_(columns, columns)], cross[:, columns]
    scale = np.sqrt(np.diag(gram))
    inverse = pinvh(gram / scale / scale[:, None], rtol=1e-13)
    return _spread((cross / scale) @ inverse / scale, columns, stack, last)


def _noise(
    stack: AffineStack, variance: Array, learning: LearningParts, floor: float
) -> torch.Tensor:
    if learning.isotropic:
        variance = np.full_like(variance, variance.mean())
    before = stack.noise_scale.numpy() ** 2
    return torch.from_numpy(np.sqrt(np.maximum(variance, np.minimum(floor, before))))


def _columns(stack: AffineStack, layer: int, learning: LearningParts) -> NDArray[np.intp]:
    """Columns of [W, v] that learn."""
    width = stack.weights[layer].shape[1]
    may = np.repeat([learning.weights[layer], learning.biases[layer]], [width, 1])
    return np.flatnonzero(may)


def _spread(found: Array, columns: NDArray[np.intp], stack: AffineStack, layer: int) -> Change:
    """Changes of weights and biases, zero where nothing learns."""
    rows, width = stack.weights[layer].shape
    full = np.zeros((rows, width + 1))
    full[:, columns] = found
    return torch.from_numpy(full[:, :-1].copy()), torch.from_numpy(full[:, -1].copy())
