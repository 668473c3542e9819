"""The Gaussian-latent programs in NumPyro: a jitted update, and many updates in one scan.

NumPyro is no dependency: ``pip install numpyro``. XLA has to be told of one thread before it is
loaded, which :func:`numpyro_ways` does.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

from benchmarks.svi_steps.cases import LEARNING_RATE, Case
from benchmarks.svi_steps.hierarchy import Hierarchy
from benchmarks.svi_steps.vae import VAE
from benchmarks.svi_steps.ways import Way

SCANNED = 100
ONE_THREAD = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"


def has_numpyro() -> bool:
    """Whether NumPyro is installed."""
    return find_spec("numpyro") is not None


def numpyro_ways(case: Case) -> list[type[Way]]:
    """Return the ways that serve a case: none where it is not installed, or has no such loss."""
    if not has_numpyro() or case.num_particles > 1:
        return []
    os.environ.setdefault("XLA_FLAGS", ONE_THREAD)
    return [Jitted, Scanned]


class Jitted(Way):
    """``jax.jit(svi.update)``, and the loss read in each step."""

    name = "NumPyro, jitted"

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        import jax
        import jax.numpy as jnp

        self.rows = jnp.asarray(self.x.numpy())
        self.svi = numpyro_svi(self.networks)
        self.state = self.svi.init(jax.random.PRNGKey(0), self.rows)
        self.update = jax.jit(self.svi.update)

    def call(self) -> float:
        """Take a step."""
        self.state, loss = self.update(self.state, self.rows)
        return float(loss)


class Scanned(Jitted):
    """``lax.scan`` over 100 updates on the same rows, and all losses read at the end."""

    name = "NumPyro, scanned"
    at_once = SCANNED

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        import jax

        def updates(state: Any, rows: Any) -> Any:
            return jax.lax.scan(
                lambda now, _: self.svi.update(now, rows), state, None, length=SCANNED
            )

        self.update = jax.jit(updates)

    def call(self) -> float:
        """Take ``at_once`` steps."""
        self.state, losses = self.update(self.state, self.rows)
        return float(losses.tolist()[-1])


def numpyro_svi(networks: VAE | Hierarchy) -> Any:
    """Return NumPyro's SVI of the same pair, which starts from the same weights."""
    import numpyro

    model, guide = _vae(networks) if isinstance(networks, VAE) else _hierarchy(networks)
    adam = numpyro.optim.Adam(LEARNING_RATE)
    return numpyro.infer.SVI(model, guide, adam, numpyro.infer.Trace_ELBO())


def _mlp(networks: Any, name: str) -> Callable[[Any], Any]:
    """Return a multilayer perceptron of ``networks`` whose weights are NumPyro's parameters."""
    import jax
    import numpyro

    module = networks.get_submodule(name)
    initial = {f"{name}.{key}": p.detach().numpy().copy() for key, p in module.named_parameters()}
    layers = sorted(
        {key.rsplit(".", 1)[0] for key in initial}, key=lambda key: int(key[len(name) + 1 :])
    )

    def network(value: Any) -> Any:
        for place, layer in enumerate(layers):
            weight, bias = (
                numpyro.param(f"{layer}.{part}", initial[f"{layer}.{part}"])
                for part in ("weight", "bias")
            )
            value = value @ weight.T + bias
            if place + 1 < len(layers):
                value = jax.nn.relu(value)
        return value

    return network


def _vae(networks: VAE) -> tuple[Callable[..., None], Callable[..., None]]:
    import jax.numpy as jnp
    import numpyro
    from numpyro.distributions import Bernoulli, Normal

    encoder, decoder = _mlp(networks, "encoder"), _mlp(networks, "decoder.network")

    def model(x: Any) -> None:
        with numpyro.plate("data", len(x)):
            zeros = jnp.zeros((len(x), networks.latent_dim))
            output = decoder(numpyro.sample("z", Normal(zeros, 1.0).to_event(1)))
            law: Any = Bernoulli(logits=output)
            if networks.decoder.log_noise is not None:
                law = Normal(output, jnp.exp(numpyro.param("log_noise", 0.0)))
            numpyro.sample("x", law.to_event(1), obs=x)

    def guide(x: Any) -> None:
        with numpyro.plate("data", len(x)):
            loc, log_scale = jnp.split(encoder(x), 2, -1)
            numpyro.sample("z", Normal(loc, jnp.exp(log_scale)).to_event(1))

    return model, guide


def _hierarchy(networks: Hierarchy) -> tuple[Callable[..., None], Callable[..., None]]:
    import jax.numpy as jnp
    import numpyro
    from numpyro.distributions import Bernoulli, Normal

    up = [_mlp(networks, f"up.{place}") for place in range(len(networks.up))]
    down = [_mlp(networks, f"down.{place}") for place in range(len(networks.down))]

    def model(x: Any) -> None:
        with numpyro.plate("data", len(x)):
            law = Normal(jnp.zeros((len(x), networks.top_dim)), 1.0)
            for layer in range(len(down), 0, -1):
                output = down[layer - 1](numpyro.sample(f"z_{layer}", law.to_event(1)))
                if layer > 1:
                    loc, log_scale = jnp.split(output, 2, -1)
                    law = Normal(loc, jnp.exp(log_scale))
            numpyro.sample("x", Bernoulli(logits=output).to_event(1), obs=x)

    def guide(x: Any) -> None:
        value = x
        with numpyro.plate("data", len(x)):
            for layer, network in enumerate(up, 1):
                loc, log_scale = jnp.split(network(value), 2, -1)
                law = Normal(loc, jnp.exp(log_scale)).to_event(1)
                value = numpyro.sample(f"z_{layer}", law)

    return model, guide
