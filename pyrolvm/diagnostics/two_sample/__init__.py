"""Two-sample tests: classifier, kernel and sliced Wasserstein distance, each with its null."""

from pyrolvm.diagnostics.two_sample.classifier import c2st
from pyrolvm.diagnostics.two_sample.kernel import mmd, mmd_squared
from pyrolvm.diagnostics.two_sample.permutation import Permuted, pooled
from pyrolvm.diagnostics.two_sample.result import Tests, TwoSample, two_sample_tests
from pyrolvm.diagnostics.two_sample.sliced import Distance, sliced_wasserstein

__all__ = [
    "Distance",
    "Permuted",
    "Tests",
    "TwoSample",
    "c2st",
    "mmd",
    "mmd_squared",
    "pooled",
    "sliced_wasserstein",
    "two_sample_tests",
]
