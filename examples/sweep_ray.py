"""Train one task with several seeds and learning rates by Ray, one run per core at a time.

    python examples/sweep_ray.py mnist-mlp --data sample --seeds 0 1 2 --rates 0.003 0.03 --out sweep -- --epochs 5

Arguments after `--` go to `decathlon train`. Every run has its own folder below OUT; OUT/results holds the summaries
for `decathlon scoreboard --results OUT/results`. A second call skips finished runs and resumes interrupted ones.

On one machine the script starts Ray on 127.0.0.1. On a cluster (`ray start` on every host) use `--address auto`, with
OUT and the data folder on a shared disk. Needs the extra: pip install -c constraints.txt -e '.[sweep]'.
"""

from __future__ import annotations

import argparse
import itertools
import os
import shutil
import subprocess
import sys
from pathlib import Path

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # must be set before Ray is imported: no usage reports
import ray


def main(argv: list[str]) -> int:
    """Run the sweep. Returns 0 when every run is finished."""
    own_args, _, train_args = " ".join(argv).partition(" -- ")
    options = make_parser().parse_args(own_args.split())
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
    pending = {}
    for seed, rate in itertools.product(options.seeds, options.rates):
        folder = out / "runs" / f"{options.task}-lr{rate:g}-seed{seed}"
        flags = ["--data", options.data, "--seed", str(seed), "--optimizer.lr", str(rate), *train_args.split()]
        pending[trial.remote(options.task, str(folder), flags)] = folder
    failed = 0
    while pending:
        (done,), _ = ray.wait(list(pending))
        folder = pending.pop(done)
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
    """Train once, in a process of its own, on one core. Returns the error message, or an empty string."""
    if Path(folder, "summary.json").exists():
        return ""
    started = Path(folder, "config.json").exists()
    command = ["--resume", folder] if started else ["--out", folder, *flags]
    done = subprocess.run(
        [sys.executable, "-m", "decathlon", "train", task, *command],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stderr.strip().splitlines()[-1] if done.returncode else ""


def make_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("task")
    parser.add_argument("--data", default="official")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rates", type=float, nargs="+", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--address", help="address of a running Ray cluster; default: start Ray here")
    parser.add_argument("--cpus", type=int, default=os.cpu_count(), help="simultaneous runs, if Ray is started here")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
