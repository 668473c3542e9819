"""Machine code for a graph: compiled by inductor ahead of time, and kept on disk.

A program that was compiled once is loaded in a later process without importing the compiler. The
folder is ``compiled`` in PyroLVM's cache, or the one that ``PYROLVM_COMPILE_CACHE`` names.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from torch import Tensor
from torch.fx import GraphModule

from pyrolvm.core.randomness import own_randomness
from pyrolvm.objectives.compiled.graph import constants

Program = Callable[[list[Tensor]], Sequence[Tensor]]
FORMAT = 1
"""Raised when programs of earlier versions are not to be loaded any more."""
OPTIONS: dict[str, Any] = {"fallback_random": True}
"""Of inductor: random numbers are torch's own, the same ones as without compiling."""


def cache_folder() -> Path:
    """Where compiled programs are kept."""
    import pooch

    chosen = os.environ.get("PYROLVM_COMPILE_CACHE")
    return Path(chosen) if chosen else Path(pooch.os_cache("pyrolvm")) / "compiled"


def has_compiler() -> bool:
    """Whether there is a C++ compiler for programs on the CPU."""
    return any(shutil.which(name) for name in (os.environ.get("CXX") or "g++", "clang++", "g++"))


def is_cached(graph: GraphModule, inputs: Sequence[Tensor]) -> bool:
    """Whether a program has been compiled before."""
    return _path(graph, inputs).exists()


def compiled(
    graph: GraphModule, inputs: Sequence[Tensor], whole: Callable[[], GraphModule] | None = None
) -> Program:
    """Return machine code for a graph, from disk if it was compiled before.

    Args:
        graph: Takes tensors in a row, and may change them in place.
        inputs: Tensors of the shapes that it takes; they are not changed.
        whole: Makes the graph that is compiled, where it is a longer one that ``graph`` and the
            shapes of the inputs tell from all others; None for ``graph`` itself.

    Returns:
        Takes a list of tensors and gives a list.

    Raises:
        RuntimeError: If the compiler fails, or what it made cannot be loaded.
    """
    path = _path(graph, inputs)
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        if path.exists():
            with suppress(RuntimeError, OSError):
                return _load(path, inputs)
            path.unlink()  # what was written is damaged
        _compile(graph if whole is None else whole(), inputs, path)
        return _load(path, inputs)


def as_cuda_graph(graph: GraphModule, inputs: Sequence[Tensor]) -> Program:
    """Return a graph on a GPU as one launch: inductor's kernels in a CUDA graph.

    Args:
        graph: Takes tensors in a row, and changes none of them.
        inputs: Tensors of the shapes that it takes.
    """
    options = {**OPTIONS, "triton.cudagraphs": True}
    program = torch.compile(graph, fullgraph=True, dynamic=False, options=options)
    with own_randomness(), torch.no_grad():
        program(*inputs)
    return lambda tensors: program(*tensors)


def _path(graph: GraphModule, inputs: Sequence[Tensor]) -> Path:
    digest = hashlib.sha256()
    kinds = [(tuple(t.shape), t.stride(), str(t.dtype), t.device.type) for t in inputs]
    about = (
        FORMAT, torch.__version__, torch.backends.cpu.get_cpu_capability(),
        torch.get_num_threads(), sorted(OPTIONS.items()), kinds, graph.code,
    )  # fmt: skip
    digest.update(repr(about).encode())
    for name, value in constants(graph).items():
        digest.update(repr((name, value.shape, value.dtype)).encode())
        digest.update(
            value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        )
    return cache_folder() / f"{digest.hexdigest()[:32]}.pt2"


def _compile(graph: GraphModule, inputs: Sequence[Tensor], path: Path) -> None:
    with _inductor_cache(path.parent), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torch._inductor

        exported = torch.export.export(graph, tuple(inputs), strict=False)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            made = torch._inductor.aoti_compile_and_package(
                exported, package_path=f"{folder}/program.pt2", inductor_configs=dict(OPTIONS)
            )
            os.replace(made, path)


def _load(path: Path, inputs: Sequence[Tensor]) -> Program:
    index = inputs[0].device.index if inputs[0].device.type == "cuda" else None
    loader = torch._C._aoti.AOTIModelPackageLoader(
        str(path), "model", True, 1, -1 if index is None else index
    )
    return loader.boxed_run


@contextmanager
def _inductor_cache(folder: Path) -> Iterator[None]:
    """Let inductor keep its own files beside ours, unless the user has chosen a place."""
    name = "TORCHINDUCTOR_CACHE_DIR"
    if name in os.environ:
        yield
        return
    os.environ[name] = str(folder / "inductor")
    try:
        yield
    finally:
        del os.environ[name]
