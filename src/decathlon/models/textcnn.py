"""TextCNN: convolutions over word vectors, the largest answer over time (Kim 2014, arXiv:1408.5882)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

PAD = 0  # the number of no word


class TextCNN(nn.Module):
    """Word numbers to class scores through convolutions of several widths side by side.

    Args:
        words: Rows of the table of word vectors.
        vector: Values in a word vector.
        widths: Words that a filter sees at once, one convolution each.
        filters: Filters of each width.
        dropout: Share of the filters' answers that is dropped in training.
        classes: Scores to give.
    """

    def __init__(
        self,
        words: int,
        vector: int = 100,
        widths: tuple[int, ...] = (1, 2, 3),
        filters: int = 100,
        dropout: float = 0.5,
        classes: int = 2,
    ) -> None:
        super().__init__()
        self.widths, self.filters = widths, filters
        # Sparse: a step changes the few thousand rows of its batch, and leaves the rest of the table alone.
        self.vectors = nn.Embedding(words, vector, padding_idx=PAD, sparse=True)
        self.convolutions = nn.ModuleList(nn.Conv1d(vector, filters, width) for width in widths)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(filters * len(widths), classes)

    def forward(self, tokens: Tensor) -> Tensor:
        """Word numbers (N, L), zeros after the last word -> scores (N, classes)."""
        answers, _ = self.strongest(tokens)
        return self.output(self.dropout(answers))

    def strongest(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Each filter's largest answer in a text, and the place of the first word it was given for.

        Returns:
            Answers, and places, both (N, filters · widths).
        """
        longest = max(*self.widths, int((tokens != PAD).sum(1).max()))
        tokens = nn.functional.pad(tokens, (0, longest))[:, :longest]  # at least as long as the widest filter
        vectors = self.vectors(tokens).transpose(1, 2)  # (N, L) -> (N, L, vector) -> (N, vector, L)
        word = (tokens != PAD).unsqueeze(1)  # (N, 1, L)
        answers, places = [], []
        for convolution in self.convolutions:
            maps = convolution(vectors).relu()  # (N, filters, L - width + 1)
            # An answer that starts behind the last word is 0, as small as ReLU's answers get.
            value, place = (maps * word[..., : maps.shape[2]]).max(2)  # (N, filters), twice
            answers.append(value)
            places.append(place)
        return torch.cat(answers, 1), torch.cat(places, 1)

    def spoken_for(self, tokens: Tensor, label: int) -> Tensor:
        """How much each word of one text (1, L) spoke for a class, through the n-grams that the maximum chose: (L,)."""
        answers, places = self.strongest(tokens)
        out = self.output.weight
        spoken = answers[0] * (out[label] - out.mean(0))  # (filters · widths,)
        weights = torch.zeros(tokens.shape[1], device=tokens.device)
        for number, width in enumerate(self.widths):
            chosen = slice(number * self.filters, (number + 1) * self.filters)
            for offset in range(width):  # an n-gram's weight, shared evenly among its words
                place = (places[0, chosen] + offset).clamp(max=len(weights) - 1)
                weights.index_add_(0, place, spoken[chosen] / width)
        return weights
