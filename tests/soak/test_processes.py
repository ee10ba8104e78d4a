"""Several processes, the long tests: every task, every way to die, two hosts, divided weights. `make test-soak`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import halves
import numpy as np
import pytest
import torch
from conftest import Command
from safetensors.torch import load_file
from several import PLAIN, lines, misbehaving

from decathlon.data.synthetic import shapes
from decathlon.tasks.base import task_ids
from decathlon.training import checkpoint, distributed

# Whose loss is no mean over examples: the detectors draw regions and divide by their number, the autoencoder looks at
# how codes vary over the batch.
NO_MEAN = {"mnist-autoencoder", "voc-faster-rcnn", "voc-retinanet"}
PRETRAIN = ("train", "roberta-mlm", "--data", "sample", "--epochs", "2")


@pytest.mark.parametrize("task_id", task_ids())
def test_every_task_trains_with_two_processes(task_id: str, decathlon: Command) -> None:
    done = decathlon("train", task_id, "--data", "sample", "--epochs", "1", "--devices", "2", "--out", "run", "--json")
    assert done.status == 0, done.err
    assert "could not be drawn" not in done.err
    summary = json.loads(done.out)
    assert summary["devices"] == 2
    alone = json.loads(decathlon("evaluate", "run", "--json").out)
    for name, value in alone["metrics"].items():  # threads differ, and with them the order of float32 sums
        assert summary["metrics"][name] == pytest.approx(value, rel=1e-4, abs=1e-6), name


@pytest.mark.parametrize("task_id", [name for name in task_ids() if name not in NO_MEAN])
def test_the_mean_of_two_halves_is_the_gradient_of_the_whole(task_id: str) -> None:
    result = distributed.spawn_workers(2, halves.gradients, task_id)
    print(task_id, result)
    assert result["difference"] < 1e-4
    assert result["halves"] == pytest.approx(result["whole"], rel=1e-5)


@pytest.mark.parametrize(
    ("task_id", "plain"),
    [("imdb-textcnn", ("--dropout", "0", "--word-dropout", "0")), ("imdb-roberta", ("--dropout", "0"))],
)
def test_two_processes_learn_as_one(task_id: str, plain: tuple[str, ...], decathlon: Command) -> None:
    """By Adam, which divides by the gradients' size: where that is near nothing, rounding tells."""
    command = ("train", task_id, "--data", "sample", "--epochs", "2", *plain)
    assert decathlon(*command, "--out", "one").status == 0
    assert decathlon(*command, "--out", "two", "--devices", "2").status == 0
    for first, second in zip(lines("one"), lines("two"), strict=True):
        print(task_id, first["train"], second["train"])
        assert second["train"]["loss"] == pytest.approx(first["train"]["loss"], rel=1e-4)


def test_seven_processes_count_each_of_a_hundred_images_once(tmp_path: Path) -> None:
    for side, count in (("train", 12), ("test", 10)):
        for number, name in enumerate(shapes.SHAPES):
            (tmp_path / "mine" / side / name).mkdir(parents=True)
            for index in range(count):
                image = shapes.draw_image(name, np.random.default_rng([number, index, count]))
                image.save(tmp_path / "mine" / side / name / f"{index}.png")
    single, seven = (distributed.spawn_workers(many, halves.examples_seen, str(tmp_path / "mine")) for many in (1, 7))
    assert single["split"] == seven["split"] == 100
    assert single["seen"] == seven["seen"] == 2 * 100
    assert seven["metrics"]["accuracy"] == single["metrics"]["accuracy"]
    assert seven["metrics"]["loss"] == pytest.approx(single["metrics"]["loss"], rel=1e-5)


