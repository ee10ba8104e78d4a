"""TextCNN: convolutions over word embeddings, max over time (Kim 2014, arXiv:1408.5882)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

PAD = 0  # the padding id


class TextCNN(nn.Module):
    """Parallel convolutions of several kernel sizes over word embeddings, max over time, one fully connected layer.

    Args:
        vocab_size: Rows of the embedding table, among them those of the padding and the unknown token.
        embedding_dim: Embedding dimension.
        kernel_sizes: Kernel sizes of the convolutions, in words.
        filters: Filters of each kernel size.
        dropout: Dropout probability before the fully connected layer.
        num_classes: Number of classes.
    """

    def __init__(
        self,
        vocab_size: int,
        embedding_dim: int = 100,
        kernel_sizes: tuple[int, ...] = (1, 2, 3),
        filters: int = 100,
        dropout: float = 0.5,
        num_classes: int = 2,
    ) -> None:
        super().__init__()
        self.kernel_sizes, self.filters = kernel_sizes, filters
        # Sparse: a step updates the few thousand rows of its batch, not the whole table.
        self.vectors = nn.Embedding(vocab_size, embedding_dim, padding_idx=PAD, sparse=True)
        self.convolutions = nn.ModuleList(nn.Conv1d(embedding_dim, filters, size) for size in kernel_sizes)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(filters * len(kernel_sizes), num_classes)

    def forward(self, tokens: Tensor) -> Tensor:
        """Token ids (N, L), padded with 0 -> logits (N, num_classes)."""
        return self.classify(self.activations(tokens))

    def activations(self, tokens: Tensor) -> list[Tensor]:
        """Activations of the filters at each position, 0 after the last word.

        Args:
            tokens: Ids (N, L), padded with 0.

        Returns:
            For each kernel size (N, filters, L or more).
        """
        if not torch.compiler.is_exporting():  # an exported graph cannot have sizes that depend on values
            tokens = trim_padding(tokens)
        # Every text is followed by padding, so that its last words begin the same n-grams in any batch.
        tokens = nn.functional.pad(tokens, (0, max(self.kernel_sizes) - 1))
        vectors = self.vectors(tokens).transpose(1, 2)  # (N, L) -> (N, L, embedding_dim) -> (N, embedding_dim, L)
        is_word = (tokens != PAD).unsqueeze(1)  # (N, 1, L)
        activations = [convolution(vectors).relu() for convolution in self.convolutions]
        # n-grams that start in the padding get 0, the minimum of ReLU, so that the maximum ignores them.
        return [values * is_word[..., : values.shape[2]] for values in activations]

    def classify(self, activations: list[Tensor]) -> Tensor:
        """Max over time and the fully connected layer: what `activations` returns -> logits (N, num_classes)."""
        return self.output(self.dropout(torch.cat([values.max(2).values for values in activations], 1)))

    def forward_with_attributions(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Logits, and how much each word contributed to each class's logit through the n-grams of the maxima.

        Args:
            tokens: Ids (N, L), padded with 0.

        Returns:
            Logits (N, num_classes), and contributions relative to the mean over classes, (N, num_classes, L).
        """
        activations, weight = self.activations(tokens), self.output.weight
        attributions = torch.zeros(len(tokens), len(weight), tokens.shape[1], device=tokens.device)
        last_word = ((tokens != PAD).sum(1, keepdim=True) - 1).clamp(min=0)  # (N, 1)
        for index, (size, values) in enumerate(zip(self.kernel_sizes, activations, strict=True)):
            maximum = values.max(2, keepdim=True).values  # (N, filters, 1)
            # Equal n-grams may differ by rounding: the first of those within 1e-5 of the maximum is taken.
            positions = (values >= maximum * (1 - 1e-5)).float().argmax(2)  # (N, filters)
            columns = slice(index * self.filters, (index + 1) * self.filters)
            relative = (weight - weight.mean(0))[:, columns]  # (num_classes, filters)
            ngrams = maximum[:, None, :, 0] * relative  # (N, num_classes, filters)
            for offset in range(size):  # an n-gram's contribution is divided evenly among its words
                indices = torch.minimum(positions + offset, last_word)[:, None]
                attributions = attributions.scatter_add(2, indices.expand(-1, len(weight), -1), ngrams / size)
        return self.classify(activations), attributions


def trim_padding(tokens: Tensor, min_length: int = 1) -> Tensor:
    """Token ids (N, L) cut, or padded, to the length of the longest text, but at least to `min_length`."""
    length = max(min_length, int((tokens != PAD).sum(1).max()))
    return nn.functional.pad(tokens, (0, length))[:, :length]


class WithAttributions(nn.Module):
    """A TextCNN that returns the logits and the contribution of each word, for export.

    Args:
        network: The trained network.
    """

    def __init__(self, network: TextCNN) -> None:
        super().__init__()
        self.network = network

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """As `TextCNN.forward_with_attributions`."""
        return self.network.forward_with_attributions(tokens)
