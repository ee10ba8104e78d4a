"""Recipes: the hyperparameters of a task as a frozen dataclass, and how they are written to JSON and read back."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from decathlon.errors import nearest, require

# Fields that no weight's shape bounds: a stranger's config.json must not take any memory or time.
LIMITS = {
    **dict.fromkeys(("image_size", "low_res_size", "min_size", "max_size"), 4096),
    **dict.fromkeys(("max_length", "n_trees"), 100_000),
}


@dataclass(frozen=True)
class Optimizer:
    """The optimizer and its one-cycle schedule: the learning rate warms up linearly, then decays along a cosine."""

    name: Literal["adamw", "sgd", "muon"] = "adamw"
    """Update rule; sgd and muon use Nesterov momentum."""
    lr: float = 1e-3
    """Peak learning rate; of muon relative to the norm of the weights."""
    weight_decay: float = 0.0
    """Weight decay of matrices and kernels by adamw and sgd; muon keeps their norm; biases and norms have none."""
    momentum: float = 0.9
    """Momentum of sgd and muon, beta1 of adamw."""
    beta2: float = 0.98
    """beta2 of adamw."""
    warmup: float = 0.2
    """Warm-up, as a fraction of all steps."""
    max_grad_norm: float = 0.0
    """Gradient clipping: maximum norm, for each optimizer (muon has adamw beside it) but sparse ones; 0 is off."""

    def __post_init__(self) -> None:
        require("--optimizer.lr", 0 < self.lr < math.inf, "a number above 0")
        require("--optimizer.warmup", 0 <= self.warmup < 1, "from 0 to below 1")
        require("--optimizer.momentum", 0 <= self.momentum < 1, "from 0 to below 1")
        require("--optimizer.beta2", 0 <= self.beta2 < 1, "from 0 to below 1")
        require("--optimizer.weight-decay", 0 <= self.weight_decay < math.inf, "0 or more")
        require("--optimizer.weight-decay", not self.weight_decay or self.name != "muon", "0 with muon")
        require("--optimizer.max-grad-norm", 0 <= self.max_grad_norm < math.inf, "0 or more")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The hyperparameters every task has. A task's own recipe adds its fields to these."""

    may_be_zero: ClassVar[tuple[str, ...]] = ("seed",)  # integers for which 0 makes sense

    seed: int = 0
    """Random seed."""
    epochs: int = 10
    """Epochs: passes over the training data."""
    batch_size: int = 128
    """Examples per step, over all processes together."""
    optimizer: Optimizer = field(default_factory=Optimizer)
    ema: float = 0.0
    """EMA decay of the weights, per step; the averaged weights are evaluated and saved; 0 is off."""
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    """Precision of training; bf16-mixed pays off on GPUs, and on CPUs with avx512_bf16 or AMX."""
    compile: bool = False
    """Compile the network first (torch.compile): pays off on GPUs and in long runs."""

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            value, flag = getattr(self, item.name), f"--{item.name.replace('_', '-')}"
            for number in value if isinstance(value, tuple) else (value,):
                if type(number) is int and item.name not in self.may_be_zero:
                    require(flag, number >= 1, "at least 1")
                elif isinstance(number, (int, float)):
                    require(flag, 0 <= number < math.inf, "0 or more")
            if (limit := LIMITS.get(item.name)) is not None:
                require(flag, value <= limit, f"at most {limit:,}")
        require("--ema", self.ema < 1, "from 0 to below 1")


def to_dict(recipe: Recipe) -> dict[str, Any]:
    """A recipe as plain JSON data."""
    return dataclasses.asdict(recipe)


def from_dict(default: Recipe, values: dict[str, Any]) -> Recipe:
    """The inverse of `to_dict`: `default`, which fixes the type, with these values in it.

    Raises:
        ValueError: A field is unknown or of another type than the recipe's.
        UsageError: A value makes no sense.
    """
    from pydantic import TypeAdapter, ValidationError

    merged = _merge(to_dict(default), values, "")
    try:  # as JSON: from arrays and integers strict mode still makes tuples and floats
        return TypeAdapter(type(default)).validate_json(json.dumps(merged, default=_plain), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        if isinstance(reason := first.get("ctx", {}).get("error"), ValueError):  # of __post_init__
            raise reason from None
        name = ".".join(map(str, first["loc"])) or "recipe"
        raise ValueError(f"recipe field {name!r}: {first['msg']}, not {str(first['input'])[:60]!r}") from None


def _plain(value: Any) -> Any:
    """A path or a number of NumPy as JSON data."""
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    raise ValueError(f"a recipe holds numbers, texts and lists of them, not {str(value)[:60]!r}")


def _merge(default: dict[str, Any], values: Any, path: str) -> dict[str, Any]:
    """`default` with the fields of `values` in it. Raises ValueError where `default` has no such field."""
    if not isinstance(values, dict):
        raise ValueError(f"recipe field {path or 'recipe'!r} must be an object, not {str(values)[:60]}")
    merged = dict(default)
    for name, value in values.items():
        if name not in default:
            raise ValueError(f"unknown recipe field {f'{path}.{name}'.lstrip('.')!r}{nearest(name, default)}")
        nested = isinstance(default[name], dict)
        merged[name] = _merge(default[name], value, f"{path}.{name}".lstrip(".")) if nested else value
    return merged


def differences(recipe: Recipe, default: Recipe, ignore: tuple[str, ...] = ("seed",)) -> dict[str, Any]:
    """The fields, dotted, in which `recipe` differs from `default`."""
    values, defaults = _flatten(to_dict(recipe)), _flatten(to_dict(default))
    return {name: value for name, value in values.items() if defaults[name] != value and name not in ignore}


def _flatten(tree: dict[str, Any], path: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        flat.update(_flatten(value, f"{path}{name}.") if isinstance(value, dict) else {f"{path}{name}": value})
    return flat
