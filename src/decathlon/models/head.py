"""A small multilayer perceptron on vectors that another network, which stays as it is, has made."""

from __future__ import annotations

from torch import Tensor, nn


class Head(nn.Module):
    """Vectors to class scores through hidden layers.

    The vectors are first brought to mean 0 and deviation 1 by the batch norm without weights: by each batch's own in
    training, by the average over batches after it.

    Args:
        inputs: Values in a vector.
        hidden: Units of each hidden layer.
        dropout: Share of the values that is dropped before each fully connected layer.
        standardise: Whether to bring the values to one mean and deviation.
        classes: Scores to give.
    """

    def __init__(
        self,
        inputs: int,
        hidden: tuple[int, ...] = (256,),
        dropout: float = 0.5,
        standardise: bool = True,
        classes: int = 2,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.BatchNorm1d(inputs, affine=False)] if standardise else []
        for before, after in zip((inputs, *hidden), hidden, strict=False):
            layers += [nn.Dropout(dropout), nn.Linear(before, after), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Dropout(dropout), nn.Linear((inputs, *hidden)[-1], classes))

    def forward(self, vectors: Tensor) -> Tensor:
        """Vectors (N, inputs) -> scores (N, classes)."""
        return self.layers(vectors)
