"""The user's own network in a task's place: `--model FILE.py:function`."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from decathlon.data.base import cache_folder
from decathlon.data.io import files
from decathlon.errors import UsageError
from decathlon.messages import some

TRUST = "DECATHLON_TRUST_CODE"  # set to 1, it allows model.py of every run folder to run


class _SourceLoader(SourceFileLoader):
    """Compiles the file at every load: bytecode beside it may be of other code, unseen by `require_trusted`."""

    def get_code(self, fullname: str) -> CodeType:
        """The code of the file itself."""
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


def load_network(reference: str) -> nn.Module:
    """Call the function that a reference, `FILE.py:function`, names.

    Raises:
        UsageError: There is no such file or function.
        ValueError: It failed, or did not return a network with parameters.
    """
    file, _, function = reference.rpartition(":")
    path = Path(file)
    if not file and Path(reference).is_file():
        raise UsageError(f"--model {reference}: name the function that makes the network, too: {reference}:FUNCTION")
    if not file or not path.is_file():
        raise UsageError(f"--model {reference}: give FILE.py:function; there is no file {file or reference!r}")
    name, absolute = f"decathlon_user_{path.stem}", path.absolute()
    spec = importlib.util.spec_from_file_location(name, absolute, loader=_SourceLoader(name, str(absolute)))
    if spec is None or spec.loader is None:
        raise UsageError(f"--model {reference}: {path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there for their module
    try:
        spec.loader.exec_module(module)
        if not hasattr(module, function):
            raise UsageError(f"--model {reference}: {path} has no function {function!r}")
        network = getattr(module, function)()
    except UsageError:
        raise
    except ModuleNotFoundError as error:
        hint = f"--model {reference} failed: {error}"
        if (path.parent / f"{error.name}.py").is_file():
            hint += f": it lies beside {path.name}, but a run keeps this one file, so write all of the network into it"
        raise ValueError(hint) from error
    except (Exception, SystemExit) as error:
        raise ValueError(f"--model {reference} failed: {type(error).__name__}: {error}") from error
    if isinstance(network, type) and issubclass(network, nn.Module):
        raise ValueError(f"--model {reference} returned the class {network.__name__}: write {network.__name__}()")
    if not isinstance(network, nn.Module):
        raise ValueError(f"--model {reference} returned a {type(network).__name__}, not a torch.nn.Module")
    check_parameters(network, reference)
    return network


def check_parameters(network: nn.Module, where: str) -> None:
    """Refuse a network that cannot be trained as it is.

    Raises:
        ValueError: It has lazy layers, parameters of another precision than float32, or none that can be trained.
    """
    lazy = [name for name, module in network.named_modules() if any(map(is_lazy, module.parameters(recurse=False)))]
    if lazy:
        raise ValueError(
            f"--model {where} returned a network with lazy layers ({some(lazy)}), whose sizes are not known yet: run "
            "it on one example in the function, or give the layers their sizes"
        )
    precisions = {tensor.dtype for tensor in network.state_dict().values() if tensor.is_floating_point()}
    if other := sorted(str(dtype).removeprefix("torch.") for dtype in precisions - {torch.float32}):
        raise ValueError(
            f"--model {where} returned a network in {other[0]}, but the data are float32: return it.float()"
        )
    if not any(True for _ in network.parameters()):
        raise ValueError(f"--model {where} returned a network without parameters: there is nothing to train")
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise ValueError(
            f"--model {where} returned a network whose parameters are all frozen (requires_grad is False): there is "
            "nothing to train"
        )


def trust_file(path: Path) -> None:
    """Remember that the user has trained with this file, so that run folders with a copy of it may run it again."""
    marker = _trust_marker(path)
    try:
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.touch()
    except OSError:
        return  # then the user must set the variable


def require_trusted(path: Path) -> Path:
    """The network file of a run folder, if the user has trained with it on this machine or allows it to run.

    Raises:
        ValueError: Neither; says what to do.
    """
    if os.environ.get(TRUST) != "1" and not _trust_marker(path).exists():
        raise ValueError(
            f"{path} is a program that was not trained with on this machine: read it, and set {TRUST}=1 if it may run"
        )
    return path


def _trust_marker(path: Path) -> Path:
    return cache_folder() / "trusted" / hashlib.sha256(files.read_bytes(path)).hexdigest()
