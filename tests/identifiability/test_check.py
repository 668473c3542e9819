"""What a model identifies: cases with a known answer, tasks, and warnings."""

from __future__ import annotations

from types import SimpleNamespace

import pyro.distributions as dist
import pytest
import torch
from torch import nn

from pyrolvm import models
from pyrolvm.core.errors import IncompatiblePairError, UnknownNameError
from pyrolvm.identifiability import TASKS, check

FACTS = {"latent_dim": 2, "obs_dim": 2}


def anchored(loc, scale=1.0, **options):
    loc = torch.tensor(loc)
    scale = torch.tensor(scale).expand_as(loc).clone()
    return models.AnchoredIVAE(models.EnvironmentPrior(loc, scale), obs_dim=4, **options)


def leaky(latent_dim, **options):
    return models.CPAGenerator(latent_dim, 5, (3, 4), activation="leaky_relu", **options)


class LearnedPrior(nn.Module):
    """Any network, any Gaussian prior."""

    latent_sites = ("z",)
    latent_dim = obs_dim = 2

    def __init__(self) -> None:
        super().__init__()
        self.loc = nn.Parameter(torch.zeros(2))

    def prior(self):
        return dist.Normal(self.loc, 1.0).to_event(1)

    def generate(self, z):
        return z.tanh()


def rising_curve():
    """A curve whose class is restricted to a first output that increases in z."""
    curve = leaky(1)
    return SimpleNamespace(
        latent_dim=1, obs_dim=5, signature=(1,), prior_is_fixed=True, prior=curve.prior,
        affine_stack=curve.affine_stack, generate=curve.generate, latent_sites=("z",),
    )  # fmt: skip


