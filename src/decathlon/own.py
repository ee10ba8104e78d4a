"""The user's own network in a task's place: `--model FILE.py:function`."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from torch import nn

from decathlon.recipe import UsageError


def load_network(where: str) -> nn.Module:
    """Call the function that `FILE.py:function` names.

    Raises:
        UsageError: There is no such file or function.
        ValueError: It failed, or gave something that is no network.
    """
    file, _, function = where.rpartition(":")
    path = Path(file)
    if not file and Path(where).is_file():
        raise UsageError(f"--model {where}: name the function that makes the network, too: {where}:FUNCTION")
    if not file or not path.is_file():
        raise UsageError(f"--model {where}: give FILE.py:function; there is no file {file or where!r}")
    spec = importlib.util.spec_from_file_location(f"decathlon_user_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise UsageError(f"--model {where}: {path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there for their module
    try:
        spec.loader.exec_module(module)
        if not hasattr(module, function):
            raise UsageError(f"--model {where}: {path} has no function {function!r}")
        network = getattr(module, function)()
    except UsageError:
        raise
    except Exception as error:
        raise ValueError(f"--model {where} failed: {type(error).__name__}: {error}") from error
    if not isinstance(network, nn.Module):
        raise ValueError(f"--model {where} gave a {type(network).__name__}, not a torch.nn.Module")
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise ValueError(f"--model {where} gave a network without parameters: there is nothing to train")
    return network
