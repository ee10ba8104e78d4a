"""RoBERTa with what its pre-training puts on top (Liu et al. 2019, arXiv:1907.11692). The encoder is transformers'."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import RobertaConfig, RobertaModel

PAD = 1  # the number of no piece; positions are counted from the number after it


class MaskedLM(nn.Module):
    """Pieces, some of them hidden, to a score of every piece for each hidden place.

    Args:
        vocabulary: Pieces there are.
        hidden: Values in a piece's vector.
        layers: Transformer layers.
        heads: Attention heads of a layer.
        positions: Places that have a vector.
    """

    def __init__(self, vocabulary: int, hidden: int, layers: int, heads: int, positions: int) -> None:
        super().__init__()
        config = RobertaConfig(
            vocab_size=vocabulary,
            hidden_size=hidden,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            intermediate_size=4 * hidden,
            max_position_embeddings=positions + PAD + 1,
            type_vocab_size=1,
            layer_norm_eps=1e-5,
            hidden_dropout_prob=0.0,  # a pass or two over the texts: nothing to guard against
            attention_probs_dropout_prob=0.0,
            bos_token_id=0,
            pad_token_id=PAD,
            eos_token_id=2,
        )
        self.encoder = RobertaModel(config, add_pooling_layer=False)
        self.dense, self.norm = nn.Linear(hidden, hidden), nn.LayerNorm(hidden)
        self.bias = nn.Parameter(torch.zeros(vocabulary))

    def forward(self, pieces: Tensor, first: Tensor, chosen: Tensor) -> Tensor:
        """Scores of the pieces at the chosen places, and only there: the output is the largest matrix by far.

        Args:
            pieces: Numbers (N, L), nothing padded.
            first: The position (N,) of each row's first piece.
            chosen: bool (N, L), M of them true.

        Returns:
            float (M, vocabulary).
        """
        places = first[:, None] + torch.arange(pieces.shape[1], device=pieces.device) + PAD + 1  # (N, L)
        vectors = self.encoder(input_ids=pieces, position_ids=places).last_hidden_state[chosen]  # (N, L, h) -> (M, h)
        guess = self.norm(F.gelu(self.dense(vectors)))
        return F.linear(guess, self.encoder.embeddings.word_embeddings.weight, self.bias)  # tied to the piece vectors
