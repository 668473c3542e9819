"""Predictive checks and leave-one-out of any Pyro pair, from draws of its guide.

The draws are scored and weighted, new data are drawn at them, and at the same draws resampled to
the posterior: what the guide's predictions miss and the posterior's do not is the guide's fault.
Rows with a posterior of their own are left out exactly: what is left of their latent is its prior.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyrolvm.core import Data, LogDensities, PyroLVMError, log_densities
from pyrolvm.core.errors import SiteError, require_at_least, require_seed
from pyrolvm.core.randomness import own_randomness
from pyrolvm.diagnostics import (
    effective_sample_size,
    iwae,
    iwae_standard_error,
    khat_threshold,
    pareto_khat,
    psis,
)
from pyrolvm.diagnostics.leave_one_out import (
    loo_log_weights,
    loo_of_guide,
    loo_of_posterior,
    predictive_pit,
)
from pyrolvm.diagnostics.prediction import Checks, LeaveOneOut, Prediction
from pyrolvm.diagnostics.predictive_checks import Array, predictive_p_values
from pyrolvm.inference.evidence import Evidence
from pyrolvm.inference.observed_rows import ObservedRows, read_rows
from pyrolvm.inference.replaying import Replay, replaying

FEWEST_DRAWS = 100
FEWEST_FOR_LOO = 25
FEWEST_NEW = 100
NEW_ELEMENTS = 2**25
"""Elements of new data that are drawn from each source, where the draws are more than enough."""
MOST_ABOVE = 0.1
"""Share of data whose weights may be unreliable before all are taken to be."""


def predict(
    model: Callable[..., Any],
    guide: Callable[..., Any],
    data: Any,
    *,
    densities: LogDensities | None = None,
    evidence: Evidence | None = None,
    num_draws: int = 1000,
    seed: int = 0,
) -> Prediction:
    """Check what a pair predicts against what was observed.

    Args:
        model: A Pyro program that observes ``data``.
        guide: A Pyro program with the same arguments.
        data: A tensor, a mapping from argument name to tensor, or None.
        densities: Draws of the guide for these data that were scored already, with values.
        evidence: Evidence of each datum, for data that have a posterior of their own; the weights'
            own mean where None.
        num_draws: Draws K of the guide, where none are given, and at least 100.
        seed: The same seed gives the same figures.

    Returns:
        The checks; what cannot be measured is missing, with its reason.

    Raises:
        SiteError: If model and guide do not match.
        SettingError: If there are too few draws.
    """
    require_seed(seed)
    require_at_least(FEWEST_DRAWS, num_draws=num_draws)
    rows = Data.of(data)
    with own_randomness(seed):
        if densities is None or (not densities.values and densities.prior):
            densities = log_densities(
                model, guide, rows, num_particles=num_draws, keep_values=True
            )
    with own_randomness(seed + 1), replaying(model, rows, guide=guide) as replay:
        return _Predictor(replay, densities, evidence, seed).prediction()


class _Predictor:
    """One pair at scored draws of its guide.

    Args:
        replay: The model at any draws.
        densities: Of the guide's draws.
        evidence: Of each datum, or None.
        seed: Of the places among ties.
    """

    def __init__(
        self, replay: Replay, densities: LogDensities, evidence: Evidence | None, seed: int
    ) -> None:
        self.replay, self.densities, self.evidence, self.seed = replay, densities, evidence, seed
        self.weights = densities.log_weights
        self.num_draws = len(self.weights)
        self.khat = pareto_khat(self.weights)
        self.ess = effective_sample_size(self.weights)
        cells = sum(site.value.numel() for site in replay.observed.values())
        self.num_new = min(self.num_draws, max(FEWEST_NEW, NEW_ELEMENTS // max(cells, 1)))
        self.sites = {name: read_rows(site) for name, site in replay.observed.items()}
        self.missing: dict[str, str] = {}
        if not self.sites:
            raise SiteError(
                "Predictive checks need an observed site that can be drawn anew, but the model "
                "only has factors. Give the data as obs= of a distribution."
            )

    def prediction(self) -> Prediction:
        """Everything, one source of predictions after another."""
        observed = np.concatenate(
            [each.statistics.pooled(each.observed[None])[0] for each in self.sites.values()]
        )
        draws, row_p_values, scalars = self._replicated(self._held(self.densities.values))
        resampled, _, _ = self._replicated(self._at_posterior())
        prior, prior_scalars = self._prior()
        loo, log_likelihood = self._leave_one_out()
        sources = (prior_scalars, None) if self.replay.factorises else (scalars, log_likelihood)
        return Prediction(
            statistics=self._names(lambda each: each.statistics.names),
            guide=Checks(observed, draws, self.num_new),
            posterior=Checks(observed, resampled, min(float(self.ess.median()), self.num_new)),
            prior=None if prior is None else Checks(observed, prior, self.num_new),
            loo=loo,
            pit=self._pit(*sources),
            row_statistics=self._row_names(),
            row_p_values=row_p_values,
            factorises=self.replay.factorises,
            reliable=self._reliable(),
            num_draws=self.num_draws,
            missing=self.missing,
        )

    def _names(self, of: Callable[[ObservedRows], tuple[str, ...]]) -> tuple[str, ...]:
        several = len(self.sites) > 1
        return tuple(
            f"{name} of {site}" if several else name
            for site, each in self.sites.items()
            for name in of(each)
        )

    def _row_site(self) -> ObservedRows | None:
        """The first site whose rows are long enough for statistics of their own."""
        return next((each for each in self.sites.values() if each.statistics.row_names), None)

    def _row_names(self) -> tuple[str, ...]:
        site = self._row_site()
        return () if site is None else site.statistics.row_names

    def _reliable(self) -> bool:
        above = (self.khat > khat_threshold(self.num_draws)).double().mean().item()
        return above <= MOST_ABOVE

    def _replicated(self, held: Mapping[str, Tensor]) -> tuple[Array, Array, dict[str, Array]]:
        """Statistics of new data, p-values of rows, and new values of scalar sites."""
        row_site = self._row_site()
        pooled, rows = [], []
        scalars: dict[str, list[Array]] = {n: [] for n, s in self.sites.items() if s.is_scalar}
        for part in self.replay.replicates(held, self.num_new):
            laid = {name: each.rows(part[name]) for name, each in self.sites.items()}
            pooled.append(
                np.concatenate([s.statistics.pooled(laid[n]) for n, s in self.sites.items()], -1)
            )
            for name, values in scalars.items():
                values.append(laid[name][..., 0])
            if row_site is not None:
                rows.append(row_site.statistics.of_rows(laid[row_site.site.name]))
        p_values = np.empty((0, 0))
        if row_site is not None:
            observed = row_site.statistics.of_rows(row_site.observed[None])[0]
            p_values = predictive_p_values(observed, np.concatenate(rows))[0].T
        joined = {name: np.concatenate(values) for name, values in scalars.items()}
        return np.concatenate(pooled), p_values, joined

    def _at_posterior(self) -> dict[str, Tensor]:
        """Draws resampled by their smoothed weights, each datum's by its own."""
        if not self.densities.values:
            return {}
        probabilities = psis(self.weights)[0].exp().T
        chosen = torch.multinomial(probabilities, self.num_new, replacement=True).T
        columns = torch.arange(chosen.shape[1])
        values = {
            name: value[chosen, columns] if self.replay.factorises else value[chosen[:, 0]]
            for name, value in self.densities.values.items()
        }
        return self._held(values)

    def _held(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """As many draws as there are sets of new data, in the layout of a run."""
        return self.replay.in_trace_layout({n: v[: self.num_new] for n, v in values.items()})

    def _prior(self) -> tuple[Array | None, dict[str, Array]]:
        try:
            statistics, _, scalars = self._replicated({})
        except (NotImplementedError, PyroLVMError) as error:
            self.missing["prior predictive check"] = (
                f"The prior cannot be drawn from ({error or type(error).__name__}), so that "
                "there is no prior predictive check."
            )
            return None, {}
        if not np.isfinite(statistics).all():
            self.missing["prior predictive check"] = (
                "Some draws of the prior give data that are not finite, so that there is no prior "
                "predictive check; a narrower prior would."
            )
            return None, {}
        return statistics, scalars

    def _leave_one_out(self) -> tuple[LeaveOneOut | None, dict[str, Tensor]]:
        if self.num_draws < FEWEST_FOR_LOO:
            self.missing["elpd, leave-one-out"] = (
                f"Leave-one-out needs at least {FEWEST_FOR_LOO} draws of the guide, but there are "
                f"{self.num_draws}."
            )
            return None, {}
        if self.replay.factorises:
            return self._evidence_of_each(), {}
        try:
            pieces = self.replay.log_likelihood(self.replay.in_trace_layout(self.densities.values))
        except PyroLVMError as error:
            self.missing["elpd, leave-one-out"] = str(error)
            return None, {}
        by_unit = _units(pieces, self.replay)
        if by_unit.shape[1] < 2:
            self.missing["elpd, leave-one-out"] = (
                "The observations have one joint density and none of their own, so that none can "
                "be left out; put them into a plate if they are independent given the latents."
            )
            return None, {}
        corrected = loo_of_posterior(
            by_unit, self.densities.log_joint[:, 0], self.densities.log_guide[:, 0]
        )
        unknown = np.full(by_unit.shape[1], np.nan)
        method = "PSIS, corrected for the guide"
        loo = LeaveOneOut(corrected[0], unknown, corrected[1], *loo_of_guide(by_unit), method)
        return loo, pieces

    def _evidence_of_each(self) -> LeaveOneOut:
        likelihood = torch.stack([*self.densities.likelihood.values()]).sum(0)
        if self.evidence is None:
            value, error = iwae(self.weights), iwae_standard_error(self.weights)
            method = f"evidence of each datum: {self.num_draws} importance weights"
        else:
            value, error = self.evidence.value, self.evidence.standard_error
            method = f"evidence of each datum: {self.evidence.method}"
        constant = torch.full_like(self.khat, -torch.inf)
        trusted = self.khat if self.evidence is None or self.evidence.is_bound else constant
        elpd, elpd_error, pareto_k = (
            each.cpu().double().numpy() for each in (value, error, trusted)
        )
        return LeaveOneOut(elpd, elpd_error, pareto_k, *loo_of_guide(likelihood), method)

    def _pit(
        self, scalars: Mapping[str, Array], pieces: Mapping[str, Tensor] | None
    ) -> Array | None:
        """Places of scalar observations, of all sites that have them."""
        found = []
        for name, values in scalars.items():
            each = self.sites[name]
            weights = None
            if pieces is not None:
                if name not in pieces or pieces[name].shape[1:] != values.shape[1:]:
                    continue
                log_weights = loo_log_weights(pieces[name], self.weights[:, 0])[: self.num_new]
                weights = log_weights.softmax(0).cpu().numpy()
            observed = each.observed[:, 0]
            is_discrete = each.kind == "count"
            found.append(
                predictive_pit(observed, values, weights, is_discrete=is_discrete, seed=self.seed)
            )
        return np.concatenate(found) if found else None


def _units(pieces: Mapping[str, Tensor], replay: Replay) -> Tensor:
    """Log likelihood of what is left out at once, ``(K, U)``: a row of data, or an entry."""
    rows = [piece for name, piece in pieces.items() if replay.observed[name].in_data_plate]
    others = [
        piece.reshape(len(piece), -1)
        for name, piece in pieces.items()
        if not replay.observed[name].in_data_plate
    ]
    return torch.cat([torch.stack(rows).sum(0), *others] if rows else others, 1)
