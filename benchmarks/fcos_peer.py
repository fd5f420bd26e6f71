"""torchvision's FCOS, trained on some photos for so many processor seconds: the other side of `detector_peer`.

It runs in a Python that has torch, torchvision and h5py, and not selftrain: `python fcos_peer.py TASK ANSWERS`. Both
sides begin with the same ImageNet weights of MobileNetV2, which are read from Keras's file. Frozen batch norm, the
feature pyramid and the levels are as torchvision's own detectors have them.
"""

from __future__ import annotations

import json
import random
import sys
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from PIL import Image
from torch import nn
from torchvision.models import mobilenet_v2
from torchvision.models.detection import FCOS
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.ops.feature_pyramid_network import LastLevelP6P7
from torchvision.ops.misc import FrozenBatchNorm2d

KERAS_EPSILON = 1e-3  # of MobileNetV2's batch norm
LEVELS = {"6": "0", "13": "1", "18": "2"}  # strides 8, 16 and 32
BATCH = 8


def detector(width: float, weights: str, *, side: int, channels: int) -> FCOS:
    """FCOS on MobileNetV2 with published weights; images get a shorter side of `side` pixels."""
    features = mobilenet_v2(width_mult=width, norm_layer=FrozenBatchNorm2d).features
    _as_keras_pads(features)
    _fill(features, weights)
    inputs = [features[6].out_channels, features[13].out_channels, features[18].out_channels]
    pyramid = BackboneWithFPN(features, LEVELS, inputs, channels, LastLevelP6P7(channels, channels))
    anchors = AnchorGenerator(tuple((each,) for each in (8, 16, 32, 64, 128)), ((1.0,),) * 5)
    return FCOS(
        pyramid,
        num_classes=1,
        anchor_generator=anchors,
        min_size=side,
        max_size=2 * side,
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
        score_thresh=0.02,
        detections_per_img=300,
    )


def _as_keras_pads(features: nn.Sequential) -> None:
    """Keras pads an even image of a stride of 2 on the right and below alone."""
    for parent in [each for each in features.modules() if isinstance(each, nn.Sequential)]:
        for name, layer in list(parent.named_children()):
            if isinstance(layer, nn.Conv2d) and layer.stride == (2, 2):
                layer.padding = (0, 0)
                setattr(parent, name, nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), layer))


def _fill(features: nn.Sequential, weights: str) -> None:
    """Keras's weights in torchvision's layers, which come in the same order: a convolution, then its batch norm."""
    with h5py.File(weights) as file:
        layers = [each for name in file.attrs["layer_names"] if (each := _arrays(file[name]))]
    left = iter(layers)
    for module in features.modules():
        if isinstance(module, nn.Conv2d):
            [kernel] = next(left).values()
            axes = (2, 3, 0, 1) if module.groups > 1 else (3, 2, 0, 1)
            module.weight.data = torch.tensor(np.ascontiguousarray(kernel.transpose(axes)))
        elif isinstance(module, FrozenBatchNorm2d):
            own, module.eps = next(left), KERAS_EPSILON
            module.weight.data, module.bias.data = torch.tensor(own["gamma"]), torch.tensor(own["beta"])
            module.running_mean.data = torch.tensor(own["moving_mean"])
            module.running_var.data = torch.tensor(own["moving_variance"])
    if next(left, None) is not None:
        raise SystemExit(f"{weights} has more layers than MobileNetV2")


def _arrays(layer: h5py.Group) -> dict[str, np.ndarray]:
    """The weights of a layer by their names."""
    found: dict[str, np.ndarray] = {}

    def keep(name: str, node: h5py.Group | h5py.Dataset) -> None:
        if isinstance(node, h5py.Dataset):
            found[name.rsplit("/", 1)[-1]] = np.asarray(node)

    layer.visititems(keep)
    return found


def trained(model: FCOS, photos: list[dict[str, Any]], *, seconds: float, rule: str) -> int:
    """Train for so many processor seconds; returns the steps. The rate falls with the seconds, by a cosine."""
    model.train()
    parameters = [each for each in model.parameters() if each.requires_grad]
    rate = {"sgd": 0.01, "adamw": 2e-3}[rule]
    optimizer = (
        torch.optim.SGD(parameters, lr=rate, momentum=0.9, weight_decay=1e-4)
        if rule == "sgd"
        else torch.optim.AdamW(parameters, lr=rate, weight_decay=1e-4)
    )
    images = [torch.from_numpy(np.array(Image.open(each["path"]).convert("RGB"))).permute(2, 0, 1) for each in photos]
    boxes = [torch.tensor(each["boxes"], dtype=torch.float32).reshape(-1, 4) for each in photos]
    started, steps, draw = time.process_time(), 0, random.Random(0)
    while (share := (time.process_time() - started) / seconds) < 1:
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (steps + 1) / 100) * 0.5 * (1 + np.cos(np.pi * share))
        moved = [_moved(images[k], boxes[k], draw) for k in draw.choices(range(len(images)), k=BATCH)]
        losses = model(
            [image.float() / 255 for image, _ in moved],
            [{"boxes": each, "labels": torch.zeros(len(each), dtype=torch.int64)} for _, each in moved],
        )
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        steps += 1
        if steps % 50 == 0:
            print(f"      step {steps}, {100 * share:.0f} %: {float(sum(losses.values())):.3f}", flush=True)
    return steps


def _moved(image: torch.Tensor, boxes: torch.Tensor, draw: random.Random) -> tuple[torch.Tensor, torch.Tensor]:
    """One of the eight turns and mirrorings, as the other side has them."""
    if draw.random() < 0.5:
        image, boxes = (
            image.flip(2),
            torch.stack([image.shape[2] - boxes[:, 2], boxes[:, 1], image.shape[2] - boxes[:, 0], boxes[:, 3]], 1),
        )
    if draw.random() < 0.5:
        image, boxes = (
            image.flip(1),
            torch.stack([boxes[:, 0], image.shape[1] - boxes[:, 3], boxes[:, 2], image.shape[1] - boxes[:, 1]], 1),
        )
    if draw.random() < 0.5:
        image, boxes = image.transpose(1, 2), boxes[:, [1, 0, 3, 2]]
    return image.contiguous(), boxes


def found(model: FCOS, paths: list[str]) -> list[dict[str, Any]]:
    """The boxes (x0, y0, x1, y1 in pixels) and scores in each photo."""
    model.eval()
    answers = []
    with torch.no_grad():
        for path in paths:
            pixels = torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1).float() / 255
            [answer] = model([pixels])
            answers.append({"boxes": answer["boxes"].tolist(), "scores": answer["scores"].tolist()})
    return answers


def main() -> None:
    """Do one task, and write what was found."""
    task = json.loads(Path(sys.argv[1]).read_text())
    torch.manual_seed(0)
    torch.set_num_threads(task["threads"])
    model = detector(task["width"], task["weights"], side=task["side"], channels=task["channels"])
    steps = trained(model, task["train"], seconds=task["seconds"], rule=task["rule"])
    Path(sys.argv[2]).write_text(json.dumps({"steps": steps, "found": found(model, task["test"])}))


if __name__ == "__main__":
    main()
