"""The layout of ResNet-50 v1.5 (bottlenecks 3-4-6-3, stride in the 3x3) at a quarter of its width."""

import torch
from torch import nn

WIDTH = 16
BLOCKS = (3, 4, 6, 3)
EXPANSION = 4


def convolution(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Sequential:
    """Convolution without bias, then batch normalisation; NCHW."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False), nn.BatchNorm2d(outputs)
    )


class Bottleneck(nn.Module):
    """1x1 to `channels`, 3x3 with `stride`, 1x1 to 4 times `channels`, and the residual."""

    def __init__(self, inputs: int, channels: int, stride: int):
        super().__init__()
        outputs = EXPANSION * channels
        self.reduce = convolution(inputs, channels, 1)
        self.middle = convolution(channels, channels, 3, stride)
        self.expand = convolution(channels, outputs, 1)
        # Training starts from the identity: deep networks converge faster (Goyal et al. 2017, 5.1).
        nn.init.zeros_(self.expand[1].weight)
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else convolution(inputs, outputs, 1, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.middle(torch.relu(self.reduce(x))))
        return torch.relu(self.expand(y) + self.shortcut(x))


class MarkerNetwork(nn.Module):
    """From `batch x 3 x side x side`, normalised by ImageNet's mean and deviation, to logits."""

    def __init__(self, classes: int, width: int = WIDTH):
        super().__init__()
        self.stem = convolution(3, width, 7, 2)
        self.pool = nn.MaxPool2d(3, 2, 1)
        blocks, inputs = [], width
        for stage, count in enumerate(BLOCKS):
            channels = width << stage
            for index in range(count):
                blocks.append(Bottleneck(inputs, channels, 2 if stage > 0 and index == 0 else 1))
                inputs = EXPANSION * channels
        self.blocks = nn.Sequential(*blocks)
        self.average = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(inputs, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.blocks(self.pool(torch.relu(self.stem(x))))
        return self.linear(torch.flatten(self.average(x), 1))
