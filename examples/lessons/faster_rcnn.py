"""Faster R-CNN with a frozen backbone, for an experiment of docs/tasks/voc-faster-rcnn.md, in the sample's size."""

from torch import nn

from decathlon.models.faster_rcnn import small_faster_rcnn


def frozen_backbone() -> nn.Module:
    """A backbone that keeps its random initial weights, as if they were pretrained."""
    network = sample_network()
    network.backbone.requires_grad_(False)
    return network


def sample_network() -> nn.Module:
    """The network of the sample's recipe: four classes, a small backbone."""
    sizes = {"min_size": 120, "max_size": 160, "box_batch_size_per_image": 32}
    proposals = {"rpn_pre_nms_top_n_train": 200, "rpn_post_nms_top_n_train": 100}
    return small_faster_rcnn(4, (16, 22), (16, 32, 64, 96), 256, **sizes, **proposals)
