"""U-Net with a part left out, for the experiments of docs/tasks/pets-unet.md, in the sample's size."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTHS = (8, 16, 32, 64)  # filters of the encoder blocks in the sample's recipe


class UNet(nn.Module):
    """Images (N, 3, S, S) in [0, 1], S a multiple of 16 -> logits (N, 1, S, S)."""

    def __init__(self, skips: bool = True, norm: bool = True) -> None:
        super().__init__()
        self.skips = skips
        self.encoder = nn.ModuleList(block(i, o, o, norm) for i, o in zip((3, *WIDTHS), WIDTHS, strict=False))
        self.bottleneck = block(64, 64, 64, norm)
        # Widths of decoder blocks: 64, 32, 16, 8; each ends with the width of the next.
        inputs = 2 if skips else 1  # with skip connections a block reads twice as many channels
        self.decoder = nn.ModuleList(
            block(inputs * w, w, up, norm) for w, up in zip(WIDTHS[::-1], (32, 16, 8, 8), strict=True)
        )
        self.output = nn.Conv2d(8, 1, 1)
        nn.init.normal_(self.output.weight, std=2 / 8**0.5)

    def forward(self, images: Tensor) -> Tensor:
        """Down, across and up again."""
        maps, skips = images, []
        for down in self.encoder:
            skips.append(down(maps))
            maps = F.max_pool2d(skips[-1], 2)
        maps = self.bottleneck(maps)  # (N, 64, S/16, S/16)
        for up in self.decoder:
            skip = skips.pop()
            maps = F.interpolate(maps, skip.shape[2:], mode="bilinear")
            maps = up(torch.cat([skip, maps], 1) if self.skips else maps)
        return self.output(maps)


def block(in_channels: int, hidden_channels: int, out_channels: int, norm: bool) -> nn.Sequential:
    """Two 3×3 convolutions, each with ReLU and, unless left out, batch norm."""
    layers: list[nn.Module] = []
    for inputs, outputs in ((in_channels, hidden_channels), (hidden_channels, out_channels)):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1, bias=not norm)]
        layers += [nn.BatchNorm2d(outputs)] if norm else []
        layers += [nn.ReLU()]
    return nn.Sequential(*layers)


def without_skips() -> nn.Module:
    """The decoder sees the bottleneck only."""
    return UNet(skips=False)


def without_norm() -> nn.Module:
    """No batch norm; the convolutions have a bias instead."""
    return UNet(norm=False)
