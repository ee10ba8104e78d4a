"""`decathlon grade`: the stages of the check, the whole training, and the comparison with the reference network."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from lightning_fabric import Fabric
from torch import Tensor

from decathlon import __version__
from decathlon.data.base import Data, parse_source
from decathlon.data.io import atomic, files
from decathlon.data.voc import DetectionSplit
from decathlon.errors import UsageError
from decathlon.evaluation import forests
from decathlon.evaluation.examples import Examples, record_classes, recording
from decathlon.messages import pluralize, say
from decathlon.reporting import html
from decathlon.reporting.compare import multiplications
from decathlon.runs import bundled, validate
from decathlon.runs import folder as run_folder
from decathlon.runs.attempts import attempts_folder, new_attempt, write_attempt
from decathlon.runs.load import Loaded, load_data, load_run
from decathlon.runs.records import RunOptions, Summary
from decathlon.tasks.base import Task
from decathlon.tasks.recipe import Recipe, differences
from decathlon.training import distributed, runner
from decathlon.training.loop import Interrupted, measure
from decathlon.training.stages import Candidate, Stage, checks_of, run_stages, source_line
from decathlon.training.trials import ReferenceTrial, try_reference

MAX_DISAGREEMENTS = 12  # examples that are listed and drawn
MAX_WORDS = 25  # of a text that is listed
Report = Callable[[Stage], None]


@dataclass(frozen=True)
class Side:
    """One of the two networks that are compared, on the test split.

    Attributes:
        row: What the table says of it.
        examples: Its predictions.
        data: The data, as its recipe reads them.
        recipe: The recipe of its training.
    """

    row: dict[str, Any]
    examples: Examples
    data: Data
    recipe: Recipe


def grade(
    network: str,
    task: Task,
    recipe: Recipe,
    options: RunOptions,
    out: str,
    report: Report,
    quick: bool = False,
    seeds: int = 1,
    reference: str | None = None,
) -> dict[str, Any]:
    """Check a user's network in stages, up to the first thing to fix, and keep the attempt.

    Args:
        network: `FILE.py:function`.
        task: In whose place it is trained.
        recipe: The hyperparameters, also of the reference network.
        options: Of the training; `data` and `data_dir` count.
        out: Folder of all runs: the attempt is kept in `out`/TASK/attempts.
        report: Called after each stage.
        quick: Whether to stop before the whole training.
        seeds: Whole trainings, with seeds from the recipe's on.
        reference: Run folder to compare with; default: the weights that ship, on the sample a run trained here.

    Returns:
        `task`, `file`, `data`, `stages`, `passed`, `cleared` (None: not trained, or no bar), `result`, `folder`.

    Raises:
        UsageError: The reference is a run of another task.
        FileNotFoundError, ConnectionError, ValueError: The data are missing or damaged.
    """
    _check_reference(reference, task)
    fabric = distributed.launch_fabric(recipe.precision)
    data = task.load(parse_source(options.data, options.data_dir), recipe).to(fabric.device)
    folder = attempts_folder(out, task.SPEC.id)
    key = _key(checks_of(task, recipe, data) | {"device": fabric.device.type})
    candidate = Candidate(
        task, data, recipe, fabric, network, lambda: _recall_reference(folder, key, task, data, recipe, fabric)
    )
    attempt = new_attempt(folder, candidate.file)
    result = _empty_result(task, network, data, attempt)

    def note(stage: Stage) -> None:
        result["stages"].append(dataclasses.asdict(stage))
        result["passed"] = stage.passed
        report(stage)

    for stage in run_stages(candidate):
        note(stage)
    if not quick and result["passed"]:
        write_attempt(attempt, result | {"passed": False})  # until the training has ended
        stage, summaries = train_whole(task, recipe, dataclasses.replace(options, model=network), attempt, seeds)
        note(stage)
        if summaries:
            result["cleared"] = stage.passed if summaries[0].bar is not None else None
            write_attempt(attempt, result)
            other_run = find_reference(reference, folder, key, task, recipe, options)
            result["result"] = compare_sides(summaries, other_run, options.data_dir, attempt, fabric)
    write_attempt(attempt, result)
    return result


def _check_reference(reference: str | None, task: Task) -> None:
    if reference and (other := validate.config(Path(reference)).task) != task.SPEC.id:
        raise UsageError(f"--reference {reference} is a run of {other}, not of {task.SPEC.id}")


def _empty_result(task: Task, network: str, data: Data, attempt: Path) -> dict[str, Any]:
    names = {"task": task.SPEC.id, "file": network, "data": data.name, "time": time.strftime("%F %T")}
    return names | {"stages": [], "passed": False, "cleared": None, "result": None, "folder": str(attempt)}


def _key(values: dict[str, Any]) -> str:
    """A digest of what a measurement of the reference network depends on."""
    text = json.dumps([values, __version__, run_folder.commit()], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _recall_reference(folder: Path, key: str, task: Task, data: Data, recipe: Recipe, fabric: Fabric) -> ReferenceTrial:
    """How the reference network does in the trials, measured once for each recipe and data."""
    path = folder / "reference.json"
    stored = files.read_json(path) if path.exists() else {}
    if stored.get("key") != key:
        say(f"measuring the reference network of {task.SPEC.id}, once for this recipe and data")
        stored = dataclasses.asdict(try_reference(task, data, recipe, fabric, key))
        atomic.write_json(path, stored)
    return ReferenceTrial(**stored)


# --- The whole training -----------------------------------------------------------------------------------------------


def train_whole(
    task: Task, recipe: Recipe, options: RunOptions, attempt: Path, seeds: int
) -> tuple[Stage, list[Summary]]:
    """Train on all data, once for each seed, and hold the test metric against the bar."""
    start, summaries = time.perf_counter(), list[Summary]()
    for seed in range(recipe.seed, recipe.seed + seeds):
        out = dataclasses.replace(options, out=str(attempt / f"run-seed{seed}"))
        try:
            summary = cast(Summary, runner.train(task.SPEC.id, dataclasses.replace(recipe, seed=seed), out))
        except Interrupted:
            raise
        except Exception as error:  # networks fail in any way, larger batches than those of the stages included
            where = source_line(error, Path((options.model or "").rpartition(":")[0]))
            if not where and not isinstance(error, (FloatingPointError, RuntimeError)):
                raise
            failed = where or not isinstance(error, FloatingPointError)
            message = f"it fails: {type(error).__name__}: {error}{where}" if failed else str(error)
            return Stage("training", False, message, round(time.perf_counter() - start, 2)), []
        assert summary.folder is not None
        values = {name: value for name, value in summary.to_dict().items() if name != "folder"}
        html.write(Path(summary.folder), values)
        summaries.append(summary)
    first, worst = summaries[0], min(summaries, key=lambda summary: summary.value)
    message = f"test {first.metric} {', '.join(html.percent(summary.value) for summary in summaries)}"
    passed = first.bar is None or worst.value >= first.bar
    if first.bar is not None:
        message += f", bar {100 * first.bar:g} %: {'cleared' if passed else 'missed'}"
    message += "" if passed else f". {explain_miss(Path(worst.folder or ''), worst)}"
    return Stage("training", passed, message, round(time.perf_counter() - start, 2)), summaries


def explain_miss(folder: Path, summary: Summary) -> str:
    """What the curves say of a missed bar: overfitting, or a loss that still falls."""
    lines = run_folder.read_lines(folder / "metrics.jsonl")
    train = [line["train"]["loss"] for line in lines]
    validation = [line["validation"].get("loss") for line in lines]
    if validation and validation[-1] is not None and validation[-1] > 1.1 * min(validation):
        return (
            f"The validation loss rose from {min(validation):.3g} to {validation[-1]:.3g} while the training loss went "
            f"to {train[-1]:.3g}: it overfits; dropout, fewer units or fewer epochs help"
        )
    before = train[max(0, len(train) - 3)]
    if train[-1] < 0.97 * before:
        return f"The training loss still falls ({before:.3g} to {train[-1]:.3g}): more --epochs, or more units"
    return f"The training loss stays at {train[-1]:.3g}: more units, or another --optimizer.lr than {_lr(folder)}"


def _lr(folder: Path) -> str:
    return f"{validate.config(folder).recipe['optimizer']['lr']:g}"


# --- Beside the reference ---------------------------------------------------------------------------------------------


def find_reference(
    reference: str | None, folder: Path, key: str, task: Task, recipe: Recipe, options: RunOptions
) -> Path | None:
    """The run folder of the reference network: the one named, the weights that ship, or one trained on the sample."""
    if reference:
        return Path(reference)
    if options.data == "official":
        return bundled.folder(task.SPEC.id)
    if options.data != "sample":
        return None
    path = folder / f"reference-sample-{key}"
    if not (path / "summary.json").exists():
        say(f"training the reference network of {task.SPEC.id} on the sample, once for this recipe")
        data_dir = options.data_dir
        start = RunOptions("sample", data_dir, str(path))
        resumed = RunOptions(data_dir=data_dir, resume=str(path))
        runner.train(task.SPEC.id, recipe, resumed if (path / "config.json").exists() else start)
    return path


def compare_sides(
    summaries: list[Summary], reference: Path | None, data_dir: str | None, attempt: Path, fabric: Fabric
) -> dict[str, Any]:
    """The table of both networks, and where they disagree on test examples.

    Returns:
        `rows`, a row for each network; `note` on the reference; and `disagreements` where both predict the same split.
    """
    yours = measure_side("yours", Path(summaries[0].folder or ""), data_dir, fabric)
    values = [summary.value for summary in summaries]
    if len(values) > 1:
        of = pluralize(len(values), "seed")
        yours.row.update(value=statistics.mean(values), spread=statistics.stdev(values), of=of)
    if reference is None:
        note = "there is no reference network for these data: train one, and name its run folder with --reference"
        return {"rows": [yours.row], "note": note, "disagreements": None}
    try:
        theirs = measure_side("reference", reference, data_dir, fabric)
    except (ValueError, OSError) as error:
        return {"rows": [yours.row], "note": f"the reference was not measured: {error}", "disagreements": None}
    card = run_folder.read_json(reference / "card.json") if (reference / "card.json").exists() else {}
    if (published := card.get("published")) and card["data"] == theirs.data.name:
        theirs.row.update(value=published["mean"], spread=published["deviation"], of=pluralize(published["n"], "seed"))
    hardware = validate.summary(reference / "summary.json").hardware
    notes = [f"the reference's times are from {hardware}"] if hardware != summaries[0].hardware else []
    if changed := differences(theirs.recipe, yours.recipe):
        notes.append(f"the reference was trained by another recipe: it differs in {', '.join(sorted(changed))}")
    same_test = _test_split(yours) == _test_split(theirs)
    if not same_test:
        notes.append(f"the two were not measured on the same data: yours {yours.data.name}, it {theirs.data.name}")
    disagreements = find_disagreements(yours, theirs, attempt) if same_test else None
    return {"rows": [yours.row, theirs.row], "note": "; ".join(notes), "disagreements": disagreements}


def _test_split(side: Side) -> tuple[str, list[str], int]:
    return side.data.name, side.data.info.classes, len(side.examples.scores)


def measure_side(name: str, folder: Path, data_dir: str | None, fabric: Fabric) -> Side:
    """Measure the network of a run folder on the test split of its data."""
    loaded, summary = load_run(folder), validate.summary(folder / "summary.json")
    loaded.model.to(fabric.device)
    data = load_data(folder, loaded, data_dir).to(fabric.device)
    examples, metrics = predict_examples(loaded, data, fabric)
    metric = loaded.task.SPEC.metric
    # Of masks the accuracy is over all pixels, of which the spread over images says nothing.
    has_spread = metric == "accuracy" and bool(examples.labels)
    row = {
        "network": name,
        "metric": metric,
        "value": metrics[metric],
        "spread": examples.standard_error() if has_spread else None,
        "of": f"standard error, {len(examples.scores):,} test examples" if has_spread else "",
        "parameters": summary.parameters,
        "flops": 2 * multiplications(loaded, data, fabric),
        "train_seconds": summary.train_seconds,
        "seconds_to_bar": summary.seconds_to_bar,
        "calibration_error": examples.calibration_error(),
    }
    return Side(row, examples, data, loaded.recipe)


def predict_examples(loaded: Loaded, data: Data, fabric: Fabric) -> tuple[Examples, dict[str, float]]:
    """The predictions for the test split, and its metrics."""
    with recording() as examples:
        metrics = measure(loaded.task, loaded.model, data, "test", loaded.recipe, fabric)
    task = cast(Any, loaded.task)
    if not examples.scores and hasattr(task, "fit_forest"):  # the autoencoder's forest predicts without logits
        with torch.no_grad(), recording() as examples:
            codes = task.encode(loaded.model, data.test.inputs).cpu().numpy()
            forest = task.fit_forest(loaded.model, loaded.recipe)
            record_classes(forests.log_probabilities(forest, codes, len(data.info.classes)), data.test.targets)
    return examples, metrics


def find_disagreements(yours: Side, theirs: Side, attempt: Path) -> dict[str, Any]:
    """Test examples on which the two differ most: `count`, `total`, `yours_better`, `reference_better`, `examples`.

    Of classifiers these are the examples with different labels; else those with the largest difference of the scores.
    Images of them are drawn into disagreements.png of the attempt.
    """
    first, second, classes = yours.examples, theirs.examples, yours.data.info.classes
    differences = [a - b for a, b in zip(first.scores, second.scores, strict=True)]
    if first.labels:
        indices = [i for i, (a, b) in enumerate(zip(first.labels, second.labels, strict=True)) if a != b]
        indices.sort(key=lambda i: differences[i])  # first those that only the reference gets right
    else:
        indices = [i for i, value in enumerate(differences) if value]
        indices.sort(key=lambda i: -abs(differences[i]))
    rows = [describe_example(i, first, second, classes, yours.data) for i in indices[:MAX_DISAGREEMENTS]]
    images = [image for i in indices[:MAX_DISAGREEMENTS] if (image := get_image(yours.data, i)) is not None]
    path = attempt / "disagreements.png"
    if images:
        from decathlon.evaluation import plots

        titles = [f"{plots.label(row['yours'])}\n{plots.label(row['reference'])}" for row in rows]
        plots.grid(
            images, titles, path, 6, "test examples on which they disagree most: yours above, the reference below"
        )
    return {
        "count": len(indices),
        "total": len(differences),
        "yours_better": sum(differences[i] > 0 for i in indices),
        "reference_better": sum(differences[i] < 0 for i in indices),
        "examples": rows,
        "file": str(path) if images else None,
    }


def describe_example(index: int, first: Examples, second: Examples, classes: list[str], data: Data) -> dict[str, Any]:
    """A test example: its index, the truth of a classifier, what both networks say of it, and a text's first words."""
    if first.labels:
        row: dict[str, Any] = {"index": index, "truth": classes[first.targets[index]]}
        for name, side in (("yours", first), ("reference", second)):
            row[name] = f"{classes[side.labels[index]]} ({100 * torch.cat(side.confidences)[index].item():.0f} %)"
    else:
        kind = "F1" if isinstance(data.test, DetectionSplit) else "right"
        row = {"index": index}
        row |= {name: f"{100 * e.scores[index]:.0f} % {kind}" for name, e in (("yours", first), ("reference", second))}
    if vocabulary := data.info.vocabulary:
        tokens = [int(token) for token in data.test.inputs[index][:MAX_WORDS] if token]
        row["text"] = " ".join(vocabulary[token - 2] if token > 1 else "…" for token in tokens)
    return row


def get_image(data: Data, index: int) -> Tensor | None:
    """A test image, uint8 (C, H, W); None where the examples are no images."""
    if isinstance(data.test, DetectionSplit):
        return data.test.example(index)[0]
    return data.test.inputs[index] if data.test.inputs.ndim == 4 else None
