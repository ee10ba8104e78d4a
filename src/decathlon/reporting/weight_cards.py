"""Packing the weights of a finished run to ship with the package, with a model card and its documentation page."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from decathlon.data.io import atomic, files
from decathlon.messages import pluralize
from decathlon.reporting.scoreboard import name_recipe
from decathlon.runs.bundled import WEIGHTS
from decathlon.runs.folder import read_json
from decathlon.runs.load import load_run
from decathlon.tasks.base import base_recipe
from decathlon.tasks.recipe import differences
from decathlon.training.runner import evaluate


def pack(source: Path, limits: list[str], published: dict[str, Any] | None, out: Path = WEIGHTS) -> dict[str, Any]:
    """Make the shipped folder of a finished run, and evaluate the shipped weights, which are rounded to half precision.

    Args:
        source: The run folder.
        limits: Limitations of the weights, a sentence each.
        published: `mean`, `deviation` and `n` of the committed results of this recipe; None without results.
        out: The folder of all weights.

    Returns:
        The card.

    Raises:
        ValueError: The run had own data, an own network or uncommitted code: its weights could not be reproduced.
    """
    loaded, summary = load_run(source), read_json(source / "summary.json")
    options = replace(loaded.config.options, data_dir=None)
    committed = summary["commit"] and not summary["commit"].endswith("+")
    if options.data not in ("official", "sample") or options.model or not committed:
        raise ValueError(f"{source}: weights that ship are made from committed code, official data and our networks")
    folder = out / summary["task"]
    folder.mkdir(parents=True, exist_ok=True)
    atomic.write_json(folder / "config.json", replace(loaded.config, options=options).to_dict())
    atomic.write_json(folder / "summary.json", summary)
    parameters = dict(loaded.model.named_parameters())
    atomic.save_weights(
        folder / "model.safetensors",
        {name: value.half() if name in parameters else value for name, value in loaded.model.state_dict().items()},
    )
    measured, full = evaluate(folder, None), evaluate(source, None)
    backbone = differences(loaded.recipe, base_recipe(loaded.task, options.data)).get("backbone")
    recipe, overrides = name_recipe(summary)
    card = {
        "task": summary["task"],
        "network": loaded.task.SPEC.network + (f", but with the backbone {backbone}" if backbone else ""),
        "data": summary["data"],
        "metric": summary["metric"],
        "value": measured.value,
        "metrics": measured.metrics,
        "value_in_full_precision": full.value,
        "published": published,
        "bar": summary["bar"],
        "parameters": summary["parameters"],
        "bytes": (folder / "model.safetensors").stat().st_size,
        "sha256": files.sha256(folder / "model.safetensors"),
        "seed": summary["seed"],
        "recipe": recipe,
        "overrides": overrides,
        "encoder": summary.get("encoder"),
        "commit": summary["commit"],
        "date": time.strftime("%Y-%m-%d", time.gmtime((source / "summary.json").stat().st_mtime)),
        "hardware": f"{summary['hardware']} ({pluralize(summary['threads'], 'thread')})",
        "versions": summary["versions"],
        "limits": limits,
    }
    atomic.write_json(folder / "card.json", card)
    return card


def page(card: dict[str, Any]) -> str:
    """The card as a page of the documentation, Markdown."""
    value, full = f"{100 * card['value']:.2f} %", card["value_in_full_precision"]
    published = "none: these weights are a demonstration"
    if card["published"]:
        mean, deviation, n = (card["published"][name] for name in ("mean", "deviation", "n"))
        published = f"{100 * mean:.2f} " + ("% (1 run)" if n == 1 else f"± {100 * deviation:.2f} % (n = {n} seeds)")
    changed = ", ".join(f"`{name}` {value}" for name, value in card["overrides"].items()) or "as it stands in the task"
    source = f"--data {'sample' if card['data'].endswith('-sample') else 'official'} --seed {card['seed']}"
    if card.get("recipe") == "best":
        source += " --recipe best"
    source += "".join(f" --{name.replace('_', '-')} {value}" for name, value in card["overrides"].items())
    rows = {
        "network": card["network"],
        "trained and measured on": f"`{card['data']}`",
        f"{card['metric']} on the test split, as shipped": f"**{value}**",
        "the same in full precision": "not measured with today's code" if full is None else f"{100 * full:.2f} %",
        "published, over seeds": published,
        "bar": "none" if card["bar"] is None else f"{100 * card['bar']:g} %",
        "encoder": card["encoder"] or "none",
        "parameters": f"{card['parameters']:,}",
        "size": f"{card['bytes'] / 1e6:.1f} MB",
        "sha256": f"`{card['sha256'][:16]}…`",
        "recipe": f"{changed}; `decathlon train {card['task']} {source}` with this copy",
        "commit, date": f"`{card['commit']}`, {card['date']}",
        "hardware": card["hardware"],
        "versions": ", ".join(f"{name} {card['versions'][name]}" for name in ("torch", "torchvision", "decathlon")),
    }
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    limits = "\n".join(f"- {limit}" for limit in card["limits"])
    return (
        f"# The weights of {card['task']}\n\n"
        f"Written by `make weights` from [card.json](../../src/decathlon/weights/{card['task']}/card.json). "
        f"The task: [{card['task']}](../tasks/{card['task']}.md).\n\n"
        f"| | |\n| --- | --- |\n{table}\n\n## Limitations\n\n{limits}\n"
    )
