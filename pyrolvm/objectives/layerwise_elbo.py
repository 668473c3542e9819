r"""Evidence lower bound with a weight for the rate of each layer.

.. math:: \mathcal L_\beta = \underbrace{E_q[-\log p(x \mid z)]}_{\text{distortion}} +
          \sum_l \beta_l \, \underbrace{E_q \operatorname{KL}
          (q(z_l \mid z_{>l}, x) \,\|\, p(z_l \mid z_{>l}))}_{\text{rate of layer } l}

With all weights 1 it is the negative ELBO. With other weights the best guide is not the posterior:
judge it by its rates (:func:`pyrolvm.layer_rates`), not by its distance from p(z | x).

References:
    Xiao & Bamler (2023), Trading Information between Latents in Hierarchical Variational
    Autoencoders.
    Higgins et al. (2017), beta-VAE (one weight for all).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from pyro.infer import Trace_ELBO
from pyro.poutine import Trace
from torch import Tensor

from pyrolvm.core.errors import SettingError, require_at_least
from pyrolvm.core.sites import DATA_PLATE
from pyrolvm.core.tracing import PairTrace
from pyrolvm.objectives.rate_history import RateHistory
from pyrolvm.objectives.rate_weights import (
    RateWeights,
    checked_weights,
    number,
    require_sites,
    weight_at,
)
from pyrolvm.objectives.site_rates import refuse_one_sided_scales, weigh
from pyrolvm.objectives.target_rates import STEP_SIZE, DualAscent, TargetReport
from pyrolvm.objectives.top_down import require_top_down, split_obstacle

WarmUp = Callable[[int], float | Mapping[str, float]]
"""Maps the number of steps taken to a factor of all weights, or to factors by site."""

SHOWN_STEPS = (0, 10, 100, 1000, 10_000)
"""Steps at which a warm-up is shown, to tell it from others."""


class LayerwiseELBO(Trace_ELBO):  # type: ignore[misc]
    """Distortion plus weighted rates, for ``pyro.infer.SVI`` and ``lvm.fit(..., loss=)``.

    Model and guide stay plain Pyro programs, drawn from the top down. Like Pyro's losses it is in
    nats, summed over data. It remembers its steps (history, warm-up, weights that follow targets);
    ``fit`` starts it anew.

    Args:
        rate_weights: Weight of a layer's rate by latent site, 0 or more; 1 where none is given.
        num_particles: Draws of the guide for each datum and step.
        analytic: Whether the KL of a layer is taken in closed form where one is known; else, and
            for other layers, at the draws.
        targets: Rates to be reached, by site, in nats per datum; the weights of these layers then
            follow, from ``rate_weights`` on.
        dual_step: Largest change of a log weight in a step towards a target.
        warm_up: Maps the number of steps taken to a factor of all weights, or to factors by site;
            see :func:`linear_warm_up`.
        log: Whether ``history`` is kept; with targets it always is.
        vectorize_particles: Whether all particles of a step run at once.
        max_plate_nesting: Depth of the pair's plates; Pyro finds it out where it is not given.

    Raises:
        SettingError: If a weight is negative, a target not positive, or a warm-up no function.
        UnknownNameError: In the first step, if a name is not a latent site of the model.
        IncompatiblePairError: In the first step, if the guide is not drawn from the top down.
        SiteError: If a latent site is scaled in one of the two programs only.

    >>> from pyrolvm import fit, guides, models
    >>> model = models.HierarchicalVAE(latent_dims=(3, 2), obs_dim=5, hidden=(8,))
    >>> guide = guides.Layerwise(model, hidden=(8,))
    >>> from pyrolvm.objectives import linear_warm_up
    >>> loss = LayerwiseELBO({"z_2": 0.5}, warm_up=linear_warm_up(10))
    >>> _ = fit(model, guide, model(size=20).detach(), steps=20, loss=loss, progress=False)
    >>> loss.history.rates["z_2"].shape, loss.history.weights["z_2"][[0, -1]].tolist()
    (torch.Size([20]), [0.05, 0.5])
    """

    def __init__(
        self,
        rate_weights: RateWeights | None = None,
        *,
        num_particles: int = 1,
        analytic: bool = True,
        targets: Mapping[str, float] | None = None,
        dual_step: float = STEP_SIZE,
        warm_up: WarmUp | None = None,
        log: bool = True,
        vectorize_particles: bool = False,
        max_plate_nesting: float = math.inf,
    ) -> None:
        require_at_least(1, num_particles=num_particles)
        if warm_up is not None and not callable(warm_up):
            raise SettingError(
                "warm_up should map the number of steps taken to a factor, but it is "
                f"{warm_up!r}. Pass for example linear_warm_up(100)."
            )
        super().__init__(
            num_particles=num_particles,
            vectorize_particles=vectorize_particles,
            max_plate_nesting=max_plate_nesting,
        )
        self.rate_weights = checked_weights(rate_weights)
        self.analytic, self.warm_up = analytic, warm_up
        self.targets, self.dual_step = dict(targets or {}), dual_step
        self.log = log or bool(self.targets)
        self._memory = _Memory()
        self.start_anew()

    def __repr__(self) -> str:
        weights = {name: number(weight) for name, weight in self.rate_weights.items()}
        more = f", targets={self.targets}, dual_step={self.dual_step}" if self.targets else ""
        if self.warm_up is not None:
            shown = ", ".join(f"{step}: {self.warm_up(step)}" for step in SHOWN_STEPS)
            more += f", warm_up={{{shown}}}"
        more += f", num_particles={self.num_particles}"
        return f"LayerwiseELBO({weights}{more}, analytic={self.analytic})"

    @property
    def history(self) -> RateHistory:
        """Rates, distortion and weights of every step with gradients."""
        return self._memory.history

    def start_anew(self) -> None:
        """Forget all steps; an earlier history keeps what it holds."""
        start = {name: number(weight) for name, weight in self.rate_weights.items()}
        self._memory.step = 0
        self._memory.split_orders.clear()
        self._memory.history = RateHistory()
        self._memory.ascent = DualAscent(self.targets, start, self.dual_step)

    def weights_at(self, step: int) -> dict[str, float | Tensor]:
        """Return the weights of a step that are not 1, those that follow targets as they stand."""
        weights = {**self.rate_weights, **self._memory.ascent.weights}
        if self.warm_up is None:
            return weights
        factors = self.warm_up(step)
        if not isinstance(factors, Mapping):
            return {
                name: weight_at(weights.get(name, 1.0), float(factors))
                for name in {**dict.fromkeys(self._memory.sites, 1.0), **weights}
            }
        return weights | {
            name: weight_at(weights.get(name, 1.0), float(factor))
            for name, factor in factors.items()
        }

    def report(self) -> TargetReport:
        """Say which rates were reached for the targets.

        Raises:
            SettingError: If there are no targets, or no step was taken.
        """
        if not self.targets:
            raise SettingError("There is no target to report on. Give LayerwiseELBO targets.")
        return self._memory.ascent.report(self.history)

    def warn_unreached(self) -> None:
        """Warn of targets that were not reached, with their residuals."""
        if not self.targets or not len(self.history):
            return
        report = self.report()
        if not report.is_reached:
            warnings.warn(
                f"Target rates were not reached for {', '.join(map(repr, report.unreached))}: "
                f"{report}. Train for more steps; a target may also be out of reach.",
                stacklevel=3,
            )

    def loss_and_grads(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the weighted loss, and leave gradients in the parameters."""
        self._memory.open()
        value = super().loss_and_grads(model, guide, *args, **kwargs)
        self._close(float(value))
        return value

    def differentiable_loss(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the weighted loss as a tensor that can be differentiated."""
        self._memory.open()
        value = super().differentiable_loss(model, guide, *args, **kwargs)
        self._close(float(value))
        return value

    def _get_trace(
        self, model: Any, guide: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Trace, Trace]:
        """Return traces whose log densities are weighted."""
        model_trace, guide_trace = super()._get_trace(model, guide, args, kwargs)
        pair = PairTrace(model_trace, guide_trace)
        latents = pair.latents()
        self._require_split(model, guide, pair, args, kwargs)
        refuse_one_sided_scales(pair)
        self._memory.sites = tuple(latents)
        weights = self._memory.given or self.weights_at(self._memory.step)
        require_sites(weights, latents, "rate_weights, targets or warm_up")
        rates = {
            name: weigh(site, guide_trace.nodes[name], weights.get(name, 1.0), self.analytic)
            for name, site in latents.items()
        }
        if self._memory.terms is not None:
            sums = [site["log_prob_sum"].detach() for site in pair.observed().values()]
            terms = {**rates, _DISTORTION: -torch.stack(sums).sum()}
            self._memory.terms.append((terms, _num_data(pair)))
        return model_trace, guide_trace

    def _require_split(
        self,
        model: Any,
        guide: Any,
        pair: PairTrace,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        order = (*pair.latents(), "|", *pair.guide_sites())
        if order in self._memory.split_orders:
            return
        require_top_down("LayerwiseELBO", split_obstacle(model, guide, pair, args, kwargs))
        self._memory.split_orders.add(order)

    def weights_by_site(self, ahead: int = 0) -> dict[str, float]:
        """Return the weight of every latent site in the next step, or in one after it.

        They are known after a first run; of weights that follow targets, those of the next step.
        """
        weights = self.weights_at(self._memory.step + ahead)
        return {name: number(weights.get(name, 1.0)) for name in self._memory.sites}

    def weighted_step(
        self, weights: Mapping[str, Tensor], model: Any, guide: Any, *args: Any, **kwargs: Any
    ) -> tuple[Any, dict[str, Tensor]]:
        """Take a step with weights given as tensors, and remember nothing of it.

        Args:
            weights: Of every latent site's rate.
            model: A Pyro program.
            guide: A Pyro program.
            *args: Data, rows first.
            **kwargs: Data by name.

        Returns:
            What Pyro's ``loss_and_grads`` returns, and the terms that :meth:`note` takes.
        """
        self._memory.open()
        self._memory.given = dict(weights)
        try:
            value = super().loss_and_grads(model, guide, *args, **kwargs)
            assert self._memory.terms is not None
            return value, self._per_datum(self._memory.terms)
        finally:
            self._memory.terms, self._memory.given = None, {}

    def note(self, value: float, terms: Mapping[str, Tensor]) -> None:
        """Take note of a step; one whose loss is not finite leaves nothing behind.

        Args:
            value: The loss.
            terms: Rate of each layer and distortion, in nats per datum.
        """
        if not math.isfinite(value):
            return
        rates = dict(terms)
        distortion = rates.pop(_DISTORTION)
        weights = self.weights_at(self._memory.step)
        if self.log:
            now = {
                name: torch.tensor(number(weights.get(name, 1.0)), dtype=torch.float64)
                for name in rates
            }
            self.history.append(rates, distortion, now)
        if self.targets:
            self._memory.ascent.update(rates)
        self._memory.step += 1

    def _close(self, value: float) -> None:
        terms, self._memory.terms = self._memory.terms, None
        if terms:
            self.note(value, self._per_datum(terms))

    def _per_datum(self, terms: list[tuple[dict[str, Any], int]]) -> dict[str, Tensor]:
        scale = 1 / (self.num_particles * terms[0][1])
        return {name: sum(each[name] for each, _ in terms) * scale for name in terms[0][0]}

    def get_state(self) -> dict[str, Tensor]:
        """Return what the objective remembers as tensors by name, for a checkpoint."""
        state = {"step": torch.tensor(self._memory.step)}
        for part, holder in (("history", self.history), ("ascent", self._memory.ascent)):
            state |= {f"{part}.{name}": value for name, value in holder.get_state().items()}
        return state

    def set_state(self, state: Mapping[str, Tensor]) -> None:
        """Take over what a checkpoint remembers."""
        self._memory.step = int(state["step"])
        for part, holder in (("history.", self.history), ("ascent.", self._memory.ascent)):
            holder.set_state(
                {
                    name[len(part) :]: value
                    for name, value in state.items()
                    if name.startswith(part)
                }
            )


_DISTORTION = "distortion of all observed sites"


class _Memory:
    """What an objective remembers; its shallow copies, which ``fit`` makes, share it."""

    step: int
    history: RateHistory
    ascent: DualAscent

    def __init__(self) -> None:
        self.sites: tuple[str, ...] = ()
        self.split_orders: set[tuple[str, ...]] = set()
        self.terms: list[tuple[dict[str, Any], int]] | None = None
        self.given: dict[str, Tensor] = {}

    def open(self) -> None:
        """Begin to collect the terms of a step."""
        self.terms = []


def _num_data(pair: PairTrace) -> int:
    """Number of data of the whole data set, 1 where there is no data plate."""
    for _, site in pair.all_sites():
        for frame in site["cond_indep_stack"]:
            if frame.name == DATA_PLATE:
                return int(frame.full_size or frame.size)
    return 1
