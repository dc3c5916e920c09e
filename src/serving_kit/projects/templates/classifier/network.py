"""A classifier of pictures, in the layout of flowvision's ResNets, made small.

Bring your own: export.py, the tests and the checks use only ``network`` and ``examples``. With
flowvision installed, ``network`` can return ``flowvision.models.resnet18()`` with your weights.
"""

from pathlib import Path

import cv2
import numpy as np
import oneflow as flow
from oneflow import nn

HERE = Path(__file__).resolve().parent
LABELS = ("circle", "cross", "square", "triangle")
SIZE = 32


class BasicBlock(nn.Module):
    """Two convolutions, and a way past them."""

    def __init__(self, before, after, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.downsample = None
        if stride > 1 or before != after:
            conv = nn.Conv2d(before, after, 1, stride, bias=False)
            self.downsample = nn.Sequential(conv, nn.BatchNorm2d(after))

    def forward(self, x):
        """Return maps with ``after`` channels."""
        way_past = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(x)) + way_past)


class ResNet(nn.Module):
    """With ``layers=(2, 2, 2, 2)`` and ``width=64`` this is flowvision's resnet18."""

    def __init__(self, layers=(1, 1, 1, 1), width=8, num_classes=4):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        before = width
        for i, count in enumerate(layers):
            blocks = []
            for k in range(count):
                blocks.append(BasicBlock(before, width << i, 2 if i and not k else 1))
                before = width << i
            setattr(self, f"layer{i + 1}", nn.Sequential(*blocks))
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(before, num_classes)

    def forward(self, x):
        """Return a score for each label, float32 (n, 4), of pictures, float32 (n, 3, 32, 32)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(flow.flatten(self.avgpool(x), 1))


def network(version):
    """Return the network with the weights of a version, ready to be served."""
    module = ResNet()
    module.load_state_dict(flow.load(str(HERE / "weights" / str(version))))
    return module.eval()


def examples():
    """Return example rows for each input: 8 drawings, one after the other label."""
    return [np.stack([draw(i % len(LABELS), seed=i) for i in range(8)])]


def draw(label, seed):
    """Return a drawing of one shape, float32 (3, 32, 32), 0 to 1."""
    random = np.random.default_rng(seed)
    image = np.full((64, 64, 3), random.uniform(0, 0.4, 3), np.float32)
    colour = tuple(float(value) for value in random.uniform(0.6, 1, 3))
    (x, y), radius = random.integers(24, 41, 2).tolist(), int(random.integers(14, 21))
    if LABELS[label] == "circle":
        cv2.circle(image, (x, y), radius, colour, -1)
    else:
        corners = 3 if LABELS[label] == "triangle" else 4
        angles = random.uniform(0, 6.3) + np.arange(corners) * 2 * np.pi / corners
        points = np.stack([x + radius * np.cos(angles), y + radius * np.sin(angles)], 1)
        points = points.round().astype(np.int32)
        if LABELS[label] == "cross":
            cv2.line(image, points[0].tolist(), points[2].tolist(), colour, 6)
            cv2.line(image, points[1].tolist(), points[3].tolist(), colour, 6)
        else:
            cv2.fillPoly(image, [points], colour)
    image = cv2.resize(image, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    noise = random.normal(0, 0.02, image.shape).astype(np.float32)
    return np.clip(image + noise, 0, 1).transpose(2, 0, 1)
