"""U-Net: an encoder, a bottleneck and a decoder that gets each level's maps back (Ronneberger et al. 2015)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEVELS = 4


class UNet(nn.Module):
    """Four blocks down, a bottleneck, four blocks up, and one score a pixel. Source: arXiv:1505.04597, figure 1.

    Unlike there, convolutions are padded, so that the mask is as large as the image; batch norm follows each; and
    the way up is interpolation instead of a transposed convolution. A block's last convolution already brings the
    maps to the next level's width, so that half of what a level joins comes from below and half from beside it.

    Args:
        width: Filters of the first block; each level below has twice as many, the bottleneck as many as the last.
        channels: Channels of the images.
    """

    def __init__(self, width: int = 16, channels: int = 3) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(LEVELS)]  # 16, 32, 64, 128
        above = [width, *widths[:-1]]  # what a level's way up ends with: 16, 16, 32, 64
        pairs = zip([channels, *widths], widths, strict=False)
        self.encoder = nn.ModuleList(block(inputs, outputs, outputs) for inputs, outputs in pairs)
        self.bottleneck = block(widths[-1], widths[-1], widths[-1])
        self.decoder = nn.ModuleList(block(2 * w, w, up) for w, up in zip(widths[::-1], above[::-1], strict=True))
        self.output = nn.Conv2d(width, 1, 1)
        # A length of 2: Muon keeps it, and weights as short as torch draws them could never be sure of a pixel.
        nn.init.normal_(self.output.weight, std=2 / width**0.5)

    def forward(self, images: Tensor) -> Tensor:
        """Float images (N, 3, H, W), H and W multiples of 16 -> scores (N, 1, H, W), above 0 where there is a pet."""
        maps, beside = images, []
        for down in self.encoder:
            beside.append(down(maps))  # (N, 16, H, W), (N, 32, H/2, W/2), (N, 64, H/4, W/4), (N, 128, H/8, W/8)
            maps = F.max_pool2d(beside[-1], 2)
        maps = self.bottleneck(maps)  # (N, 128, H/16, W/16)
        for up in self.decoder:
            skip = beside.pop()
            wide = F.interpolate(maps, skip.shape[2:], mode="bilinear")  # (N, C, H/2, W/2) -> (N, C, H, W)
            maps = up(torch.cat([skip, wide], 1))  # two of (N, C, H, W) -> (N, 2 C, H, W) -> (N, C/2, H, W)
        return self.output(maps)


def block(inputs: int, middle: int, outputs: int) -> nn.Sequential:
    """Two 3×3 convolutions, each with batch norm and ReLU: (N, inputs, H, W) -> (N, outputs, H, W)."""
    layers: list[nn.Module] = []
    for given, made in ((inputs, middle), (middle, outputs)):
        layers += [nn.Conv2d(given, made, 3, padding=1, bias=False), nn.BatchNorm2d(made), nn.ReLU()]
    return nn.Sequential(*layers)
