r"""Markov chains in the exact posterior of a generator with any number of latent dimensions.

Each update draws from the exact conditional along a line, so that nothing is ever rejected and no
step size is tuned; the chains start at prior draws, and the warm-up cools the likelihood down from
a temperature at which it counts no more than the number of data dimensions.

References:
    Smith (1984), Efficient Monte Carlo Procedures for Generating Points Uniformly Distributed
    over Bounded Regions (hit-and-run).
    Roberts & Gilks (1994), Convergence of Adaptive Direction Sampling.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pyrolvm.exact.errors import ObservationError
from pyrolvm.exact.folding import Array, observations, to_numpy
from pyrolvm.exact.lines.adaptation import factor_of, local_covariance
from pyrolvm.exact.lines.problem import LineProblem, line_problem
from pyrolvm.exact.propagation import output_maps
from pyrolvm.exact.stack import AffineStack
from pyrolvm.exact.threads import run_in_threads

ARCHIVE = 32
# Shares of the warm-up: tempering ends, and directions are adapted to the states since then.
COOLED, LEARNING = 0.5, (0.65, 0.8, 1.0)
BLOCK_STEPS = 20_000

Report = Callable[[int], object]


@dataclass
class LineChains:
    """Chains at their present states; :meth:`copy` one to go on from here twice.

    Attributes:
        problem: The generator in whitened coordinates.
        reduced: Reduced data, ``(N, D')``.
        states: Present states in whitened coordinates, ``(N, C, S)``.
        streams: State of each chain's random numbers, ``(N, C)``.
        factors: Factors of the directions' covariance, ``(N, S, S)``.
        archives: States whose differences are directions, ``(N, A, S)``.
        updates: Line updates so far, the warm-up included.
        pieces: Linear pieces met in them.
    """

    problem: LineProblem
    reduced: Array
    states: Array
    streams: NDArray[np.uint64]
    factors: Array
    archives: Array
    updates: int = 0
    pieces: int = 0

    @classmethod
    def start(cls, stack: AffineStack, x: Tensor, num_chains: int, seed: int) -> LineChains:
        """Start chains at draws from the prior.

        Args:
            stack: The generator.
            x: Observations, ``(N, D)``.
            num_chains: Number of chains C for each datum.
            seed: Non-negative; each datum and chain has a stream of its own.

        Returns:
            The chains.

        Raises:
            ObservationError: If x has the wrong shape, is not finite, or is so far out that its
                likelihood overflows.
            GeneratorError: If a parameter is not finite or a scale not positive.
        """
        from pyrolvm.exact.lines.chain_kernel import draw_starts, open_streams

        problem = line_problem(stack)
        reduced, _ = problem.folded.reduce(observations(x, stack.obs_dim))
        size, dim = len(reduced), problem.latent_dim
        streams = open_streams(seed, size, num_chains)
        latent = np.empty((size, num_chains, dim))
        draw_starts(streams, *_prior(stack), latent)
        states = problem.folded.to_whitened(latent)
        factors = factor_of(local_covariance(problem.folded, states))
        none = np.empty((size, 0, dim))
        reduced = np.ascontiguousarray(reduced)
        chains = cls(problem, reduced, np.ascontiguousarray(states), streams, factors, none)
        chains._log_inverse_temperature()  # refuses what is too far out
        return chains

    def copy(self) -> LineChains:
        """The same chains, which go on without these."""
        return replace(self, states=self.states.copy(), streams=self.streams.copy())

    @property
    def num_chains(self) -> int:
        """Number of chains for each datum."""
        return self.states.shape[1]

    def warm_up(self, sweeps: int, report: Report | None = None) -> None:
        """Cool the likelihood down and adapt the directions; the states on the way are dropped.

        Args:
            sweeps: Number of sweeps of all chains.
            report: Called with numbers of sweeps as they are done.
        """
        progress = np.minimum(1.0, np.arange(sweeps) / max(1.0, COOLED * sweeps))
        cold = self._log_inverse_temperature()
        for begin, end in _windows((0.0, 0.1, 0.25, COOLED), sweeps):
            self._sweep(progress[begin:end], cold, end - begin, report)
            self.factors = factor_of(local_covariance(self.problem.folded, self.states))
        visited: list[Array] = []
        for begin, end in _windows((COOLED, *LEARNING), sweeps):
            visited.append(self._sweep(progress[begin:end], cold, 1, report))
            states = np.concatenate(visited[-2:], axis=1)
            self.factors = factor_of(local_covariance(self.problem.folded, self.states), states)
            self.archives = _archive(states)

    def draw(self, num: int, thin: int = 1, report: Report | None = None) -> Array:
        """Go on, and keep states.

        Args:
            num: Draws of each chain.
            thin: Sweeps between draws.
            report: Called with numbers of sweeps as they are done.

        Returns:
            Latent points, ``(C, num, N, S)``.
        """
        cold = np.zeros(len(self.reduced))
        out = self._sweep(np.ones(num * thin), cold, thin, report)
        return self.problem.folded.to_latent(out)

    def _log_inverse_temperature(self) -> Array:
        """At which the misfit of the starts is about the number of data dimensions, ``(N,)``."""
        size, chains, dim = self.states.shape
        value, _, _ = output_maps(self.problem.folded, self.states.reshape(-1, dim))
        rest = self.reduced[:, None] - value.reshape(size, chains, self.reduced.shape[1])
        with np.errstate(over="ignore"):
            misfit = np.square(rest).sum(-1).mean(-1)
        if not np.isfinite(misfit).all():
            row = int(np.argmax(~np.isfinite(misfit)))
            raise ObservationError(
                f"LineGibbs cannot start: observation {row} is so far from all that the generator "
                "makes that its likelihood overflows. Check the scale of data and noise."
            )
        return np.minimum(0.0, np.log(self.reduced.shape[1] / np.maximum(misfit, 1e-300)))

    def _sweep(self, progress: Array, cold: Array, thin: int, report: Report | None) -> Array:
        """Take a sweep for each entry of ``progress``; whitened states, ``(C, num, N, S)``."""
        from pyrolvm.exact.lines.chain_kernel import advance

        size, chains, dim = self.states.shape
        out = np.empty((chains, len(progress) // thin, size, dim))
        each = max(1, BLOCK_STEPS // max(1, size * chains * (dim + 1)))
        block = thin * max(1, each // thin)
        for begin in range(0, len(progress), block):
            part = progress[begin : begin + block]
            target = out[:, begin // thin : (begin + len(part)) // thin]

            def run(
                first: int, last: int, part: Array = part, target: Array = target
            ) -> tuple[int, int]:
                return advance(
                    first, last, self.reduced, cold, part, thin, self.problem.net, self.streams,
                    self.factors, self.archives, self.states, target,
                )  # fmt: skip

            for updates, pieces in run_in_threads(run, size, 1, 64):
                self.updates += updates
                self.pieces += pieces
            if report is not None:
                report(len(part))
        return out


def _windows(shares: tuple[float, ...], sweeps: int) -> list[tuple[int, int]]:
    """Stretches of a warm-up that are not empty."""
    ends = [round(share * sweeps) for share in shares]
    return [(a, b) for a, b in pairwise(ends) if b > a]


def _archive(visited: Array) -> Array:
    """Evenly spaced states of all chains, ``(N, A, S)``."""
    states = visited.reshape(visited.shape[0] * visited.shape[1], *visited.shape[2:])
    chosen = np.linspace(0, len(states) - 1, min(ARCHIVE, len(states))).round().astype(int)
    return np.ascontiguousarray(states[chosen].transpose(1, 0, 2))


def _prior(stack: AffineStack) -> tuple[Array, Array, Array]:
    """Shares, factors and means of the prior's components."""
    components = stack.components()
    logits = stack.prior_logits
    shares = np.ones(1) if logits is None else to_numpy(logits.double().softmax(0))
    factors = np.stack([np.tril(to_numpy(each.prior_scale_tril)) for each in components])
    return shares, factors, np.stack([to_numpy(each.prior_loc) for each in components])
