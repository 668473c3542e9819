"""From a Pyro fit to the groups that ArviZ reads: variational guides and Markov chains.

A guide's draws are independent: they are split into labelled chains because ArviZ's plots compare
chains, and the attribute ``sampling="iid_guide"`` says so. R-hat and effective sample sizes of
such draws mean nothing. Where several guides of one model are given, say independent refits, each
is one chain, and chains that disagree mean fits that disagree.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pyro.infer import MCMC
from torch import Tensor

from pyrolvm.core import Data, LogDensities, PyroLVMError, SiteError, log_densities
from pyrolvm.core.errors import SettingError, require_at_least, require_seed
from pyrolvm.core.randomness import own_randomness
from pyrolvm.diagnostics import pareto_khat
from pyrolvm.diagnostics.arviz_export import SAMPLING, labelled_tree
from pyrolvm.diagnostics.labelling import Labelled, plate_axes
from pyrolvm.inference.replaying import Replay, replaying

if TYPE_CHECKING:
    import xarray as xr

Program = Callable[..., Any]

NEW_ELEMENTS = 2**25
"""Elements that a predictive group may hold: 256 MiB in double precision."""
CHAINS = {group: "chains" for group, origin in SAMPLING.items() if origin == "iid_guide"}


def from_pyro_svi(
    model: Program,
    guide: Program | Sequence[Program],
    data: Any = None,
    *,
    num_draws: int = 1000,
    num_chains: int = 4,
    posterior_predictive: bool = True,
    prior: bool = True,
    log_likelihood: bool = True,
    seed: int = 0,
    attrs: Mapping[str, Any] | None = None,
) -> xr.DataTree:
    """Draws of a guide as an ArviZ tree.

    Args:
        model: A Pyro program that observes ``data``.
        guide: A Pyro program with the same arguments; of several, each becomes one chain.
        data: A tensor, a mapping from argument name to tensor, rows first, or None for programs
            without arguments.
        num_draws: Draws of each guide.
        num_chains: Chains that the draws of a single guide are split into.
        posterior_predictive: Whether to draw new observations at each draw.
        prior: Whether to draw latents and observations from the model; left out where the prior
            cannot be drawn from.
        log_likelihood: Whether to score each observation at each draw, for ``loo``; left out
            where observations have one joint density.
        seed: The same seed gives the same tree.
        attrs: Attributes of the root.

    Returns:
        Groups ``posterior``, ``sample_stats`` (log weights, ``lp``, k-hat), ``observed_data`` and
        what was asked for, with dimensions chain, draw, those of plates under their names (the
        plate ``"data"`` as ``datum``), and ``<site>_dim``.

    Raises:
        SiteError: If model and guide do not match.
        SettingError: If the draws do not split into the chains.

    Examples:
        >>> import pyro, torch, pyrolvm as lvm
        >>> def model(x):
        ...     loc = pyro.sample("loc", pyro.distributions.Normal(0.0, 5.0))
        ...     with pyro.plate("data", len(x)):
        ...         pyro.sample("x", pyro.distributions.Normal(loc, 1.0), obs=x)
        >>> def guide(x):
        ...     pyro.sample("loc", pyro.distributions.Normal(x.mean(), 0.5))
        >>> tree = lvm.from_pyro_svi(model, guide, torch.tensor([1.0, 2.0, 4.0, 5.0]))
        >>> dict(tree["posterior_predictive"]["x"].sizes)
        {'chain': 4, 'draw': 250, 'datum': 4}
    """
    guides = list(guide) if isinstance(guide, Sequence) else [guide]
    require_seed(seed)
    require_at_least(1, num_draws=num_draws, num_chains=num_chains, guides=len(guides))
    if len(guides) > 1:
        num_chains = len(guides)
    elif num_draws % num_chains:
        raise SettingError(
            f"num_draws should be a multiple of num_chains, so that chains have equal length, but "
            f"{num_draws} draws do not split into {num_chains} chains."
        )
    rows = Data.of(data)
    wanted = (posterior_predictive, prior, log_likelihood)
    parts = []
    for number, each in enumerate(guides):
        with own_randomness(seed + number):
            densities = log_densities(model, each, rows, num_particles=num_draws, keep_values=True)
            with replaying(model, rows, guide=each) as replay:
                held = replay.in_trace_layout(densities.values)
                first = number == 0
                split = num_chains // len(guides)
                groups = _Groups(replay, split).all(held, num_draws, wanted, with_prior=first)
                groups["sample_stats"] = _statistics(densities, split)
                parts.append(groups)
    facts = {"num_guides": len(guides), "sampling": "iid_guide", **(attrs or {})}
    return labelled_tree(_one_after_another(parts), facts)


def from_pyro_mcmc(
    mcmc: MCMC,
    model: Program | None = None,
    data: Any = None,
    *,
    posterior_predictive: bool = True,
    prior: bool = True,
    log_likelihood: bool = True,
    seed: int = 0,
    attrs: Mapping[str, Any] | None = None,
) -> xr.DataTree:
    """Markov chains of Pyro as an ArviZ tree.

    Args:
        mcmc: A finished run.
        model: The program that it sampled; the kernel's own where None.
        data: What the program was run on; without it the tree has no more than ``posterior`` and
            ``sample_stats``.
        posterior_predictive: As in :func:`from_pyro_svi`.
        prior: As in :func:`from_pyro_svi`.
        log_likelihood: As in :func:`from_pyro_svi`.
        seed: Of the predictions.
        attrs: Attributes of the root.

    Returns:
        The tree, whose attribute ``sampling`` is ``"chains"``; ``sample_stats`` says which draws
        diverged.

    Raises:
        SiteError: If the run has no draws, or they are not those of the model.
    """
    require_seed(seed)
    samples = mcmc.get_samples(group_by_chain=True) or {}
    if not samples:
        raise SiteError(
            "An ArviZ tree needs the draws of a finished run, but this one has none. Call "
            "mcmc.run(...) first."
        )
    num_chains, num_draws = next(iter(samples.values())).shape[:2]
    model = model or getattr(mcmc.kernel, "model", None)
    facts = {"sampling": "chains", **(attrs or {})}
    origins = {**SAMPLING, **CHAINS}
    statistics = {"sample_stats": _divergences(mcmc, num_chains, num_draws)}
    if data is None or model is None:
        bare = plate_axes(samples, dict.fromkeys(samples, ()), ("chain", "draw"))
        return labelled_tree({"posterior": bare, **statistics}, facts, origins)
    together = {name: value.flatten(0, 1).double() for name, value in samples.items()}
    wanted = (posterior_predictive, prior, log_likelihood)
    with own_randomness(seed), replaying(model, data, drawn=tuple(samples)) as replay:
        held = replay.from_runs(together)
        groups = _Groups(replay, num_chains).all(held, num_chains * num_draws, wanted)
    return labelled_tree({**groups, **statistics}, facts, origins)


class _Groups:
    """The groups of one set of draws, split into chains.

    Args:
        replay: The model at any draws.
        num_chains: Chains that draws are split into, in order.
    """

    def __init__(self, replay: Replay, num_chains: int) -> None:
        self.replay, self.num_chains = replay, num_chains
        self.plates = {name: site.plates for name, site in replay.observed.items()}

    def all(
        self,
        held: Mapping[str, Tensor],
        num_draws: int,
        wanted: tuple[bool, bool, bool],
        with_prior: bool = True,
    ) -> dict[str, dict[str, Labelled]]:
        """Every group that was asked for and can be had."""
        predictive, prior, likelihood = wanted
        observed = {name: site.value for name, site in self.replay.observed.items()}
        groups = {"posterior": self._draws(self.replay.values(held), self.replay.plates)}
        if predictive and observed:
            groups["posterior_predictive"] = self._draws(self._new(held, num_draws), self.plates)
        if likelihood and observed:
            groups["log_likelihood"] = self._likelihood(held)
        if prior and with_prior:
            groups |= self._prior(num_draws)
        groups["observed_data"] = plate_axes(observed, self.plates, ())
        return {name: group for name, group in groups.items() if group}

    def _draws(
        self, arrays: Mapping[str, Tensor], plates: Mapping[str, Sequence[str]]
    ) -> dict[str, Labelled]:
        split = {n: a.reshape(self.num_chains, -1, *a.shape[1:]) for n, a in arrays.items()}
        return plate_axes(split, plates, ("chain", "draw"))

    def _few(self, num_draws: int) -> int:
        """As many draws as may be held, a multiple of the chains."""
        cells = sum(site.value.numel() for site in self.replay.observed.values())
        most = max(self.num_chains, NEW_ELEMENTS // max(cells, 1))
        return min(num_draws, most) // self.num_chains * self.num_chains

    def _new(self, held: Mapping[str, Tensor], num_draws: int) -> dict[str, Tensor]:
        """New observations at draws that are spread evenly over the chains."""
        few = self._few(num_draws)
        step = num_draws // few
        chosen = {name: value[::step][:few] for name, value in held.items()}
        parts = list(self.replay.replicates(chosen, few))
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def _likelihood(self, held: Mapping[str, Tensor]) -> dict[str, Labelled]:
        try:
            pieces = self.replay.log_likelihood(held)
        except PyroLVMError:
            return {}
        return self._draws({n: p for n, p in pieces.items() if p[0].numel() > 1}, self.plates)

    def _prior(self, num_draws: int) -> dict[str, dict[str, Labelled]]:
        try:
            latents, observed = self.replay.prior(self._few(num_draws))
        except (NotImplementedError, PyroLVMError):
            return {}
        leading = ("chain", "draw")
        return {
            "prior": plate_axes(_one_chain(latents), self.replay.plates, leading),
            "prior_predictive": plate_axes(_one_chain(observed), self.plates, leading),
        }


def _one_chain(arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: array[None] for name, array in arrays.items()}


def _statistics(densities: LogDensities, num_chains: int) -> dict[str, Labelled]:
    """Log weights, log joint densities and k-hat; the data set's where it is one datum."""
    axis = ("datum",) if densities.factorises else ()

    def split(values: Tensor) -> Labelled:
        values = values if densities.factorises else values[:, 0]
        chains = values.reshape(num_chains, -1, *values.shape[1:])
        return ("chain", "draw", *axis), chains.cpu().numpy()

    khat = pareto_khat(densities.log_weights).cpu().numpy()
    return {
        "log_weight": split(densities.log_weights),
        "lp": split(densities.log_joint),
        "khat": (axis, khat if densities.factorises else khat[0]),
    }


def _one_after_another(
    parts: list[dict[str, dict[str, Labelled]]],
) -> dict[str, dict[str, Labelled]]:
    """Join the groups of several guides along their chains; k-hat gets one figure a chain."""
    if len(parts) == 1:
        return parts[0]
    joined: dict[str, dict[str, Labelled]] = {}
    for group, variables in parts[0].items():
        joined[group] = {}
        for name, (dims, array) in variables.items():
            arrays = [part[group][name][1] for part in parts if group in part]
            if name == "khat" and group == "sample_stats":
                joined[group][name] = (("chain", *dims), np.stack(arrays))
            elif "chain" in dims:
                joined[group][name] = (dims, np.concatenate(arrays))
            else:
                joined[group][name] = (dims, array)
    return joined


def _divergences(mcmc: MCMC, num_chains: int, num_draws: int) -> dict[str, Labelled]:
    diverging = np.zeros((num_chains, num_draws), dtype=bool)
    found = mcmc.diagnostics().get("divergences", {})
    for chain in range(num_chains):
        diverging[chain, list(found.get(f"chain {chain}", []))] = True
    return {"diverging": (("chain", "draw"), diverging)}
