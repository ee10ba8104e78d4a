"""U-Net: an encoder, a bottleneck, and a decoder with skip connections from the encoder (Ronneberger et al. 2015)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEVELS = 4


class UNet(nn.Module):
    """Four encoder blocks, a bottleneck, four decoder blocks, one logit a pixel. Source: arXiv:1505.04597, figure 1.

    Unlike there, convolutions are padded, so that the mask has the size of the image; each is followed by batch norm;
    and the decoder upsamples by interpolation instead of transposed convolution. The last convolution of a decoder
    block reduces the channels to the next level's width, so that the next block gets half of its input channels from
    below and half from the skip connection.

    Args:
        width: Filters of the first block; each level below has twice as many, the bottleneck as many as the last.
        channels: Channels of the images.
    """

    def __init__(self, width: int = 16, channels: int = 3) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(LEVELS)]  # 16, 32, 64, 128
        above = [width, *widths[:-1]]  # outputs of the decoder blocks: 16, 16, 32, 64
        pairs = zip([channels, *widths], widths, strict=False)
        self.encoder = nn.ModuleList(block(inputs, outputs, outputs) for inputs, outputs in pairs)
        self.bottleneck = block(widths[-1], widths[-1], widths[-1])
        self.decoder = nn.ModuleList(block(2 * w, w, up) for w, up in zip(widths[::-1], above[::-1], strict=True))
        self.output = nn.Conv2d(width, 1, 1)
        # A norm of 2: Muon keeps the norm, and with the small one of torch's initialisation no logit could be large.
        nn.init.normal_(self.output.weight, std=2 / width**0.5)

    def forward(self, images: Tensor) -> Tensor:
        """Float images (N, 3, H, W), H and W multiples of 16 -> logits (N, 1, H, W), above 0 for pet."""
        maps, skips = images, []
        for down in self.encoder:
            skips.append(down(maps))  # (N, 16, H, W), (N, 32, H/2, W/2), (N, 64, H/4, W/4), (N, 128, H/8, W/8)
            maps = F.max_pool2d(skips[-1], 2)
        maps = self.bottleneck(maps)  # (N, 128, H/16, W/16)
        for up in self.decoder:
            skip = skips.pop()
            upsampled = F.interpolate(maps, skip.shape[2:], mode="bilinear")  # (N, C, H/2, W/2) -> (N, C, H, W)
            maps = up(torch.cat([skip, upsampled], 1))  # two of (N, C, H, W) -> (N, 2 C, H, W) -> (N, C/2, H, W)
        return self.output(maps)


def block(in_channels: int, hidden_channels: int, out_channels: int) -> nn.Sequential:
    """Two 3×3 convolutions, each with batch norm and ReLU: (N, in_channels, H, W) -> (N, out_channels, H, W)."""
    layers: list[nn.Module] = []
    for inputs, outputs in ((in_channels, hidden_channels), (hidden_channels, out_channels)):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers)
