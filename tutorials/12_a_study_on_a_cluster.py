# %% [markdown]
# # How do I run a study on a cluster?
#
# One comparison answers a question for one generator and one seed. A *study* asks it on a grid:
# it is a text file, each combination of its values is a *cell*, and each finished cell is a
# folder. That makes the rest easy. Cells run in one process, in many, or on many machines, a
# study that was killed goes on where it stood, and the table is the same whoever computed it.

# %%
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from distributed import Client

import pyrolvm as lvm

smoke = bool(os.environ.get("PYROLVM_SMOKE"))
num_processes = 1 if smoke else 2
place = tempfile.TemporaryDirectory()
folder = Path(place.name)

# %% [markdown]
# ## A study is a file
#
# A list is an axis, and a block `[[grid]]` stands for all combinations of its axes. A value that
# is a list itself, such as the hidden layers of an encoder, stands in double brackets. `[common]`
# holds for all blocks, and a size changes some keys for a quick look. `pyrolvm study` without a
# name prints all keys with their defaults.

# %%
text = """
name = "margin"
description = "Does an encoder need more units where its generator is harder to invert?"

[common]
data = "simulated:1000"
steps = 1000
learning_rate = 1e-2
test_size = 100
oracle_steps = 100
seed = [0, 1]

[[grid]]
model = {name = "residual-generator", latent_dim = 2, contraction = [0.5, 0.9], noise_scale = 0.2}
guide = {name = "amortized", family = "full", hidden = [[4], [32]]}

[sizes.smoke]
steps = 20
oracle_steps = 10
test_size = 10
seed = 0
"""
file = folder / "margin.toml"
file.write_text(text, encoding="utf-8")
size = "smoke" if smoke else "default"
study = lvm.Study.from_toml(file, size)
print(f"{len(study.cells)} cells; the first is {study.cells[0].label}")

# %% [markdown]
# ## Mistakes cost nothing
#
# Every cell is checked before the first one runs: its keys, names and options, whether its guide
# serves its model, whether its data are there. A misspelt key is refused with the line that it
# stands on, not after a night of computing.

# %%
wrong = folder / "misspelt.toml"
wrong.write_text(text.replace("learning_rate", "learnig_rate"), encoding="utf-8")
try:
    lvm.Study.from_toml(wrong, size)
except lvm.PyroLVMError as error:
    print(error)

# %% [markdown]
# ## On this machine
#
# `n_jobs` processes of one thread each work on the cells. The result is one table with a row for
# each cell: what was asked comes first, what was found after it. In a shell the same is
# `pyrolvm study margin.toml --jobs 2`, which writes a page with tables and figures besides.

# %%
start = time.perf_counter()
here = study.run(out=folder / "here", n_jobs=num_processes, progress=False)
print(f"{here.frame.shape[0]} cells in {time.perf_counter() - start:.1f} s")
columns = ["model.contraction", "guide.hidden", "seed", "gap", "amortization_gap", "checks_failed"]
print(here.frame[columns].round(3).to_string(index=False))

# %% [markdown]
# In the full size, either encoder misses about two to four times as many nats with a contraction
# of 0.9 as with 0.5, for both seeds; more units bring both down.
#
# The folder of a cell is named by a hash of its configuration. It holds that configuration, with
# every default written out; what was found, in nats a datum, and whether it can be trusted (each
# check has a value and a limit); and how it came about: versions, machine, seconds.

# %%
cell = here.folder / "cells" / here.frame["cell"][0]
config, result, provenance = (
    json.loads((cell / name).read_text(encoding="utf-8"))
    for name in ("config.json", "result.json", "provenance.json")
)
print("config:    ", ", ".join(config))
print("result:    ", ", ".join(list(result["results"])[:6]), "…")
for check in result["checks"]:
    verdict = "passed" if check["passed"] else "failed"
    print(f"check:      {verdict}, {check['check']}: {check['value']:.3g} ≤ {check['limit']:.3g}")
print("provenance:", ", ".join(provenance))

# %% [markdown]
# ## Killed, and gone on
#
# A cell's folder is written beside its place and then renamed, so that a folder that is there is
# complete. A study that is killed at any moment, by Ctrl-C, a time limit or a loss of power, has
# some cells whole and others not at all. Give the same command again: it runs those that are
# missing. Here we take one cell away; then nothing is missing.

# %%
shutil.rmtree(cell)
for missing in ("one cell", "nothing"):
    start = time.perf_counter()
    again = study.run(out=folder / "here", progress=False)
    same = again.frame.equals(here.frame)
    print(f"{missing:8} missing: {time.perf_counter() - start:5.2f} s, the same table: {same}")

# %% [markdown]
# ## On a cluster
#
# A Dask cluster is one scheduler, which hands out work, and any number of workers, which do it.
# Each is a command: `dask scheduler` and `dask worker`. Here all of them run on this machine, and
# talk to each other as they would from machine to machine.


# %%
@contextlib.contextmanager
def cluster(num_workers: int) -> Iterator[str]:
    """Start a scheduler and workers, hand out the scheduler's address, and stop them."""
    record = str(folder / "scheduler.json")
    options = ["--scheduler-file", record, "--host", "127.0.0.1", "--no-dashboard"]
    worker = ["worker", "--nthreads", "1", "--no-nanny", "--local-directory", str(folder)]
    commands = [["scheduler", "--port", "0"]] + num_workers * [worker]
    with contextlib.ExitStack() as stack:
        log = stack.enter_context((folder / "dask.log").open("wb"))
        for command in commands:
            process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-m", "dask", *command, *options], stdout=log, stderr=log
                )
            )
            stack.callback(process.kill)
        with Client(scheduler_file=record, timeout=60) as client:
            client.wait_for_workers(num_workers, timeout=60)
            address = client.scheduler.address
        yield address


# %%
with cluster(num_processes) as scheduler:
    start = time.perf_counter()
    there = study.run(out=folder / "there", backend="dask", scheduler=scheduler, progress=False)
    print(f"{len(there.frame)} cells in {time.perf_counter() - start:.1f} s at {scheduler}")
print(f"the same table as without a cluster: {there.frame.equals(here.frame)}")
place.cleanup()

# %% [markdown]
# The tables are equal to the last digit on machines of one kind: all that a cell draws follows
# from its configuration, not from who runs it or when. The seconds include that each worker loads
# PyroLVM once.
#
# ## On a real cluster
#
# Every machine needs the same PyroLVM, and sees the folder of the study under the same path. Then
# four commands:
#
# ```bash
# pip install "pyrolvm[cluster]"
# dask scheduler                                                   # prints its address
# dask worker tcp://host:8786 --nthreads 1 --nworkers 16           # on each machine
# pyrolvm study margin.toml --backend dask --scheduler tcp://host:8786 --out /shared/margin
# ```
#
# One thread a worker, as many workers as cores, and `OMP_NUM_THREADS=1` for each. Workers may join
# while a study runs. Under SLURM the package `dask-jobqueue` starts them as jobs: take
# `SLURMCluster(cores=16, processes=16, memory="32GB")`, call `scale(jobs=4)`, and hand its
# `scheduler_address` to the study. For Ray, `pip install "ray[default]"`, `ray start --head`, and
# `backend="ray"` without an address.
#
# **To take home.** Write the grid down, try it in a small size on your own machine, then give the
# same file to a cluster. Whatever stops it, the same command goes on, and the folder tells a
# reader what was asked, what was found and with which versions.