CASES = {
    # generator class, prior class: level, surviving symmetries
    "affine, N(0, I)": (
        lambda: models.LinearGaussian(3, 5, learn_noise=False),
        "up to orthogonal",
        ("rotations and mirrors of z, the group O(3)",),
    ),
    "any, N(0, I)": (
        lambda: models.VAE(2, 4, activation="tanh", learn_noise=False),
        "none",
        ("all invertible maps of z that keep its prior",),
    ),
    "any, learned": (LearnedPrior, "none", ("all invertible maps of z",)),
    "any flow, fixed": (
        lambda: models.GenericFlow(2),
        "none",
        ("all invertible maps of z that keep its prior",),
    ),
    "any, learned in 10 environments": (
        lambda: models.IVAE(2, 4, 10, learn_means=True),
        "up to permutation, sign and scale",
        ("permutations of coordinates, and a sign, a scale and a shift of each",),
    ),
    "any, scales learned in 10 environments": (
        lambda: models.IVAE(2, 4, 10),
        "up to permutation, sign and scale",
        ("permutations of coordinates, and a sign and a scale of each",),
    ),
    "any, learned in too few environments": (
        lambda: models.IVAE(2, 4, 4, learn_means=True),
        "none",
        ("nonlinear maps that the learned priors can follow",),
    ),
    "any, means affinely independent": (
        lambda: anchored([[0.0, 0.0], [3.0, 0.0], [0.0, 3.0]]),
        "strong",
        (),
    ),
    "any, 2d + 1 generic environments": (
        lambda: anchored(torch.randn(5, 2).tolist(), (torch.rand(5, 2) + 0.5).tolist()),
        "strong",
        (),
    ),
    "any, fewer environments of which no map keeps all": (
        lambda: anchored(torch.randn(3, 2).tolist(), (torch.rand(3, 2) + 0.5).tolist()),
        "strong",
        (),
    ),
    "any, scales alone (TCL)": (
        lambda: anchored([[0.0, 0.0]] * 3, [[1.0, 1.0], [2.0, 1.0], [1.0, 3.0]]),
        "up to signs",
        ("sign flips in z_1, z_2",),
    ),
    "any, scales alone around a common mean": (
        lambda: anchored([[2.0, 0.0]] * 3, [[1.0, 1.0], [2.0, 1.0], [1.0, 3.0]]),
        "up to signs",
        ("sign flip in z_2", "reflection of z_1 about its common mean 2"),
    ),
    "any, scales vary and one mean too": (
        lambda: anchored(
            [[0.0, 0.0], [1.0, 0.0], [0.0, 0.0]], [[1.0, 1.0], [2.0, 1.0], [1.0, 3.0]]
        ),
        "up to signs",
        ("sign flip in z_2",),
    ),
    "any, one environment too few": (
        lambda: anchored([[0.0, 0.0], [3.0, 0.0]]),
        "up to signs",
        ("sign flip in z_2",),
    ),
    "any, equal laws of two coordinates": (
        lambda: anchored([[1.0, 1.0, 0.0], [2.0, 2.0, 3.0], [3.0, 3.0, 1.0]]),
        "up to permutation, sign and scale",
        ("exchange of z_1 and z_2",),
    ),
    "any, equal ratios of scales, no means": (
        lambda: anchored([[0.0, 0.0]] * 3, [[1.0, 2.0], [2.0, 4.0], [3.0, 6.0]]),
        "none",
        None,
    ),
    "any, anchored in enough environments": (
        lambda: anchored([[0.0, 0.0], [3.0, 0.0], [0.0, 3.0], [1.0, 1.0]], learned=(3,)),
        "strong",
        (),
    ),
    "any, anchored in too few environments": (
        lambda: anchored([[0.0, 0.0], [3.0, 0.0], [0.0, 3.0]], learned=(2,)),
        "up to signs",
        ("sign flip in z_2",),
    ),
    "triangular monotone, fixed": (
        lambda: SimpleNamespace(**FACTS, signature=(1, -1), prior_is_fixed=True),
        "strong",
        (),
    ),
    "triangular monotone, learned": (
        lambda: SimpleNamespace(**FACTS, signature=(1, 1), prior_is_fixed=False),
        "up to increasing maps of each coordinate",
        ("increasing maps of each coordinate, which a learned independent prior can follow",),
    ),
    "gradient of a convex function, fixed": (
        lambda: SimpleNamespace(**FACTS, potential=abs, prior_is_fixed=True),
        "strong",
        (),
    ),
    "piecewise-affine curve, N(0, 1)": (lambda: leaky(1), "up to signs", ("sign flip in z_1",)),
    "piecewise-affine curve whose first output rises": (rising_curve, "strong", ()),
    "piecewise-affine surface, N(0, I)": (
        lambda: leaky(2),
        "up to orthogonal",
        ("rotations and mirrors of z, the group O(2)",),
    ),
    "piecewise affine, learned": (
        lambda: leaky(2, learn_prior=True),
        "up to affine",
        ("affine maps of z, which the learned prior can follow",),
    ),
    "flow of one latent, N(0, 1)": (
        lambda: models.GenericFlow(1),
        "up to signs",
        ("sign flip in z_1",),
    ),
    "nothing known": (lambda: SimpleNamespace(**FACTS), "none", ("all invertible maps of z",)),
    "smooth curve, proven one to one": (
        lambda: models.LeakyGenerator(1),
        "up to signs",
        ("sign flip in z_1",),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_cases_with_a_known_answer(case):
    make, level, symmetries = CASES[case]
    report = check(make())
    assert report.level == level
    assert report.is_strong == (level == "strong")
    if symmetries is not None:
        assert report.symmetries == symmetries
    assert level in str(report) or report.is_strong or level == "none"


def test_it_says_how_many_environments_there_are_and_are_needed():
    report = check(anchored([[0.0, 0.0], [3.0, 0.0]]))
    assert (report.rank, report.needed_rank) == (1, 2)
    assert (report.num_environments, report.needed_environments) == (2, 3)
    assert "2 environments" in report.warnings[0]
    assert "needs 3" in report.warnings[0]
    assert "sign flip in z_2" in report.warnings[0]
    assert "2 environments, 3 needed" in str(report)


def test_scale_only_data_are_warned_about_although_the_prior_is_fixed():
    report = check(anchored([[0.0, 0.0]] * 3, [[1.0, 1.0], [2.0, 1.0], [1.0, 3.0]]))
    assert report.rank == report.needed_rank == 2
    (warning,) = report.warnings
    assert "sign flips survive although the prior is fixed" in warning


def test_environments_that_repeat_each_other_are_warned_about():
    report = check(anchored([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]]))
    assert (report.rank, report.needed_rank) == (1, 2)
    assert "rank 1 of 2" in report.warnings[0]
    assert not report.is_strong


def test_one_environment_tells_nothing_apart():
    report = check(anchored([[0.0, 0.0]]))
    assert report.level == "none"
    assert "same prior" in report.condition


def test_a_decoder_into_fewer_outputs_is_not_one_to_one():
    prior = models.EnvironmentPrior(torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 3.0]]), 1.0)
    report = check(models.AnchoredIVAE(prior, obs_dim=1))
    assert report.level == "none"
    assert "2 latents to 1 outputs" in report.condition


