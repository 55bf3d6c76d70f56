"""The detector: the marker network as it is, without its last layer, and three maps of CenterNet on top.

"Objects as Points" (Zhou et al. 2019) with one map cell for 8 x 8 pixels: transposed convolutions
lead from the last stage back to the second, and each takes in what the stage of its size knows.
"""

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import nn

from network import BLOCKS, EXPANSION, WIDTH

CELL = 8
WIDTH_OF_MAPS = 64


class Bottleneck(nn.Module):
    """As network.Bottleneck, with each batch normalisation folded into its convolution."""

    def __init__(self, inputs: int, channels: int, stride: int):
        super().__init__()
        outputs = EXPANSION * channels
        self.reduce = nn.Conv2d(inputs, channels, 1)
        self.middle = nn.Conv2d(channels, channels, 3, stride, 1)
        self.expand = nn.Conv2d(channels, outputs, 1)
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else nn.Conv2d(inputs, outputs, 1, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.middle(torch.relu(self.reduce(x))))
        return torch.relu(self.expand(y) + self.shortcut(x))


def larger(inputs: int, outputs: int) -> nn.Sequential:
    """A map of twice the height and width."""
    return nn.Sequential(nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, bias=False), nn.BatchNorm2d(outputs))


def lateral(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))


def maps(inputs: int, width: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, outputs, 1)
    )


class MarkerDetector(nn.Module):
    """From `batch x 3 x side x side` to three maps of `side / 8`: logits of a card's middle for each
    class, width and height in cells, and what the middle is right of and below its cell's corner."""

    def __init__(self, classes: int):
        super().__init__()
        self.stem = nn.Conv2d(3, WIDTH, 7, 2, 3)
        self.pool = nn.MaxPool2d(3, 2, 1)
        stages, inputs = [], WIDTH
        for stage, count in enumerate(BLOCKS):
            channels, blocks = WIDTH << stage, []
            for index in range(count):
                blocks.append(Bottleneck(inputs, channels, 2 if stage > 0 and index == 0 else 1))
                inputs = EXPANSION * channels
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)
        self.from_last = larger(inputs, WIDTH_OF_MAPS)
        self.from_third = lateral(inputs // 2, WIDTH_OF_MAPS)
        self.from_both = larger(WIDTH_OF_MAPS, WIDTH_OF_MAPS)
        self.from_second = lateral(inputs // 4, WIDTH_OF_MAPS)
        self.heat_map = maps(WIDTH_OF_MAPS, WIDTH_OF_MAPS, classes)
        self.size = maps(WIDTH_OF_MAPS, WIDTH_OF_MAPS // 2, 2)
        self.offset = maps(WIDTH_OF_MAPS, WIDTH_OF_MAPS // 2, 2)
        # A middle is rare: training starts from a probability of 0.1 (Lin et al. 2017, 3.3).
        nn.init.constant_(self.heat_map[-1].bias, -2.19)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        x = self.stages[0](self.pool(torch.relu(self.stem(x))))
        second = self.stages[1](x)
        third = self.stages[2](second)
        x = torch.relu(self.from_third(third) + self.from_last(self.stages[3](third)))
        x = torch.relu(self.from_second(second) + self.from_both(x))
        return self.heat_map(x), self.size(x), self.offset(x)

    def backbone(self) -> list[nn.Conv2d]:
        """Its convolutions, in the order in which an export names them."""
        convolutions = [self.stem]
        for block in (block for stage in self.stages for block in stage):
            convolutions += [block.reduce, block.middle, block.expand]
            convolutions += [block.shortcut] if isinstance(block.shortcut, nn.Conv2d) else []
        return convolutions

    def take_backbone(self, path: str) -> None:
        """Takes the weights of the exported marker network."""
        graph = onnx.load(path).graph
        values = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
        nodes = [node for node in graph.node if node.op_type == "Conv"]
        for layer, node in zip(self.backbone(), nodes, strict=True):
            layer.weight.data.copy_(torch.from_numpy(np.array(values[node.input[1]])))
            layer.bias.data.copy_(torch.from_numpy(np.array(values[node.input[2]])))


class Exported(nn.Module):
    """The maps as an export has them: probabilities in place of logits."""

    def __init__(self, detector: MarkerDetector):
        super().__init__()
        self.detector = detector

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        heat_map, size, offset = self.detector(x)
        return torch.sigmoid(heat_map), size, offset
