"""Training with several processes: starting them, connecting them, and ending them together.

`--devices N` starts N workers on this host, and the calling process supervises them. `torchrun` starts the workers
itself, on any number of hosts. Either way a worker reads its rank from torchrun's environment variables.
"""

# Why not torch.distributed.launcher, torchrun's elastic agent, for --devices: after Ctrl-C or SIGTERM it gives
# workers 30 seconds, kills them and raises SignalException, which would lose a checkpoint that takes longer, and the
# message with the step to resume from. Of a failed worker it has a traceback, not the exception that decides the exit
# status. Its rendezvous and restarts are of no use on one host. torch.multiprocessing.spawn starts and watches the
# workers; only the forwarding of signals and the reading of the first error are ours.

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning_fabric.strategies.ddp import DDPStrategy
from lightning_fabric.strategies.model_parallel import ModelParallelStrategy
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException, spawn

from decathlon.errors import UsageError, require
from decathlon.messages import pluralize
from decathlon.tasks.recipe import Recipe
from decathlon.training.loop import Interrupted

COLLECTIVE_TIMEOUT = timedelta(minutes=10)  # for a process that hangs; one that exited is noticed at once
REPORT_GRACE_SECONDS = 5  # how long a process that lost its connection lets the failed one report its error first


class WorkerFailed(RuntimeError):
    """A worker failed: its error in one line."""


def is_worker() -> bool:
    """Whether this process was started by our supervisor or by torchrun, as one of several."""
    return "LOCAL_RANK" in os.environ and "WORLD_SIZE" in os.environ


def get_rank() -> int:
    """The rank of this process, 0 without others."""
    return int(os.environ.get("RANK", "0"))


def get_world_size(devices: int, resuming: bool = False) -> int:
    """The number of processes on all hosts.

    Raises:
        UsageError: torchrun has started another number than `devices`; allowed for a run that is resumed.
    """
    if not is_worker():
        return devices
    world = int(os.environ["WORLD_SIZE"])
    if devices not in (1, world) and not resuming:
        raise UsageError(f"--devices {devices}: torchrun has started {world} processes; leave --devices out")
    return world


def check_options(strategy: str, devices: int, recipe: Recipe, pretraining: bool, resuming: bool) -> None:
    """Raise UsageError where these options contradict each other, the recipe or the machine."""
    world, gpus = get_world_size(devices, resuming), torch.cuda.device_count()
    require("--devices", 1 <= world <= recipe.batch_size, f"from 1 to the batch size, {recipe.batch_size}")
    if gpus and not is_worker():
        require("--devices", devices <= gpus, f"at most {gpus}, the GPUs of this machine")
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if is_worker() else 1
    if gpus and local > gpus:
        raise UsageError(
            f"torchrun has started {local} processes on this machine, which has {pluralize(gpus, 'GPU')}: each needs "
            f"one; give it --nproc-per-node {gpus}"
        )
    limit = max(64 if resuming else 2, os.cpu_count() or 1)  # one a core; a resumed run may exceed it, if slowly
    require("--devices", gpus > 0 or is_worker() or devices <= limit, f"at most {limit} on this machine")
    if strategy == "fsdp":
        require("--strategy", pretraining, "ddp: fsdp is for pre-training (decathlon train roberta-mlm)")
        require("--devices", world > 1, "2 or more for --strategy fsdp")
        require("--ema", recipe.ema == 0, "0 for --strategy fsdp, which keeps no EMA of the weights")
        require("--optimizer.name", recipe.optimizer.name != "muon", "adamw or sgd for --strategy fsdp")


