"""A study of belief networks that nobody trained, for figures and pages."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import torch

from pyrolvm.inference.helmholtz import HelmholtzStudy

NLL = {"coupled": 14.2, "rws": 14.3, "ws": 15.1, "vimco": 14.6}
BC2 = {"coupled": 0.82, "rws": 0.55, "ws": 0.31, "vimco": 0.6}


def _row(data, objective, num_layers, seed):
    shift = 0.01 * seed + (5.0 if data == "digits" else 0.0)
    nll, bc2 = NLL[objective] + shift + 0.1 * (num_layers - 3) ** 2, BC2[objective]
    measured = {
        "nll": nll, "coupled_nll": nll + 0.25, "log_z": 0.2, "pstar_nll": nll + 0.05,
        "negative_elbo": nll + 0.6, "bc2": bc2, "root_ess": bc2 + 0.001, "ess": bc2**3,
    }  # fmt: skip
    errors = {f"{name}_se": 0.02 for name in measured}
    return {
        "data": data, "objective": objective, "layers": "-".join(["8"] * num_layers),
        "num_layers": num_layers, "seed": seed, "in_table": num_layers == 3,
        "in_sweep": objective in ("coupled", "rws"), **measured, **errors, "method": "estimated",
        "z_method": "sampled", "particles": 1000, "num_test": 40, "rounding": 1e-5,
        "learning_rate": 0.01, "steps": 4000, "stopped_early": seed == 1, "seconds": 61.4,
        "key": f"{data}-{objective}-{num_layers}-{seed}",
    }  # fmt: skip


def helmholtz_frame(data=("adult", "digits"), seeds=(0, 1), depths=(1, 3, 5)):
    """Two data sets, four objectives; coupled overlaps most, and three layers are best."""
    return pd.DataFrame(
        [
            _row(name, key, depth, seed)
            for name in data
            for depth in depths
            for key in NLL
            for seed in seeds
            if depth == 3 or key in ("coupled", "rws")
        ]
    )


def helmholtz_differences(data=("adult", "digits"), nll=-0.1, bc2=0.27):
    """What coupled differs from reweighted wake-sleep by."""
    rows = [
        {"data": name, "objective": "coupled", "num_seeds": 2, "nll": nll, "nll_se": 0.03,
         "bc2": bc2, "bc2_se": 0.01}
        for name in data
    ]  # fmt: skip
    return pd.DataFrame(rows)


def synthetic_study(folder, source="nowhere", data=("adult", "digits"), **changed):
    """A study of this frame, with pictures of the digits."""
    frame = helmholtz_frame(data)
    curves = pd.DataFrame(
        [
            {"key": key, "step": step, "nll": 14 + 30 / (1 + step / 100), "coupled_nll": 15.0,
             "bc2": 0.5}
            for key in frame["key"]
            for step in range(0, 4001, 400)
        ]
    )  # fmt: skip
    generator = torch.Generator().manual_seed(0)

    def images(*shape):
        return (torch.rand(*shape, 64, generator=generator) < 0.4).float()

    mask = torch.zeros(6, 64)
    mask[:, :32] = 1
    pictures = {"p": images(24), "pstar": images(24), "x": images(6), "mask": mask,
                "completed": images(3, 6)}  # fmt: skip
    facts = {
        name: {"num_train": 500, "num_valid": 50, "num_test": 40, "dim": 64, "source": source,
               "image_shape": (8, 8) if name == "digits" else None}
        for name in data
    }  # fmt: skip
    given = {
        "frame": frame,
        "differences": helmholtz_differences(data),
        "curves": curves,
        "pictures": {"digits": pictures} if "digits" in data else {},
        "facts": facts,
        "folder": Path(folder),
    }
    return HelmholtzStudy(**given | changed)
