import numpy as np
import pytest
import torch

from pyrolvm.core.errors import DataError
from pyrolvm.diagnostics.labelling import Labelling

PER_DATUM = Labelling(num_chains=2, size=3)
WHOLE = Labelling(num_chains=2, size=None)


def test_draws_become_chains_in_order():
    values = torch.arange(4 * 3).reshape(4, 3)
    dims, array = PER_DATUM.draws({"z": values})["z"]
    assert dims == ("chain", "draw", "datum")
    np.testing.assert_array_equal(array.reshape(4, 3), values)


@pytest.mark.parametrize(
    ("event", "names"), [((), ()), ((5,), ("z_dim",)), ((5, 6), ("z_dim_0", "z_dim_1"))]
)
def test_event_axes_are_named_after_their_site(event, names):
    dims, array = PER_DATUM.draws({"z": torch.zeros(4, 3, *event)})["z"]
    assert dims == ("chain", "draw", "datum", *names)
    assert array.shape == (2, 2, 3, *event)


def test_prior_draws_are_one_chain_without_a_datum():
    dims, array = PER_DATUM.prior_draws({"z": torch.zeros(7, 5)})["z"]
    assert dims == ("chain", "draw", "z_dim")
    assert array.shape == (1, 7, 5)


def test_whole_data_set_as_one_datum_has_no_axis_for_it():
    assert WHOLE.draws({"z": torch.zeros(4, 5)})["z"][0] == ("chain", "draw", "z_dim")
    assert WHOLE.data({"x": torch.zeros(9, 5)})["x"][0] == ("x_dim_0", "x_dim_1")


def test_slash_becomes_a_dot():
    assert list(WHOLE.data({"layer/z": torch.zeros(2)})) == ["layer.z"]


@pytest.mark.parametrize("names", [("chain",), ("a/b", "a.b")])
def test_names_that_would_clash_are_refused(names):
    with pytest.raises(DataError, match="Rename the site"):
        WHOLE.data(dict.fromkeys(names, torch.zeros(2)))


def test_draws_that_do_not_split_are_refused():
    with pytest.raises(DataError, match="5 draws of 'z' do not split into 2 chains"):
        PER_DATUM.draws({"z": torch.zeros(5, 3)})


def test_data_first_is_refused():
    with pytest.raises(DataError, match=r"'z' needs the shape \(4, 3, ...\)"):
        PER_DATUM.draws({"z": torch.zeros(3, 4)}, num_draws=4)