def test_learned_noise_is_warned_about():
    assert any("noise" in w for w in check(models.LinearGaussian(2, 4)).warnings)
    assert not check(models.LinearGaussian(2, 4, learn_noise=False)).warnings


def test_a_loading_without_full_rank_identifies_nothing():
    model = models.LinearGaussian(2, 4)
    with torch.no_grad():
        model.get_parameter("decoder.0.weight").copy_(torch.ones(4, 2))
    report = check(model)
    assert (report.level, report.rank, report.needed_rank) == ("none", 1, 2)


def test_other_families_of_environments_are_not_guessed_at():
    class Laplace(models.AnchoredIVAE):
        def conditional_prior(self, u):
            law = super().conditional_prior(u).base_dist
            return dist.Laplace(law.loc, law.scale).to_event(1)

    prior = models.EnvironmentPrior(torch.tensor([[0.0], [3.0]]), 1.0)
    report = check(Laplace(prior, obs_dim=2))
    assert report.level == "none"
    assert "no diagonal Gaussians" in report.condition


def test_checking_draws_no_random_numbers_and_leaves_no_gradient():
    model = models.IVAE(2, 4, 3)
    state = torch.get_rng_state()
    check(model)
    assert torch.equal(state, torch.get_rng_state())
    assert all(parameter.grad is None for parameter in model.parameters())


def gaussian(loc, scale_tril):
    return models.CPAGenerator(
        len(loc), 5, (3, 4), activation="leaky_relu",
        prior_loc=torch.tensor(loc), prior_scale_tril=torch.tensor(scale_tril),
    )  # fmt: skip


def test_a_fixed_gaussian_prior_that_is_not_round_does_not_keep_distances():
    """The maps are L O L⁻¹ with the Cholesky factor L: they keep the law, and not distances."""
    factor = torch.tensor([[1.0, 0.0], [0.5, 3.0]])
    report = check(gaussian([0.0, 0.0], factor.tolist()), "clustering")
    assert report.level == "up to affine"
    assert "whitened" in report.symmetries[0]
    assert not report.task.is_invariant
    quarter = torch.tensor([[0.0, -1.0], [1.0, 0.0]])
    kept = factor @ quarter @ torch.linalg.inv(factor)
    torch.testing.assert_close(kept @ factor @ factor.mT @ kept.mT, factor @ factor.mT)
    assert (kept @ kept.mT - torch.eye(2)).abs().max() > 1
    rounded = check(gaussian([1.0, 0.0], [[2.0, 0.0], [0.0, 2.0]]), "clustering")
    assert rounded.symmetries == ("rotations and mirrors of z about its mean, the group O(2)",)
    assert rounded.task.is_invariant