def accelerator() -> str:
    """The kind of device to train and evaluate on; not Apple's GPUs, which have no float64 and lack operations."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def launch_fabric(precision: Any, strategy: str = "ddp") -> Fabric:
    """Set up Fabric: device, precision, and the connection to the other processes where there are others.

    Args:
        precision: As in the recipe.
        strategy: `ddp`, where every process has all weights, or `fsdp`, where each has a shard of them.
    """
    world, local_world = (int(os.environ[name]) if is_worker() else 1 for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"))
    options: dict[str, Any] = {}
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it logs every process that connects
    if world > 1:
        timeout = COLLECTIVE_TIMEOUT
        fsdp = ModelParallelStrategy(shard_weights, data_parallel_size=world, tensor_parallel_size=1, timeout=timeout)
        options["strategy"] = fsdp if strategy == "fsdp" else DDPStrategy(timeout=timeout)
        options["plugins"] = TorchElasticEnvironment()
    nodes = world // local_world
    fabric = Fabric(accelerator=accelerator(), devices=local_world, num_nodes=nodes, precision=precision, **options)
    fabric.launch()
    allow_tf32(fabric)
    return fabric


def allow_tf32(fabric: Fabric) -> None:
    """Let a GPU round the factors of float32 matrix products to TensorFloat32, as it does in convolutions anyway."""
    if fabric.device.type == "cuda":
        torch.set_float32_matmul_precision("high")


def check_gradients(model: nn.Module, fabric: Fabric) -> None:
    """Raise UsageError for sparse gradients on several GPUs, which NCCL cannot reduce."""
    sparse = any(isinstance(module, nn.Embedding) and module.sparse for module in model.modules())
    several_gpus = fabric.world_size > 1 and fabric.device.type == "cuda"
    require(
        "--devices", not (sparse and several_gpus), "1: NCCL does not support sparse gradients, which this network has"
    )


def shard_weights(model: nn.Module, mesh: DeviceMesh) -> nn.Module:
    """Shard every weight over the processes (FSDP, Zhao et al. 2023, arXiv:2304.11277), gathered layer by layer."""
    from torch.distributed.fsdp import fully_shard

    layers = [layer for module in model.modules() if isinstance(module, nn.ModuleList) for layer in module]
    for module in (*layers, model):
        fully_shard(module, mesh=mesh["data_parallel"])
    return model


def spawn_workers(processes: int, work: Callable[..., dict[str, Any]], *args: Any) -> dict[str, Any]:
    """Run `work(*args)` in several new processes at once.

    When one of them fails or is killed, the others are ended: at once where they wait for it, else within 30 s.
    Ctrl-C and SIGTERM are forwarded to them, and a supervisor that is killed takes them with it.

    Args:
        processes: How many.
        work: A function that a fresh process can import; it returns JSON data.
        args: Its arguments.

    Returns:
        What it returned in the process of rank 0.

    Raises:
        UsageError, Interrupted, FileNotFoundError, ConnectionError, ValueError, FloatingPointError: That of the first
            worker to fail.
        WorkerFailed: It failed otherwise.
    """
    with tempfile.TemporaryDirectory(prefix="decathlon-") as exchange:
        port = _free_port()
        logging.getLogger("torch.multiprocessing.spawn").setLevel(logging.ERROR)  # it warns of every worker it ends
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")  # of the workers: lost connections are no help
        workers = spawn(_run_worker, (processes, port, exchange, work, args), processes, join=False, daemon=False)
        with _forward_signals(workers.pids()) as received:
            try:
                while not workers.join():
                    pass
            except (ProcessExitedException, ProcessRaisedException) as error:
                raise _worker_error(error, exchange, processes, bool(received)) from error
        return dict(json.loads(Path(exchange, "result.json").read_text()))


def _free_port() -> int:
    """A free port."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _run_worker(
    rank: int, processes: int, port: int, exchange: str, work: Callable[..., Any], args: tuple[Any, ...]
) -> None:
    """One of the workers of `spawn_workers`: it leaves its result or its error as a JSON file in `exchange`."""
    os.dup2(2, 1)  # prints of a user's network go to stderr: stdout is for the result, which the parent prints
    os.setpgrp()  # else a terminal's Ctrl-C would come twice: from it and from the supervisor
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "GROUP_RANK": 0}
    ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes}
    os.environ.update({name: str(value) for name, value in (address | ranks).items()})
    try:
        result = work(*args)
    except Exception as error:
        message = explain_lost_connection() if is_lost_connection(error) else " ".join(str(error).split())
        Path(exchange, f"{rank}.json").write_text(json.dumps({"type": type(error).__name__, "message": message}))
        raise
    if rank == 0:
        Path(exchange, "result.json").write_text(json.dumps(result))
    if torch.distributed.is_initialized():
        torch.distributed.barrier()  # no process is waiting for this one any more
        torch.distributed.destroy_process_group()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # at the interpreter's own exit, a gloo thread sometimes aborted a process that had finished


def _worker_error(error: Exception, exchange: str, processes: int, signalled: bool) -> Exception:
    """The exception that the supervisor is to raise for the first worker that failed."""
    index = cast(Any, error).error_index
    path, worker = Path(exchange, f"{index}.json"), f"process {index} of {processes}"
    if path.exists():
        values = json.loads(path.read_text())
        as_is = {kind.__name__: kind for kind in (UsageError, Interrupted)}
        if values["type"] in as_is:
            return as_is[values["type"]](values["message"])
        documented = (FileNotFoundError, ConnectionError, ValueError, FloatingPointError)  # as with a single process
        kind = {kind.__name__: kind for kind in documented}.get(values["type"], WorkerFailed)
        return kind(f"{worker} failed: {values['type']}: {values['message']}")
    if signalled:
        return Interrupted("interrupted before or after the training; its last checkpoint, if it has one, stays")
    if isinstance(error, ProcessExitedException) and error.signal_name:
        return WorkerFailed(f"{worker} was killed ({error.signal_name})")
    return WorkerFailed(f"{worker} exited with status {getattr(error, 'exit_code', 1)}")


@contextmanager
def _forward_signals(pids: list[int]) -> Iterator[list[int]]:
    """Forward Ctrl-C and SIGTERM to these processes; the list holds the signals received."""
    received = list[int]()
    if threading.current_thread() is not threading.main_thread():
        yield received
        return

    def forward(number: int, frame: Any) -> None:
        received.append(number)
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    before = {number: signal.signal(number, forward) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def is_lost_connection(error: BaseException) -> bool:
    """Whether this process only lost its connection to one that failed."""
    words = ("gloo", "NCCL", "monitoredBarrier")
    return isinstance(error, torch.distributed.DistError) or (
        isinstance(error, RuntimeError) and any(word in str(error) for word in words)
    )


def explain_lost_connection() -> str:
    """The message of a process that lost its connection, after a wait in which the failed one reports its own error."""
    time.sleep(REPORT_GRACE_SECONDS)
    minutes = COLLECTIVE_TIMEOUT.total_seconds() / 60
    return f"lost the connection to another process: it failed, was killed, or did not respond for {minutes:g} minutes"
