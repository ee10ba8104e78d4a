"""RetinaNet with a part taken out, for the experiments of docs/tasks/voc-retinanet.md, in the sample's size."""

import torch
from torch import Tensor, nn
from torchvision.models.detection.retinanet import RetinaNetClassificationHead
from torchvision.ops import sigmoid_focal_loss

from decathlon.models.retinanet import small_retinanet


class CrossEntropyHead(RetinaNetClassificationHead):
    """A classification head with binary cross-entropy in place of the focal loss."""

    def compute_loss(
        self, targets: list[dict[str, Tensor]], head_outputs: dict[str, Tensor], matched_idxs: list[Tensor]
    ) -> Tensor:
        """The mean over images of: the sum over anchors and classes, by the number of positive anchors."""
        losses = []
        for target, logits, matches in zip(targets, head_outputs["cls_logits"], matched_idxs, strict=True):
            positive = matches >= 0  # (anchors,)
            truth = torch.zeros_like(logits)  # (anchors, classes)
            truth[positive, target["labels"][matches[positive]]] = 1.0
            used = matches != self.BETWEEN_THRESHOLDS
            # alpha < 0 and gamma = 0 turn the focal loss into binary cross-entropy.
            loss = sigmoid_focal_loss(logits[used], truth[used], alpha=-1, gamma=0, reduction="sum")
            losses.append(loss / max(1, int(positive.sum())))
        return torch.stack(losses).mean()


def cross_entropy() -> nn.Module:
    """Without the focal loss."""
    network = sample_network()
    network.head.classification_head.__class__ = CrossEntropyHead
    return network


def without_prior() -> nn.Module:
    """Without the initial bias: every anchor starts with a probability of 0.5 instead of 0.01."""
    network = sample_network()
    nn.init.zeros_(network.head.classification_head.cls_logits.bias)
    return network


def sample_network() -> nn.Module:
    """The network of the sample's recipe: four classes, a small backbone, group norm in the heads."""
    options = {"min_size": 120, "max_size": 160, "detections_per_img": 100}
    return small_retinanet(4, (16, 32, 64), (16, 32, 64, 96), "group", **options)