def test_a_single_latent_is_mirrored_at_the_mean_of_its_prior():
    report = check(gaussian([2.0], [[3.0]]))
    assert report.symmetries == ("reflection of z_1 about its mean 2",)
    assert "fix_sign_by" not in report.condition
    assert "fix_sign_by" in check(leaky(1)).condition


def along_the_diamond(z, share=0.3):
    """Move every point along its diamond |z_1| + |z_2| = r by a share of one side."""
    r = z.abs().sum()
    sides = [z[1], -z[0], -z[1], z[0]]
    side = 0 if z[0] > 0 and z[1] >= 0 else 1 if z[0] <= 0 and z[1] > 0 else 2 if z[0] < 0 else 3
    place = side + sides[side] / r + share
    step, rest = int(place) % 4, place - int(place)
    one, other = (1 - rest) * r, rest * r
    return torch.stack([[one, other], [-other, one], [-one, -other], [other, -one]][step])


def test_nonlinear_piecewise_affine_maps_keep_a_prior_with_kinks():
    """Independent Laplace latents: a map along diamonds keeps their law, and is not affine."""
    curve = leaky(2)

    def law():
        return dist.Laplace(torch.zeros(2), torch.ones(2)).to_event(1)

    model = SimpleNamespace(
        latent_dim=2, obs_dim=5, latent_sites=("z",), affine_stack=curve.affine_stack, prior=law
    )
    assert check(model).level == "none"
    slopes = []
    for point in torch.randn(20, 2, dtype=torch.float64):
        moved = along_the_diamond(point)
        slope = torch.autograd.functional.jacobian(along_the_diamond, point)
        torch.testing.assert_close(slope.det(), torch.ones_like(slope.det()))
        torch.testing.assert_close(law().log_prob(moved), law().log_prob(point))
        torch.testing.assert_close(slope @ point, moved)
        slopes.append(slope)
    assert torch.stack(slopes).std(0).max() > 0.1


@pytest.mark.parametrize("kind", [models.TriangularMap, models.BrenierMap])
def test_a_prior_that_carries_a_gradient_is_not_fixed_whatever_the_model_says(kind):
    class Stretched(kind):
        def __init__(self, dim):
            super().__init__(dim)
            self.stretch = nn.Parameter(torch.zeros(dim))

        def prior(self):
            return dist.Normal(0.0, self.stretch.exp()).to_event(1)

    assert check(kind(2)).is_strong
    assert not check(Stretched(2)).is_strong
    assert "learned" in check(Stretched(2)).condition


def noisy(**options):
    with pytest.warns(UserWarning, match="known noise"):
        return models.TriangularVAE(learn_noise=True, **options)


class NoiseForEachOutput(models.AnchoredIVAE):
    """As many noise scales as outputs."""

    def __init__(self):
        super().__init__(models.EnvironmentPrior.simplex(2), obs_dim=4)
        self.log_scale = nn.Parameter(torch.zeros(4))

    def likelihood(self, z):
        return dist.Normal(self.generate(z), self.log_scale.exp()).to_event(1)


def test_learned_noise_weakens_what_it_can_trade_against():
    """With z and noise normal, x = a z + b ε has one law for all a² + b² = 1."""
    report = check(noisy(latent_dim=2, obs_dim=2))
    assert report.level == "none"
    assert "noise" in report.symmetries[0]
    assert check(NoiseForEachOutput()).level == "none"
    assert "fills no volume" in check(models.LinearGaussian(2, 784)).warnings[0]
    spare = check(noisy(latent_dim=2, obs_dim=5))
    assert spare.is_strong
    assert "fills no volume" in spare.warnings[0]


def test_anchors_are_named():
    assert "the anchor outputs x_4, x_2 (anchors=(3, 1))" in (
        check(models.TriangularVAE(2, 5, anchors=(3, 1))).condition
    )


