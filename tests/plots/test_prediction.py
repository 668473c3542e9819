"""Figures of predictions: from the data set alone, both looks, what they say in words."""

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.text import Text

from pyrolvm.core.errors import DataError
from pyrolvm.diagnostics.prediction import Checks, LeaveOneOut, Prediction
from pyrolvm.plots.prediction import elpd_of_each, pit_difference, predicted_statistics
from pyrolvm.plots.saving import image_bytes
from pyrolvm.plots.theme import DARK, LIGHT, NARROW, WIDE

FIGURES = [predicted_statistics, pit_difference, elpd_of_each]


@pytest.fixture(scope="module")
def prediction():
    random = np.random.default_rng(0)
    data, draws = np.array([0.0, 0.5, 40.0]), random.normal(size=(500, 3))
    k = np.append(random.uniform(-0.5, 0.5, 29), 0.9)
    elpd = random.normal(-2.0, 0.5, 30)
    return Prediction(
        statistics=("mean", "sd", "max"),
        guide=Checks(data, draws, 500),
        posterior=Checks(data, draws + 0.1, 300),
        prior=Checks(data, 20 * draws, 500),
        loo=LeaveOneOut(elpd, np.full(30, np.nan), k, elpd - 0.2, k, "corrected"),
        pit=random.random(50),
        row_statistics=(),
        row_p_values=np.empty((0, 0)),
        factorises=False,
        reliable=True,
        num_draws=500,
    ).dataset()


def texts(figure):
    return "\n".join(text.get_text() for text in figure.findobj(Text))


@pytest.mark.parametrize("draw", FIGURES, ids=lambda draw: draw.__name__)
class TestEveryFigure:
    @pytest.mark.parametrize("width", [WIDE, NARROW])
    def test_is_as_wide_as_asked_or_narrower(self, draw, prediction, width):
        assert draw(prediction, width=width).get_figwidth() <= width + 1e-9

    def test_has_the_paper_of_its_theme(self, draw, prediction):
        papers = [to_hex(draw(prediction, name).get_facecolor()) for name in ("light", "dark")]
        assert papers == [LIGHT.paper, DARK.paper]

    def test_gives_the_same_bytes_twice(self, draw, prediction):
        first, second = (image_bytes(draw(prediction, width=NARROW), "svg") for _ in range(2))
        assert first == second

    def test_says_what_is_missing(self, draw, prediction):
        bare = prediction.drop_vars(["guide_statistic", "pit", "elpd_loo"])
        bare = bare.assign_attrs(missing_pit="No scalars.")
        with pytest.raises(DataError, match="No scalars"):
            draw(bare)


def test_every_statistic_has_its_p_values(prediction):
    words = texts(predicted_statistics(prediction))
    expected = [float(prediction[f"{name}_p_value"][0]) for name in ("guide", "posterior")]
    assert f"mean: p = {expected[0]:.2f}, p = {expected[1]:.2f}" in words
    assert "max: p < 1e−12" in words
    assert "weighted to the posterior" in words


def test_data_with_latents_of_their_own_are_held_against_the_prior(prediction):
    words = texts(predicted_statistics(prediction.assign_attrs(factorises=1)))
    assert "new data, prior" in words


def test_observation_is_seen_wherever_it_lies(prediction):
    axes = predicted_statistics(prediction).axes[2]
    low, high = axes.get_xlim()
    assert low < 40.0 < high


def test_band_holds_uniform_places_and_not_others(prediction):
    colors = []
    for power in (1.0, 3.0):
        axes = pit_difference(prediction.assign(pit=prediction["pit"] ** power)).axes[0]
        colors.append(axes.lines[-1].get_color())
    assert colors == [LIGHT.palette[0], LIGHT.palette[1]]


def test_sum_and_threshold_are_told(prediction):
    words = texts(elpd_of_each(prediction))
    assert "trust ends" in words
    assert "Sum: −" in words
