"""The trained weights that ship with the package: a small run folder a task, each with a card.

weights/<task>/config.json         task, recipe, and what prediction must know of the data, as in every run folder
weights/<task>/summary.json        what the run that made them measured
weights/<task>/model.safetensors   parameters in half precision; statistics and codes as they were
weights/<task>/card.json           what they are for, how good they are as they lie here, and what they cannot do
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from decathlon import run
from decathlon.data import files
from decathlon.recipe import task_ids
from decathlon.terminal import counted

WEIGHTS = Path(__file__).parent / "weights"
LARGEST = 40_000_000  # bytes, of all the weights together


def folder(task_id: str) -> Path | None:
    """Where the weights of a task lie; None where none ship."""
    place = WEIGHTS / task_id
    return place if task_id in task_ids() and (place / "card.json").exists() else None


def card(task_id: str) -> dict[str, Any]:
    """The card of a task's weights.

    Raises:
        FileNotFoundError: The package has none.
        ValueError: It is damaged.
    """
    return run.read_json(WEIGHTS / task_id / "card.json")


def words(card: dict[str, Any]) -> str:
    """One line on what the weights were trained on, and how good they are."""
    sample = " (drawn or composed here: a demonstration, no benchmark)" if card["data"].endswith("-sample") else ""
    value = f"{100 * card['value']:.2f} % {card['metric']} on its test split"
    return f"{card['task']} with the weights of the package: {value}, {card['data']}{sample}"


def pack(source: Path, limits: list[str], published: dict[str, Any] | None, out: Path = WEIGHTS) -> dict[str, Any]:
    """Make the shipped folder of a finished run, and measure what lies there: half precision is not what was trained.

    Args:
        source: The run folder.
        limits: What the weights cannot do, a sentence each.
        published: `mean`, `deviation` and `n` of the committed results of this recipe; None where there are none.
        out: The folder of all weights.

    Returns:
        The card.

    Raises:
        ValueError: The run had data, a network or code of its own: its weights could not be made again.
    """
    from decathlon import finished

    loaded, summary = finished.load_run(source), run.read_json(source / "summary.json")
    options = loaded.config["options"] | {"data_dir": None}
    if options["data"] not in ("official", "sample") or options["model"] or str(summary["commit"]).endswith("+"):
        raise ValueError(f"{source}: weights that ship are made from committed code, official data and our networks")
    place = out / summary["task"]
    place.mkdir(parents=True, exist_ok=True)
    run.write_json(place / "config.json", loaded.config | {"options": options})
    run.write_json(place / "summary.json", summary)
    parameters = dict(loaded.model.named_parameters())
    run.save_weights(
        place / "model.safetensors",
        {name: value.half() if name in parameters else value for name, value in loaded.model.state_dict().items()},
    )
    measured = finished.evaluate(place, None)
    card = {
        "task": summary["task"],
        "network": loaded.task.CARD.network,
        "data": summary["data"],
        "metric": summary["metric"],
        "value": measured["value"],
        "metrics": measured["metrics"],
        "value_in_full_precision": summary["value"],
        "published": published,
        "bar": summary["bar"],
        "parameters": summary["parameters"],
        "bytes": (place / "model.safetensors").stat().st_size,
        "sha256": files.sha256(place / "model.safetensors"),
        "seed": summary["seed"],
        "overrides": summary["overrides"],
        "encoder": summary.get("encoder"),
        "commit": summary["commit"],
        "date": time.strftime("%Y-%m-%d", time.gmtime((source / "summary.json").stat().st_mtime)),
        "hardware": f"{summary['hardware']} ({counted(summary['threads'], 'thread')})",
        "versions": summary["versions"],
        "limits": limits,
    }
    run.write_json(place / "card.json", card)
    return card


def page(card: dict[str, Any]) -> str:
    """The card as a page of the documentation, Markdown."""
    value, full = (f"{100 * card[name]:.2f} %" for name in ("value", "value_in_full_precision"))
    published = "none: these weights are a demonstration"
    if card["published"]:
        published = "{mean:.2f} ± {deviation:.2f} % (n = {n} seeds)".format(
            mean=100 * card["published"]["mean"],
            deviation=100 * card["published"]["deviation"],
            n=card["published"]["n"],
        )
    changed = ", ".join(f"`{name}` {value}" for name, value in card["overrides"].items()) or "as it stands in the task"
    source = f"--data {'sample' if card['data'].endswith('-sample') else 'official'} --seed {card['seed']}"
    rows = {
        "network": card["network"],
        "trained and measured on": f"`{card['data']}`",
        f"{card['metric']} on the test split, as shipped": f"**{value}**",
        "the same in full precision": full,
        "published, over seeds": published,
        "bar": "none" if card["bar"] is None else f"{100 * card['bar']:g} %",
        "encoder": card["encoder"] or "none",
        "parameters": f"{card['parameters']:,}",
        "size": f"{card['bytes'] / 1e6:.1f} MB",
        "sha256": f"`{card['sha256'][:16]}…`",
        "recipe": f"{changed}; `decathlon train {card['task']} {source}`",
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
        f"| | |\n| --- | --- |\n{table}\n\n## What they cannot do\n\n{limits}\n"
    )