def test_too_few_anchors_do_not_take_away_what_learned_priors_identify():
    loc, scale = torch.randn(10, 2), torch.rand(10, 2) + 0.5
    prior = models.EnvironmentPrior(loc, scale)
    all_learned = check(models.AnchoredIVAE(prior, 4, learned=range(10)))
    report = check(models.AnchoredIVAE(prior, 4, learned=range(1, 10)))
    assert report.level == all_learned.level == "up to permutation, sign and scale"
    assert "fixed in 1 of 10 environments" in report.condition


def test_a_decoder_that_is_flat_everywhere_is_not_one_to_one():
    prior = models.EnvironmentPrior.simplex(2)
    report = check(models.AnchoredIVAE(prior, 4, hidden=(16, 1, 16)))
    assert report.level == "none"
    assert "flat" in report.condition
    assert check(models.AnchoredIVAE(prior, 4, hidden=(16, 2, 16))).is_strong


def test_a_row_that_adds_up_to_a_constant_still_learns():
    class Centred(models.AnchoredIVAE):
        def __init__(self):
            super().__init__(models.EnvironmentPrior.simplex(2), obs_dim=4)
            self.free = nn.Parameter(torch.randn(3, 2))

        def conditional_prior(self, u):
            loc = self.free - self.free.mean(-1, keepdim=True)
            return dist.Normal(loc[u], 1.0).to_event(1)

    assert not check(Centred()).is_strong


KEPT = {
    "strong": set(TASKS),
    "up to signs": set(TASKS) - {"relative_rank", "single_coordinates", "comparison_of_codes"},
    "up to permutation, sign and scale": {
        "sampling", "density", "reconstruction", "pullback_distances", "linear_probe",
        "latent_arithmetic", "interpolation", "disentanglement",
    },
    "up to increasing maps of each coordinate": {
        "sampling", "density", "reconstruction", "pullback_distances", "disentanglement",
        "relative_rank",
    },
    "up to orthogonal": {
        "sampling", "density", "reconstruction", "pullback_distances", "distances", "clustering",
        "linear_probe", "latent_arithmetic", "interpolation",
    },
    "up to affine": {
        "sampling", "density", "reconstruction", "pullback_distances", "linear_probe",
        "latent_arithmetic", "interpolation",
    },
    "none": {"sampling", "density", "reconstruction", "pullback_distances"},
}  # fmt: skip


@pytest.mark.parametrize("case", [c for c in CASES if "equal laws" not in c])
def test_tasks_that_have_one_answer(case):
    make, level, _ = CASES[case]
    report = check(make())
    assert {name for name, found in report.tasks.items() if found.is_invariant} == KEPT[level]


def test_exchanging_coordinates_of_equal_scale_keeps_distances():
    equal = check(anchored([[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]]), "clustering")
    unequal = check(anchored([[1.0, 2.0], [2.0, 4.0], [3.0, 6.0]], [[1.0, 2.0]] * 3), "clustering")
    assert equal.task.is_invariant
    assert not unequal.task.is_invariant
    assert "shift and scale" in unequal.symmetries[0]


def test_a_task_is_judged_by_name():
    report = check(models.VAE(2, 4, activation="tanh"), task="Latent arithmetic".lower())
    assert report.task.task == "latent_arithmetic"
    assert not report.task.is_invariant
    assert "NOT identified" in str(report)
    with pytest.raises(UnknownNameError, match="clustering"):
        check(models.VAE(2, 4), task="clusterin")
    with pytest.raises(UnknownNameError, match="clustering"):
        check(models.VAE(2, 4), task=5)


def test_hierarchies_are_refused():
    with pytest.raises(IncompatiblePairError, match="single latent vector"):
        check(models.HierarchicalVAE((3, 2), 4))


def test_models_of_the_zoo_can_be_checked():
    strong = models.TriangularMap(2), models.TriangularVAE(2, 4), models.BrenierMap(2)
    assert all(check(model).is_strong for model in strong)
    assert check(models.GenericFlow(2)).level == "none"
