"""What a run folder's JSON files hold, as dataclasses. `runs.validate` reads them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from decathlon.data.base import DataInfo


@dataclass(frozen=True)
class RunOptions:
    """The options of a training besides its recipe."""

    data: str = "official"
    """official, sample (made on the spot), or the path of your own data"""
    data_dir: str | None = None
    """folder of the official data; default: $DECATHLON_DATA, else the cache folder"""
    out: str | None = None
    """make this the run folder; default: runs/TASK/TIME-seedN"""
    recipe: str | None = None
    """fast, the task's first recipe, which clears the bar, or best, the one with the highest known metric, which only
    some tasks have; default: best on a GPU (fast for detectors, whose best has another backbone), else fast"""
    devices: int = 1
    """number of processes, each with a GPU or a part of the CPU; leave it out under torchrun"""
    strategy: Literal["ddp", "fsdp"] = "ddp"
    """several processes: each with all weights (ddp), or with a shard of weights, gradients and moments beside a whole
    copy of the weights, for evaluation and checkpoints (fsdp, pre-training only)"""
    model: str | None = None
    """train your own network instead: FILE.py:function (not for pre-training)"""
    until_bar: bool = False
    """stop when the validation metric reaches the bar (not for pre-training)"""
    tensorboard: bool = False
    """log curves, predictions, plots and the recipe into the run folder for TensorBoard (extra [tensorboard])"""
    resume: str | None = None
    """continue this run folder"""
    dry_run: bool = False
    """print the plan and stop"""


@dataclass(frozen=True)
class RunConfig:
    """config.json: what was trained on what.

    Attributes:
        task: Id of the task.
        recipe: The recipe as JSON data; its type is the task's.
        options: The options; `out`, `resume` and `dry_run` are not kept.
        data: Name of the copy of the data.
        info: What building the network and predicting must know of the data.
        sizes: Examples of each split; the weights that ship have none.
    """

    task: str
    recipe: dict[str, Any]
    options: RunOptions
    data: str
    info: DataInfo
    sizes: dict[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As JSON data."""
        options = {k: v for k, v in asdict(self.options).items() if k not in ("out", "resume", "dry_run")}
        config = {"task": self.task, "recipe": self.recipe, "options": options, "data": self.data}
        return config | {"info": self.info.to_dict()} | ({"sizes": self.sizes} if self.sizes else {})


@dataclass(frozen=True, kw_only=True)
class Summary:
    """summary.json: the result of a run.

    Attributes:
        task: Id of the task.
        data: Name of the copy of the data.
        split: What was measured: `test`.
        metric: Name of the task's metric.
        value: The metric, from 0 to 1.
        bar: What it must reach; None for data of the user's own and tasks without a bar.
        passed: Whether it does; None without a bar.
        counts: Whether the result is for the scoreboard: official data, and no architecture violations.
        violations: In which ways the network breaks the task's architecture.
        metrics: All metrics of the test split.
        tta: Test-time augmentation, `none`, `flip` or `flip+shift`; None in summaries of earlier versions.
        seed: The seed of the recipe.
        epochs: Finished epochs.
        steps: Optimiser steps.
        train_seconds: Of batches and steps, without set-up, compilation, evaluation and checkpoints.
        preparation_seconds: Of what was learned before, once, and is cached: embeddings, teachers.
        seconds_to_bar: Training time until the validation metric first reached the bar.
        parameters: Trained parameters.
        recipe: Name of the task's recipe: `fast`, `best` or `sample`; empty in summaries of earlier versions.
        overrides: Recipe fields (dotted) that differ from this recipe.
        until_bar: Whether the training was to stop at the bar.
        model: The user's own network, `FILE.py:function`.
        encoder: Whose embeddings the task classifies.
        teachers: Models that labelled training texts without a label.
        devices: Processes.
        training_memory_mib: Peak memory of the first process while it trained, validation included: on a GPU of all
            tensors there, on a CPU what the process grew by; None where it could not be measured.
        device: `cpu`, `cuda`, …
        hardware: Name of the processor.
        threads: Threads of each process.
        commit: Commit of the code, with + where it was changed.
        versions: Versions of Python and the packages.
        code: Hash of the code that the number depends on, by `runs.code_hash`; None where it changed before a resume.
        folder: Where the run lies; not in summary.json.
    """

    task: str
    data: str
    split: str = "test"
    metric: str
    value: float
    bar: float | None
    passed: bool | None = None
    counts: bool = False
    violations: list[str] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)
    tta: str | None = None
    seed: int
    epochs: int = 0
    steps: int = 0
    train_seconds: float
    preparation_seconds: float = 0.0
    seconds_to_bar: float | None
    parameters: int
    recipe: str = ""
    overrides: dict[str, Any] = field(default_factory=dict)
    until_bar: bool = False
    model: str | None = None
    encoder: str | None = None
    teachers: list[str] = field(default_factory=list)
    devices: int = 1
    training_memory_mib: float | None = None
    device: str = "unknown"
    hardware: str = ""
    threads: int = 0
    commit: str | None = None
    versions: dict[str, str] = field(default_factory=dict)
    code: str | None = None
    folder: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON data."""
        return {name: value for name, value in asdict(self).items() if name != "folder" or value is not None}


@dataclass(frozen=True)
class Plan:
    """What a training is about to do, printed before it starts.

    Attributes:
        task: Id of the task.
        data: Name of the copy of the data.
        sizes: Examples of each split.
        classes: Names of the classes.
        recipe: Name of the task's recipe: `fast`, `best` or `sample`.
        parameters: Trained parameters.
        epochs: Passes over the training data.
        steps: Optimiser steps.
        device: `cpu`, `cuda`, …
        processes: How many train together.
        threads: Threads of each.
        estimated_seconds: Training time, extrapolated from a few steps.
        violations: In which ways the network breaks the task's architecture.
        from_scratch: Whether a detector starts without pretrained weights, on other data than the sample.
    """

    task: str
    data: str
    sizes: dict[str, int]
    classes: list[str]
    recipe: str
    parameters: int
    epochs: int
    steps: int
    device: str
    processes: int
    threads: int
    estimated_seconds: float
    violations: list[str]
    from_scratch: bool = False

    def to_dict(self) -> dict[str, Any]:
        """As JSON data."""
        return asdict(self)
