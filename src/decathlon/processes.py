"""Several processes that train one network together: how they start, find each other, and end.

`--devices N` starts N workers on this host; the process that was called watches over them. `torchrun` starts them
itself, on any number of hosts. Either way a worker finds its place in torchrun's environment variables.
"""

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

from decathlon.fit import Interrupted
from decathlon.recipe import Recipe, UsageError, require

PATIENCE = timedelta(minutes=10)  # for a process that is there, but does not answer; one that is gone is seen at once
GRACE = 5  # seconds that the loser of a connection leaves to the process which failed to say why


class Failed(RuntimeError):
    """A worker failed: its error in one line."""


def started() -> bool:
    """Whether this process is one of several which a supervisor or torchrun has started."""
    return "LOCAL_RANK" in os.environ and "WORLD_SIZE" in os.environ


def count(devices: int, resuming: bool = False) -> int:
    """How many processes work together, on all hosts.

    Raises:
        UsageError: torchrun has started another number than `devices` asks for; a run to resume may have another.
    """
    if not started():
        return devices
    world = int(os.environ["WORLD_SIZE"])
    if devices not in (1, world) and not resuming:
        raise UsageError(f"--devices {devices}: torchrun has started {world} processes; leave --devices out")
    return world


def check(strategy: str, devices: int, recipe: Recipe, pretraining: bool, resuming: bool) -> None:
    """Raise UsageError where these options cannot be had together."""
    world, gpus = count(devices, resuming), torch.cuda.device_count()
    require("--devices", 1 <= world <= recipe.batch_size, f"from 1 to the batch size, {recipe.batch_size}")
    if gpus and not started():
        require("--devices", devices <= gpus, f"at most {gpus}, the GPUs of this machine")
    most = max(2, os.cpu_count() or 1)  # one a core; a run goes on anywhere, if slowly
    require("--devices", gpus > 0 or resuming or started() or devices <= most, f"at most {most} on this machine")
    if strategy == "fsdp":
        require("--strategy", pretraining, "ddp: fsdp is for decathlon pretrain")
        require("--devices", world > 1, "2 or more for --strategy fsdp")
        require("--ema", recipe.ema == 0, "0 for --strategy fsdp, which keeps no average of the weights")
        require("--optimizer.name", recipe.optimizer.name != "muon", "adamw or sgd for --strategy fsdp")


