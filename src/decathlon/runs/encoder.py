"""The encoder of a finished pre-training as a folder, for `--encoder`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from decathlon.data import embeddings
from decathlon.data.io import atomic
from decathlon.messages import say
from decathlon.runs.folder import read_json
from decathlon.runs.load import load_run

SUMMARY_FIELDS = (
    *("data", "metrics", "seed", "steps", "train_seconds"),
    *("device", "hardware", "threads", "commit", "versions"),
)


def export(run: Path) -> Path:
    """Write the encoder of a finished pre-training, with a model card. Returns its folder."""
    loaded, summary = load_run(run), read_json(run / "summary.json")
    folder, network = run / "encoder", cast(Any, loaded.model).encoder
    embeddings.write_encoder(folder, network, embeddings.read_tokenizer(loaded.info.tokenizer))
    card = {"made_by": f"decathlon train {loaded.task.SPEC.id}", "recipe": loaded.config.recipe}
    atomic.write_json(folder / "card.json", card | {name: summary[name] for name in SUMMARY_FIELDS})
    say(f"encoder: {folder}")
    return folder
