"""Seeds × learning rates of one task, as many at a time as the machines have cores: Ray hands them out.

    python examples/sweep_ray.py mnist-mlp --data sample --seeds 0 1 2 --rates 0.003 0.03 --out sweep -- --epochs 5

What follows `--` goes to `decathlon train` as it is. Every run has its folder below OUT; OUT/results holds the
summaries, of which the ordinary scoreboard makes its rows: `decathlon scoreboard --results OUT/results`. Called again,
it leaves alone what is finished, and resumes what was begun.

On one machine Ray is started here, on 127.0.0.1. On a cluster (`ray start` on every host) say `--address auto`, and let
OUT and the data folder be on a disk that all hosts see. Needs the extra: pip install -c constraints.txt -e '.[sweep]'.
"""

from __future__ import annotations

import argparse
import itertools
import os
import shutil
import subprocess
import sys
from pathlib import Path

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # said before Ray is imported: it would report to its makers
import ray


def main(argv: list[str]) -> int:
    """Run the sweep. Returns 0 when every run is finished."""
    ours, _, theirs = " ".join(argv).partition(" -- ")
    options = parser().parse_args(ours.split())
    out = Path(options.out).resolve()
    results = out / "results" / options.task
    results.mkdir(parents=True, exist_ok=True)
    if options.address:
        ray.init(address=options.address, log_to_driver=False)
    else:
        ray.init(
            num_cpus=options.cpus,
            include_dashboard=False,
            log_to_driver=False,
            _node_ip_address="127.0.0.1",
        )
    trial = ray.remote(num_cpus=1, max_retries=2)(train)  # again, if its host dies
    waiting = {}
    for seed, rate in itertools.product(options.seeds, options.rates):
        folder = out / "runs" / f"{options.task}-lr{rate:g}-seed{seed}"
        flags = ["--data", options.data, "--seed", str(seed), "--optimizer.lr", str(rate), *theirs.split()]
        waiting[trial.remote(options.task, str(folder), flags)] = folder
    failed = 0
    while waiting:
        (done,), _ = ray.wait(list(waiting))
        folder = waiting.pop(done)
        if error := ray.get(done):
            failed += 1
        else:
            shutil.copyfile(folder / "summary.json", results / f"{folder.name}.json")
        print(f"{folder.name}: {error or 'done'}", flush=True)
    ray.shutdown()
    if not failed:
        subprocess.run([sys.executable, "-m", "decathlon", "scoreboard", "--results", str(out / "results")], check=True)
    return 1 if failed else 0


def train(task: str, folder: str, flags: list[str]) -> str:
    """One run, in a process of its own, on one core. Returns its error, or nothing."""
    if Path(folder, "summary.json").exists():
        return ""
    begun = Path(folder, "config.json").exists()
    command = ["--resume", folder] if begun else ["--out", folder, *flags]
    done = subprocess.run(
        [sys.executable, "-m", "decathlon", "train", task, *command],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stderr.strip().splitlines()[-1] if done.returncode else ""


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    made.add_argument("task")
    made.add_argument("--data", default="official")
    made.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    made.add_argument("--rates", type=float, nargs="+", required=True)
    made.add_argument("--out", required=True)
    made.add_argument("--address", help="of a running Ray cluster; default: start Ray here")
    made.add_argument("--cpus", type=int, default=os.cpu_count(), help="runs at a time, where Ray is started here")
    return made


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