# --- Death ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "rank", "limit", "says"),
    [
        ("kill", 0, 60, "process 0 of 2 was killed (SIGKILL)"),
        ("kill", 1, 60, "process 1 of 2 was killed (SIGKILL)"),
        ("exit", 0, 60, "process 0 of 2 exited with status 7"),
        ("exit", 1, 60, "process 1 of 2 exited with status 7"),
        ("raise", 0, 60, "process 0 of 2 failed: ValueError: spoiled on purpose"),
        ("raise", 1, 60, "process 1 of 2 failed: ValueError: spoiled on purpose"),
        ("stop", 1, 120, "lost the connection to another process"),  # after COLLECTIVE_TIMEOUT, here 20 s
        ("alone", 1, 300, "process 1 of 2 was killed (SIGKILL)"),  # while the first one measures: 30 s to end it
    ],
)
def test_a_process_that_dies_ends_the_run(how: str, rank: int, limit: float, says: str) -> None:
    outcome = misbehaving(how, rank, limit)
    assert outcome.returncode == 1
    assert says in outcome.stderr.strip().splitlines()[-1], outcome.stderr
    assert outcome.stderr.count("decathlon: ") == 1
    assert "Traceback" not in outcome.stderr
    assert not Path("run/summary.json").exists()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_the_supervisor_takes_its_workers_with_it(number: int, decathlon: Command) -> None:
    """Killed, or asked to stop, it leaves no process behind, and a checkpoint of the step that was reached."""
    train = ("train", "mnist-mlp", "--data", "sample", "--epochs", "500", "--devices", "2", "--out", "run")
    with subprocess.Popen([sys.executable, "-m", "decathlon", *train], stderr=subprocess.PIPE, text=True) as running:
        while not list(Path("run").glob("checkpoint/step-*.json")):
            assert running.poll() is None
            time.sleep(0.05)
        children = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
        workers = [pid for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        assert len(workers) == 2
        start = time.monotonic()
        running.send_signal(number)
        _, err = running.communicate(timeout=120)
    while any(alive(pid) for pid in workers):
        assert time.monotonic() - start < 120
        time.sleep(0.05)
    print(f"signal {number}: all gone after {time.monotonic() - start:.1f} s")
    if number != signal.SIGKILL:
        assert "interrupted at step" in err.strip().splitlines()[-1]
        assert err.count("decathlon: ") == 1
    assert checkpoint.load(Path("run"), "mnist-mlp") is not None


def alive(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# --- Sharded weights --------------------------------------------------------------------------------------------------


def test_fsdp_learns_like_ddp(decathlon: Command) -> None:
    """FSDP and DDP do the same sums; clipping, AdamW, checkpoints and the encoder that is written are the same."""
    for name, flags in (("ddp", ()), ("fsdp", ("--strategy", "fsdp"))):
        done = decathlon(*PRETRAIN, "--devices", "2", "--out", name, *flags)
        assert done.status == 0, done.err
    for ddp, fsdp in zip(lines("ddp"), lines("fsdp"), strict=True):
        print(ddp, fsdp)
        assert fsdp["train"]["loss"] == pytest.approx(ddp["train"]["loss"], rel=1e-6)
        assert fsdp["validation"] == pytest.approx(ddp["validation"], rel=1e-5)
    weights = [load_file(Path(name, "model.safetensors")) for name in ("ddp", "fsdp")]
    assert weights[0].keys() == weights[1].keys()
    # A key's bias changes no attention: its gradient is rounding alone, which Adam makes full steps of.
    for name in sorted(name for name in weights[0] if not name.endswith("key.bias")):
        torch.testing.assert_close(weights[1][name], weights[0][name], rtol=1e-3, atol=1e-4, msg=name)
    assert Path("fsdp/encoder/model.safetensors").exists()


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_processes_resume(strategy: str, decathlon: Command) -> None:
    """Interrupted after an epoch, a run goes on to the weights of one that nobody interrupted, bit for bit."""
    command = (*PRETRAIN, "--devices", "2", "--strategy", strategy, "--out")
    assert decathlon(*command, "whole").status == 0
    train = [sys.executable, "-m", "decathlon", *command, "parts"]
    with subprocess.Popen(train, stderr=subprocess.PIPE, text=True) as running:
        while not list(Path("parts").glob("checkpoint/step-*.json")):
            assert running.poll() is None
            time.sleep(0.01)
        running.send_signal(signal.SIGTERM)
        _, err = running.communicate(timeout=120)
    assert "interrupted at step" in err, err
    done = decathlon("train", "roberta-mlm", "--resume", "parts")
    assert done.status == 0, done.err
    first, second = (load_file(Path(run, "model.safetensors")) for run in ("whole", "parts"))
    assert [name for name in first if not torch.equal(first[name], second[name])] == []
    assert Path("whole/metrics.jsonl").read_text() == Path("parts/metrics.jsonl").read_text()


# --- Two hosts --------------------------------------------------------------------------------------------------------


@pytest.fixture
def hosts() -> Iterator[list[tuple[list[str], str, str]]]:
    """How to run a command on each of two hosts, its interface, and the first one's address.

    Two network namespaces joined by a cable; where these are not permitted, one machine on which both meet at a port.
    """
    names = [f"decathlon-{os.getpid()}-{number}" for number in range(2)]
    ends = [f"dec{os.getpid() % 100_000}{end}" for end in "ab"]
    ready = all(ip("netns", "add", name) for name in names) and ip(
        *("link", "add", ends[0], "netns", names[0], "type", "veth", "peer", "name", ends[1], "netns", names[1])
    )
    for number, (name, end) in enumerate(zip(names, ends, strict=True)):
        ready = ready and ip("-n", name, "addr", "add", f"10.77.0.{number + 1}/24", "dev", end)
        ready = ready and ip("-n", name, "link", "set", end, "up") and ip("-n", name, "link", "set", "lo", "up")
    print("two network namespaces" if ready else "no network namespaces here: both hosts are this machine")
    if ready:
        yield [(["ip", "netns", "exec", name], end, "10.77.0.1") for name, end in zip(names, ends, strict=True)]
    else:
        yield [([], "lo", "127.0.0.1")] * 2
    for name in names:
        ip("netns", "delete", name)


def ip(*words: str) -> bool:
    try:
        return subprocess.run(["ip", *words], check=False, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


def on(hosts: list[tuple[list[str], str, str]], processes_each: int, port: int, *words: str) -> list[subprocess.Popen]:
    """Start torchrun on both hosts, each in a folder of its own: they share no run folder."""
    started = []
    for number, (prefix, interface, address) in enumerate(hosts):
        Path(f"host{number}").mkdir(exist_ok=True)
        torchrun = [
            *(*prefix, sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--node-rank", str(number)),
            *("--nproc-per-node", str(processes_each), "--master-addr", address, "--master-port", str(port)),
        ]
        environment = os.environ | {"GLOO_SOCKET_IFNAME": interface, "OMP_NUM_THREADS": "1"}
        started.append(
            subprocess.Popen(
                [*torchrun, "-m", "decathlon", *words],
                cwd=f"host{number}",
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    return started


def test_two_hosts(hosts: list[tuple[list[str], str, str]], decathlon: Command) -> None:
    """Two hosts give the weights that two processes on one host give; the first host writes the run, alone."""
    assert decathlon(*PLAIN, "--devices", "2", "--out", "here").status == 0
    started = on(hosts, 1, 29511, *PLAIN, "--out", "run", "--json")
    answers = [process.communicate(timeout=300) for process in started]
    assert [process.returncode for process in started] == [0, 0], answers
    assert json.loads(answers[0][0])["devices"] == 2
    assert answers[1][0] == ""
    assert not list(Path("host1").iterdir())
    assert lines("host0/run") == lines("here")
    first, second = (load_file(Path(run, "model.safetensors")) for run in ("here", "host0/run"))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_host_that_dies_ends_the_other(hosts: list[tuple[list[str], str, str]]) -> None:
    train = ("train", "mnist-mlp", "--data", "sample", "--epochs", "500", "--out", "run")
    started = on(hosts, 1, 29512, *train)
    while not list(Path("host0/run").glob("checkpoint/step-*.json")):
        assert all(process.poll() is None for process in started)
        time.sleep(0.05)
    children = Path(f"/proc/{started[1].pid}/task/{started[1].pid}/children").read_text().split()
    start = time.monotonic()
    started[1].kill()
    for pid in children:
        os.kill(int(pid), signal.SIGKILL)
    err = started[0].communicate(timeout=120)[1]
    print(f"a host that dies: the other ended after {time.monotonic() - start:.1f} s")
    assert started[0].returncode != 0
    assert "decathlon: lost the connection to another process" in err
    started[1].communicate()
