"""Every pair of the collection by name: ``PAIRS[name]()`` makes a fresh one."""

from __future__ import annotations

from collections.abc import Callable

from tests.pairs import (
    eight_schools,
    funnel,
    gaussian_mixture,
    logistic_regression,
    semi_supervised,
    shipped_with_pyro,
    topics,
    varying_intercepts,
)
from tests.pairs.program import Program

CLASSICS: dict[str, Callable[[], Program]] = {
    "eight-schools-centred": eight_schools.centred_pair,
    "eight-schools-non-centred": eight_schools.non_centred_pair,
    "funnel-centred": funnel.centred_pair,
    "funnel-non-centred": funnel.non_centred_pair,
    "logistic-regression": logistic_regression.pair,
    "gaussian-mixture": gaussian_mixture.pair,
    "topics": topics.pair,
    "semi-supervised-labelled": semi_supervised.labelled_pair,
    "semi-supervised-unlabelled": semi_supervised.unlabelled_pair,
    "semi-supervised-summed": semi_supervised.summed_pair,
    "varying-intercepts": varying_intercepts.pair,
}
SHIPPED: dict[str, Callable[[], Program]] = {
    "cevae": shipped_with_pyro.cevae_pair,
    "variational-gp": shipped_with_pyro.variational_gp_pair,
    "sparse-gp": shipped_with_pyro.sparse_gp_pair,
    "gplvm": shipped_with_pyro.gplvm_pair,
    "profile-hmm": shipped_with_pyro.profile_hmm_pair,
    "factor-mue": shipped_with_pyro.factor_mue_pair,
}
PAIRS = CLASSICS | SHIPPED
