"""Networks that are loaded on first use and then stay: those that ship with the package, or the newest runs."""

from __future__ import annotations

import threading
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from sklearn.ensemble import RandomForestClassifier

from decathlon import encoder, run
from decathlon.finished import Loaded, find_run, load_run
from decathlon.recipe import get_task
from decathlon.report import percent


@dataclass(frozen=True)
class Network:
    """A network that answers, and what is to be said of it.

    Attributes:
        loaded: Task, network in evaluation mode, recipe and config.
        told: What its weights were trained on and how well they do: one line for the page.
        limit: The first thing that its card says they cannot do.
    """

    loaded: Loaded
    told: str
    limit: str

    @property
    def model(self) -> Any:
        """The network."""
        return self.loaded.model

    @property
    def classes(self) -> list[str]:
        """The names it gives."""
        return cast("list[str]", self.loaded.config["meta"]["classes"])

    @property
    def meta(self) -> dict[str, Any]:
        """What it knows of its data."""
        return cast("dict[str, Any]", self.loaded.config["meta"])

    @cached_property
    def forest(self) -> RandomForestClassifier:
        """The autoencoder's forest, grown once; it answers in one thread, since several wait for each other longer."""
        from decathlon.tasks import mnist_autoencoder

        grown = mnist_autoencoder.grow(self.model, cast(Any, self.loaded.recipe))
        grown.n_jobs = 1
        return grown

    @cached_property
    def encoder(self) -> encoder.Encoder:
        """The encoder that makes the vectors which `imdb-roberta` classifies.

        Raises:
            ValueError: The one at hand is not the one that the network was trained on.
        """
        recipe: Any = self.loaded.recipe
        found = encoder.find(recipe.encoder, recipe.length, recipe.layers, recipe.pooling, download=False)
        if found.name != self.meta["encoder"]:
            raise ValueError(f"imdb-roberta was trained on vectors of {self.meta['encoder']}, but here is {found.name}")
        return found


_networks: dict[str, Network] = {}
_locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)


def network(task_id: str) -> Network:
    """The network of a task; the first call loads it, while others that want the same one wait.

    Raises:
        ValueError: There is none, or it is damaged; in one line.
    """
    if task_id not in _networks:
        with _locks[task_id]:
            if task_id not in _networks:
                folder = find_run(task_id, None)
                ready = Network(load_run(folder), *told(task_id, folder))
                warmed(ready)
                _networks[task_id] = ready
    return _networks[task_id]


def warmed(ready: Network) -> None:
    """Make now what belongs to a network besides its weights, so that no two visitors make it at once."""
    if ready.loaded.task.CARD.id == "mnist-autoencoder":
        _ = ready.forest
    if ready.loaded.task.CARD.id == "imdb-roberta":
        _ = ready.encoder


def forget() -> None:
    """Let go of all networks."""
    _networks.clear()


def card(task_id: str, folder: Path | None = None) -> dict[str, Any]:
    """What is known of the weights that answer: the card of those that ship, or else the run's summary.

    Raises:
        ValueError: There is none, or it is damaged.
    """
    folder = folder or find_run(task_id, None)
    shipped = folder / "card.json"
    return run.read_json(shipped if shipped.exists() else folder / "summary.json")


def told(task_id: str, folder: Path) -> tuple[str, str]:
    """`Trained on mnist: accuracy 99.36 % on its test split (3 runs: 99.28 ± 0.02 %).`, and the first limit."""
    known = card(task_id, folder)
    metric = known.get("metric", get_task(task_id).CARD.metric)
    words = f"Trained on {known['data']}: {metric} {percent(known['value'])} on its test split"
    if several := known.get("published"):
        words += f" ({several['n']} runs: {100 * several['mean']:.2f} ± {100 * several['deviation']:.2f} %)"
    made = "It knows nothing but that sample, which is drawn or composed by the package."
    limits = known.get("limits") or ([made] if known["data"].endswith("-sample") else [""])
    return f"{words}.", limits[0]