def fabric(precision: Any, strategy: str = "ddp") -> Fabric:
    """Connect this process to the others, where there are others.

    Args:
        precision: As the recipe says.
        strategy: `ddp`, every process has all weights, or `fsdp`, each has its share of them.
    """
    world, here = (int(os.environ[name]) if started() else 1 for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"))
    options: dict[str, Any] = {}
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it tells of every process that arrives
    if world > 1:
        fsdp = ModelParallelStrategy(divide, data_parallel_size=world, tensor_parallel_size=1, timeout=PATIENCE)
        how = fsdp if strategy == "fsdp" else DDPStrategy(timeout=PATIENCE)
        options = {"strategy": how, "plugins": TorchElasticEnvironment()}
    made = Fabric(accelerator="auto", devices=here, num_nodes=world // here, precision=precision, **options)
    made.launch()
    return made


def check_gradients(model: nn.Module, fabric: Fabric) -> None:
    """Raise UsageError where processes on GPUs could not put the gradients of this network together."""
    sparse = any(isinstance(module, nn.Embedding) and module.sparse for module in model.modules())
    together_on_gpus = fabric.world_size > 1 and fabric.device.type == "cuda"
    require("--devices", not (sparse and together_on_gpus), "1: NCCL knows no sparse gradients, which this network has")


def divide(model: nn.Module, mesh: DeviceMesh) -> nn.Module:
    """Leave each process a share of every weight (FSDP, Zhao et al. 2023, arXiv:2304.11277); layers come together."""
    from torch.distributed.fsdp import fully_shard

    layers = [layer for each in model.modules() if isinstance(each, nn.ModuleList) for layer in each]
    for part in (*layers, model):
        fully_shard(part, mesh=mesh["data_parallel"])
    return model


def together(processes: int, work: Callable[..., dict[str, Any]], *args: Any) -> dict[str, Any]:
    """Run `work(*args)` in several new processes at once.

    When one of them fails, or is killed, the others are ended: at once where they wait for it, else within 30 s.
    Ctrl-C and SIGTERM are handed on to them, and a supervisor that is killed takes them with it.

    Args:
        processes: How many.
        work: A function that a fresh process can import, and that gives plain JSON data.
        args: What it is called with.

    Returns:
        What it returned in the first process.

    Raises:
        Failed, Interrupted, UsageError: What the first process to fail says.
    """
    with tempfile.TemporaryDirectory(prefix="decathlon-") as place:
        found = Path(place, "result.json")
        port = _free_port()
        logging.getLogger("torch.multiprocessing.spawn").setLevel(logging.ERROR)  # it warns of whom it ends
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")  # of the workers: lost connections say little
        workers = spawn(_worker, (processes, port, place, work, args), processes, join=False, daemon=False)
        with _handed_on(workers.pids()) as asked:
            try:
                while not workers.join():
                    pass
            except (ProcessExitedException, ProcessRaisedException) as error:
                raise _reason(error, place, processes, bool(asked)) from error
        return dict(json.loads(found.read_text()))


def _free_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _worker(rank: int, processes: int, port: int, place: str, work: Callable[..., Any], args: tuple[Any, ...]) -> None:
    """One of the workers of `together`."""
    os.setpgrp()  # else a terminal's Ctrl-C would come twice: from it and from the supervisor
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "GROUP_RANK": 0}
    who = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes}
    os.environ.update({name: str(value) for name, value in (where | who).items()})
    try:
        result = work(*args)
    except Exception as error:
        told = {"type": type(error).__name__, "text": " ".join(str(error).split())}
        if lost(error):
            told["text"] = farewell()
        Path(place, f"{rank}.json").write_text(json.dumps(told))
        raise
    if rank == 0:
        Path(place, "result.json").write_text(json.dumps(result))
    if torch.distributed.is_initialized():
        torch.distributed.barrier()  # nobody is waiting for anything of this process any more
        torch.distributed.destroy_process_group()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # with the interpreter's own end, a thread of gloo's now and then aborted what had done its work


def _reason(error: Exception, place: str, processes: int, asked: bool) -> Exception:
    """Why the first worker that failed did: what the supervisor is to raise."""
    index = cast(Any, error).error_index
    path, who = Path(place, f"{index}.json"), f"process {index} of {processes}"
    if path.exists():
        told = json.loads(path.read_text())
        same = {kind.__name__: kind for kind in (UsageError, Interrupted)}.get(told["type"])
        return same(told["text"]) if same else Failed(f"{who} failed: {told['type']}: {told['text']}")
    if asked:
        return Interrupted("interrupted before or after the training; its last checkpoint, if it has one, stays")
    if isinstance(error, ProcessExitedException) and error.signal_name:
        return Failed(f"{who} was killed ({error.signal_name})")
    return Failed(f"{who} left with code {getattr(error, 'exit_code', 1)}")


@contextmanager
def _handed_on(pids: list[int]) -> Iterator[list[int]]:
    """Hand Ctrl-C and SIGTERM on to these processes; what has come is in the list."""
    asked = list[int]()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def hand_on(number: int, frame: Any) -> None:
        asked.append(number)
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    before = {number: signal.signal(number, hand_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def lost(error: BaseException) -> bool:
    """Whether this process only lost its connection to one that failed."""
    words = ("gloo", "NCCL", "monitoredBarrier")
    return isinstance(error, torch.distributed.DistError) or (
        isinstance(error, RuntimeError) and any(word in str(error) for word in words)
    )


def farewell() -> str:
    """Wait for the process that failed to be found first, since it knows why; then what this one can say."""
    time.sleep(GRACE)
    minutes = PATIENCE.total_seconds() / 60
    return f"lost the connection to another process: it failed, was killed, or gave no answer for {minutes:g} minutes"
