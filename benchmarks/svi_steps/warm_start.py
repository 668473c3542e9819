"""How long a program takes to start whose machine code is on disk: in a process of its own.

``python -m benchmarks.svi_steps.warm_start tiny-vae compiled`` prints one line of JSON: seconds
from the construction of the way to the end of its third step, imports apart. Called twice, the
first call compiles what is not there yet.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time

import torch

from benchmarks.svi_steps.cases import CASES
from benchmarks.svi_steps.ways import ByHandCompiled, Compiled, Unrolled

WAYS = {"by hand": ByHandCompiled, "compiled": Compiled, "unrolled": Unrolled}


def seconds_to_start(case: str, way: str) -> dict[str, float]:
    """CPU and wall seconds until the third step is taken, in this process."""
    torch.set_num_threads(1)
    wall, cpu = time.perf_counter(), time.process_time()
    made = WAYS[way](CASES[case])
    for _ in range(3):
        made.take(made.at_once)
    return {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}


def in_new_process(case: str, way: str) -> dict[str, float]:
    """The same in a process of its own, which finds on disk what was compiled before."""
    command = [sys.executable, "-m", "benchmarks.svi_steps.warm_start", case, way]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Print the seconds."""
    print(json.dumps(seconds_to_start(*sys.argv[1:3])))


if __name__ == "__main__":
    main()
