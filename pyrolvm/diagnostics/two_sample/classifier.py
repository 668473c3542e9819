r"""Classifier two-sample test: can draws of the guide be told from draws of the posterior?

A classifier learns to tell n draws of each on four fifths of them, and is right on a share

.. math:: \mathrm{C2ST} \le \tfrac12 + \tfrac12 \, \mathrm{TV}(q, p)

of the others on average; 1/2 says that it found no difference. The classifier is a ridge
regression of the label on splines of every coordinate, products of two, and a Gaussian kernel
(Nyström), in whitened coordinates. A regression is linear in the labels, so that one fit serves
them all: the null distribution is that of the cross-validated accuracy itself under permuted
labels, dependence between folds included, and not a binomial one.

Lopez-Paz & Oquab (2017), Revisiting Classifier Two-Sample Tests; Kim, Ramdas, Singh & Wasserman
(2021), Classification Accuracy as a Proxy for Two-Sample Testing, on permutations.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray

from pyrolvm.diagnostics.draw_pair import Sample, whitening
from pyrolvm.diagnostics.two_sample.permutation import Permuted

FOLDS = 5
RIDGE = 0.2
"""Penalty for each row of training data; features have unit variance."""
LANDMARKS = 50
"""Draws that stand for all in the Gaussian kernel."""
BANDWIDTH = 0.5
"""Of the Gaussian kernel, in medians of the distance between two draws."""
KNOTS = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
"""Of the splines, in standard deviations."""
MOST_PRODUCTS = 30
"""Coordinates above which products of two are left out."""


def c2st(
    guide: Sample, posterior: Sample, *, num_permutations: int, rng: np.random.Generator
) -> Permuted:
    """Cross-validated accuracy of a classifier, and what it is under permuted labels.

    Args:
        guide: Draws, shape ``(n, S)``.
        posterior: As many draws, shape ``(n, S)``.
        num_permutations: Permutations of the labels.
        rng: Where folds, landmarks and permutations come from.

    Returns:
        The accuracy and its null distribution.
    """
    both = np.concatenate([guide, posterior])
    both = both @ whitening(torch.from_numpy(both)).numpy()
    both -= both.mean(0)
    size = len(guide)
    fold = np.concatenate([rng.permutation(size) % FOLDS for _ in range(2)])
    labels = _labels(size, fold, num_permutations, rng)
    classifier = _classifier(both, rng)
    right = np.zeros(1 + num_permutations)
    for held_out in range(FOLDS):
        test = fold == held_out
        classifier[-1].set_params(alpha=RIDGE * int((~test).sum()))
        guess = classifier.fit(both[~test], labels[~test]).predict(both[test])
        right += ((guess > 0) == (labels[test] > 0)).sum(0)
    return Permuted(right[0] / (2 * size), right[1:] / (2 * size))


def _labels(
    size: int, fold: NDArray[np.int64], num_permutations: int, rng: np.random.Generator
) -> Float[NDArray, "draw labelling"]:
    """True labels first; permutations within folds, so that each stays balanced."""
    truth = np.repeat([1.0, -1.0], size)
    labels = np.tile(truth[:, None], 1 + num_permutations)
    for each in range(FOLDS):
        rows = np.flatnonzero(fold == each)
        labels[rows, 1:] = rng.permuted(labels[rows, 1:], axis=0)
    return labels


def _classifier(both: Sample, rng: np.random.Generator) -> Any:
    from scipy.spatial.distance import pdist
    from sklearn.kernel_approximation import Nystroem
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline, make_union
    from sklearn.preprocessing import PolynomialFeatures, SplineTransformer, StandardScaler

    dim = both.shape[1]
    some = rng.choice(len(both), min(len(both), 400), replace=False)
    bandwidth = BANDWIDTH * float(np.median(pdist(both[some])))
    features = [
        SplineTransformer(
            knots=np.tile(KNOTS[:, None], dim), extrapolation="linear", include_bias=False
        ),
        Nystroem(
            gamma=0.5 / bandwidth**2,
            n_components=min(LANDMARKS, len(both) // 2),
            random_state=int(rng.integers(2**32)),
        ),
    ]
    if 1 < dim <= MOST_PRODUCTS:
        features.append(PolynomialFeatures(2, interaction_only=True, include_bias=False))
    return make_pipeline(make_union(*features), StandardScaler(), Ridge(solver="cholesky"))
