"""Log densities of an enumerated run as packed tensors: named dimensions, by their plates.

Pyro's tensor contraction eliminates plates and sums in the cheapest order, so that a chain of
sites costs what its forward algorithm costs.

References:
    Obermeyer et al. (2019), Tensor Variable Elimination for Plated Factor Graphs.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from pyro.ops import packed
from pyro.ops.contract import contract_tensor_tree, contract_to_tensor
from pyro.poutine import Trace
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from pyrolvm.core import sites
from pyrolvm.core.errors import SiteError

Tree = OrderedDict[frozenset, list[Any]]
"""Packed tensors by the plates around them."""


class Factors:
    """Log densities of an enumerated run as packed tensors, by their plates.

    Args:
        trace: Of a model some of whose sites take all their values at once.
        particle_dim: Dimension of the particle plate, None without one.
        per_datum: Whether every site of the pair lies in the data plate.

    Attributes:
        packed: By site, neither masked nor scaled.
        summed_sites: Names of the sites that take all their values.
        dependent: Names of the others whose density depends on those.
    """

    def __init__(self, trace: Trace, particle_dim: int | None, per_datum: bool) -> None:
        self._trace = trace
        self._layout = (particle_dim, per_datum)
        nodes: dict[str, Any] = dict(trace.nodes)
        self._sites = {
            name: site
            for name, site in nodes.items()
            if site["type"] == "sample" and not site_is_subsample(site)
        }
        trace.symbolize_dims()
        self._plates = set(trace.plate_to_symbol.values())
        self.packed = {
            name: packed.pack(sites.raw_log_density(site), site["infer"]["_dim_to_symbol"])
            for name, site in self._sites.items()
        }
        self.summed_sites = [
            name
            for name, site in self._sites.items()
            if site["infer"].get("_enumerate_dim") is not None and not site["is_observed"]
        ]
        self._masked = {name: self._with_mask(name) for name in self._sites}
        self.dependent = {
            name
            for name, factor in self._masked.items()
            if set(factor._pyro_dims) - self._plates and name not in self.summed_sites
        }

    def plates_of(self, name: str) -> dict[int, str]:
        """Symbols of the plates around a site, by their dimensions."""
        dims = self._sites[name]["infer"]["_dim_to_symbol"].items()
        return {dim: symbol for dim, symbol in dims if symbol in self._plates}

    def _with_mask(self, name: str) -> Any:
        """Density of a site where its mask lets it count; a summed site sums to 1 all the same."""
        site = self._sites[name]
        if name in self.summed_sites or site["mask"] is None:
            return self.packed[name]
        mask = packed.pack(site["mask"], site["infer"]["_dim_to_symbol"])
        return packed.scale_and_mask(self.packed[name], mask=mask)

    @property
    def listed(self) -> str:
        """Names of the summed sites, for a sentence."""
        return ", ".join(map(repr, self.summed_sites))

    def summed(self, names: list[str]) -> Tensor:
        """Log of the sum over all values of the summed sites of the product of some densities.

        Args:
            names: Of the sites beside the summed ones.

        Returns:
            Shape ``(K, N)``; ``(K, 1)`` where the data set is one datum.
        """
        chosen = [*names, *self.summed_sites]
        scale = self._common_scale(chosen)
        with self._crossing_plates():
            contracted = contract_tensor_tree(*self._tree(chosen))
        dim, per_datum = self._layout
        kept = [dim, self._data_dim() if per_datum else None]
        terms = [
            sites.keep_dims(packed.unpack(term, self._trace.symbol_to_dim), kept)
            for parts in contracted.values()
            for term in parts
        ]
        return scale * torch.stack(torch.broadcast_tensors(*terms)).sum(0)

    def conditional(self, name: str) -> Any:
        """Log of an unnormalised law of one summed site, later ones summed out.

        Args:
            name: Of the site.

        Returns:
            Packed, with the site's own dimension last.
        """
        tree, sums = self._tree(list(self._masked))
        own = self._sites[name]["infer"]["_enumerate_symbol"]
        plates = frozenset(self.plates_of(name).values())
        with self._crossing_plates():
            law = contract_to_tensor(tree, sums, plates, {own})
        others = law._pyro_dims.replace(own, "")
        law = law.permute([law._pyro_dims.index(dim) for dim in others + own])
        law._pyro_dims = others + own
        return law

    def fix(self, name: str, position: Any) -> None:
        """Fix a summed site at positions in its support.

        Args:
            name: Of the site.
            position: Packed, in the plates around it.
        """
        own = self._sites[name]["infer"]["_enumerate_symbol"]
        for other, factor in self._masked.items():
            if own in factor._pyro_dims:
                self._masked[other] = packed.gather(factor, position, own)

    def _tree(self, names: list[str]) -> tuple[Tree, set[str]]:
        """Densities by their plates, and the dimensions to sum over."""
        tree: Tree = OrderedDict()
        for name in names:
            plates = frozenset(self.plates_of(name).values())
            tree.setdefault(plates, []).append(self._masked[name])
        dims = {dim for terms in tree.values() for term in terms for dim in term._pyro_dims}
        return tree, dims - self._plates

    @contextmanager
    def _crossing_plates(self) -> Iterator[None]:
        try:
            yield
        except NotImplementedError as error:
            raise SiteError(
                f"The discrete sites {self.listed} cannot be summed out: sites in "
                f"plates that cross depend on them ({str(error).splitlines()[0]}). Make one of "
                "the plates a loop, or let the guide sample them."
            ) from error

    def _data_dim(self) -> int | None:
        return next(
            (dim for name in self.summed_sites if (dim := sites.data_dim(self._sites[name]))), None
        )

    def _common_scale(self, names: list[str]) -> float:
        scales = {name: sites.scale_of(self._sites[name], self._layout[1]) for name in names}
        values = {name: float(scale) for name, scale in scales.items() if _is_number(scale)}
        if len(values) < len(scales) or len(set(values.values())) > 1:
            raise SiteError(
                f"The discrete sites {self.listed} cannot be summed out, because "
                f"the sites that depend on them are scaled unequally ({values or scales}). Give "
                "all one scale, or let the guide sample them."
            )
        return next(iter(values.values()))


def _is_number(scale: Any) -> bool:
    return not isinstance(scale, Tensor) or scale.dim() == 0
