"""Text classification with attributions: the contribution of each word to the logits."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from decathlon.data import imdb
from decathlon.data.base import DataInfo
from decathlon.data.transforms import words
from decathlon.evaluation.classification import rank_classes
from decathlon.evaluation.onnx_graph import OnnxNetwork
from decathlon.evaluation.predictions import TextClassification, device_of, predict_in_batches, require_text
from decathlon.models.textcnn import TextCNN, trim_padding


def predict(
    model: nn.Module, inputs: Sequence[str], max_length: int, info: DataInfo, batch_size: int
) -> list[TextClassification | Exception]:
    """Label, probabilities and attributions of the words, for texts; or its error where a text has no words.

    Args:
        model: Token ids (N, L), padded with 0 -> logits (N, num_classes), or these and attributions.
        inputs: The texts.
        max_length: Of longer ones the head and tail are read, in words.
        info: Class names and vocabulary.
        batch_size: Texts that go through the network at once.
    """

    def read(text: str, index: int) -> tuple[str, list[str]]:
        require_text(text)
        tokens = words.split(imdb.clean_text(text))
        if not tokens:
            raise ValueError(f"the review {text[:40]!r} holds no word")
        return text, tokens

    def predict_batch(examples: list[tuple[str, list[str]]]) -> list[TextClassification]:
        token_ids = torch.from_numpy(words.encode([tokens for _, tokens in examples], info.vocabulary, max_length))
        rows = zip(examples, token_ids, *attribute(model, token_ids), strict=True)
        return [
            explain(text, tokens, ids, logits, attributions, max_length, info)
            for (text, tokens), ids, logits, attributions in rows
        ]

    return predict_in_batches(inputs, read, predict_batch, batch_size)


def explain(
    text: str,
    tokens: list[str],
    token_ids: Tensor,
    logits: Tensor,
    attributions: Tensor,
    max_length: int,
    info: DataInfo,
) -> TextClassification:
    """The prediction for a text with token ids (L,), logits (num_classes,) and attributions (num_classes, L)."""
    notes = []
    if len(tokens) > max_length:
        notes.append(f"{len(tokens):,} words: its first and last {max_length // 2} were read")
    unknown, count = int((token_ids == words.UNKNOWN).sum()), int((token_ids != words.PAD).sum())
    if unknown == count:
        notes.append("none of its words is in the vocabulary: the prediction is a guess")
    elif unknown > count / 2:
        notes.append(f"{100 * unknown / count:.0f} % of its words are not in the vocabulary")
    ranked = rank_classes(logits.softmax(0).tolist(), info.classes)
    pairs = []
    if len(attributions):
        of_label = attributions[info.classes.index(ranked["label"])]
        pairs = pair_words(words.head_and_tail(tokens, max_length), of_label)
    return TextClassification(input=text, notes=tuple(notes), attributions=tuple(pairs), **ranked)


@torch.no_grad()
def attribute(model: nn.Module, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (N, num_classes) of texts (N, L), and each word's contribution to them, (N, num_classes, L), on the CPU.

    Texts of one length go through the network together: a user's network may not ignore padding. The contributions are
    (N, 0, L) for a network that does not return any.
    """
    lengths, device = (tokens != words.PAD).sum(1), device_of(model)
    logits, attributions = [torch.empty(0)] * len(tokens), [tokens.new_empty(0, tokens.shape[1])] * len(tokens)
    for length in lengths.unique():
        rows = (lengths == length).nonzero()[:, 0]
        batch = tokens[rows].to(device)
        if isinstance(model, OnnxNetwork):
            batch = trim_padding(batch, model.input_entry("min_length"))
        output = model.forward_with_attributions(batch) if isinstance(model, TextCNN) else model(batch)
        pair = output if isinstance(output, tuple) else (output, None)
        for position, row in enumerate(rows.tolist()):
            logits[row] = pair[0][position].float().cpu()
            if pair[1] is not None:
                attributions[row] = F.pad(pair[1][position].cpu(), (0, tokens.shape[1] - pair[1].shape[2]))
    return torch.stack(logits), torch.stack(attributions)


def pair_words(text: list[str], weights: Tensor) -> list[tuple[str, float]]:
    """Each word of a text with its attribution (L,)."""
    return [(word, round(weight, 3)) for word, weight in zip(text, weights.tolist(), strict=False)]
