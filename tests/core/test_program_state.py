"""Trained numbers and checkpoints: all of them, or none."""

from __future__ import annotations

import pyro
import pytest
import torch
from torch import nn

from pyrolvm import guides, models
from pyrolvm.core import CheckpointError, RunFolderError
from pyrolvm.core.checkpoint import fingerprint, load_tensors, save_tensors, tensor_digest
from pyrolvm.core.files import write_text
from pyrolvm.core.program_state import load_program_state, program_state, state_digest


def pair(hidden=4):
    model = models.VAE(2, 3, hidden=(hidden,))
    return model, guides.Amortized(model, hidden=(hidden,))


def test_a_pair_takes_the_numbers_of_another():
    one, other = pair(), pair()
    load_program_state(*other, program_state(*one), "a file")
    for name, value in program_state(*one).items():
        assert torch.equal(value, program_state(*other)[name])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64, torch.bool])
def test_a_digest_tells_content_name_shape_and_type_apart(dtype):
    one = torch.tensor([0, 1]).to(dtype)
    others = [("x", one.flip(0)), ("u", one), ("x", one[:, None]), ("x", one.to(torch.float64))]
    digests = {tensor_digest([other]) for other in [("x", one), *others]}
    assert len(digests) == 5
    assert tensor_digest([("x", one.clone())]) in digests


def test_modules_that_methods_share_are_held_once_with_their_buffers():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm1d(2)

        def model(self, x):
            return self.norm(x)

        def guide(self, x):
            return self.norm(x)

    net = Net()
    state = program_state(net.model, net.guide)
    assert set(state) == {f"model[0].{name}" for name in net.state_dict()}


@pytest.mark.parametrize("other", [5, 3])
def test_another_shape_is_refused_and_nothing_changes(other):
    model, guide = pair()
    before = program_state(model, guide)
    with pytest.raises(CheckpointError, match=r"a file holds the weights of another pair: '.*'"):
        load_program_state(model, guide, program_state(*pair(other)), "a file")
    assert all(torch.equal(v, program_state(model, guide)[n]) for n, v in before.items())


def test_a_missing_name_is_refused():
    model, guide = pair()
    state = program_state(model, guide)
    state.pop("guide.encoder.0.bias")
    with pytest.raises(CheckpointError, match=r"'guide.encoder.0.bias' is absent there"):
        load_program_state(model, guide, state, "a file")


def test_parameters_of_functions_are_those_in_the_store():
    def model(x):
        pyro.param("loc", torch.zeros(2))

    model(None)
    assert set(program_state(model, model)) == {"store.loc"}


def test_a_digest_tells_weights_apart():
    model, _ = pair()
    before = state_digest(model)
    assert state_digest(model) == before
    with torch.no_grad():
        model.decoder[0].bias.add_(1e-6)
    assert state_digest(model) != before


class TestCheckpoint:
    def test_tensors_and_facts_come_back(self, tmp_path):
        tensors = {"a": torch.randn(2, 3).T, "n": torch.tensor(4), "b": torch.tensor([True])}
        save_tensors(tmp_path / "deep" / "c", tensors, {"lr": 0.1, "name": None})
        found, facts = load_tensors(tmp_path / "deep" / "c")
        assert facts == {"lr": 0.1, "name": None}
        assert all(torch.equal(found[name], tensors[name]) for name in tensors)

    @pytest.mark.parametrize("spoil", [lambda b: b[:100], lambda b: b"", lambda b: b"text" * 99])
    def test_a_spoilt_file_is_refused_in_one_line_and_kept(self, tmp_path, spoil):
        path = tmp_path / "c"
        save_tensors(path, {"a": torch.randn(50)}, {})
        path.write_bytes(spoil(path.read_bytes()))
        content = path.read_bytes()
        with pytest.raises(CheckpointError, match="truncated or another kind of file") as caught:
            load_tensors(path)
        assert "\n" not in str(caught.value)
        assert path.read_bytes() == content

    def test_a_file_of_tensors_without_facts_is_refused(self, tmp_path):
        from safetensors.torch import save_file

        save_file({"a": torch.zeros(1)}, tmp_path / "c")
        with pytest.raises(CheckpointError):
            load_tensors(tmp_path / "c")

    def test_an_unwritable_place_is_refused(self, tmp_path):
        (tmp_path / "file").write_text("mine")
        with pytest.raises(RunFolderError, match="cannot be written"):
            write_text(tmp_path / "file" / "below", "text")
        assert (tmp_path / "file").read_text() == "mine"

    def test_no_half_written_file_stays(self, tmp_path):
        from pyrolvm.core.files import atomic

        (tmp_path / "c").write_text("old")

        def interrupted():
            with atomic(tmp_path / "c") as temporary:
                temporary.write_text("half")
                raise KeyError

        with pytest.raises(KeyError):
            interrupted()
        assert [p.name for p in tmp_path.iterdir()] == ["c"]
        assert (tmp_path / "c").read_text() == "old"

    def test_fingerprints_do_not_depend_on_order(self):
        assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
        assert fingerprint({"a": 1}) != fingerprint({"a": 2})
