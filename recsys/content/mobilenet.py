"""MobileNetV2: from pictures to a vector each.

Sandler, Howard, Zhu, Zhmoginov and Chen, MobileNetV2: inverted residuals and linear bottlenecks, 2018. The names of the
modules are those of torchvision's weights; the classifier is left out.

Shapes: B pictures, S pixels a side.
"""

from pathlib import Path

from torch import Tensor, nn

from recsys.content import weights

DIM = 1280
_BLOCKS = (  # expansion, channels, how many, stride of the first
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def _convolution(inside: int, outside: int, size: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inside, outside, size, stride, size // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outside),
        nn.ReLU6(),
    )


class _Block(nn.Module):
    """An inverted residual: more channels, one convolution for each of them, fewer channels."""

    def __init__(self, inside: int, outside: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inside * expansion
        widen = [] if expansion == 1 else [_convolution(inside, wide, 1)]
        narrow = [nn.Conv2d(wide, outside, 1, bias=False), nn.BatchNorm2d(outside)]
        self.conv = nn.Sequential(*widen, _convolution(wide, wide, 3, stride, wide), *narrow)
        self.is_residual = stride == 1 and inside == outside

    def forward(self, pictures: Tensor) -> Tensor:
        found: Tensor = self.conv(pictures)
        return pictures + found if self.is_residual else found


class MobileNetV2(nn.Module):
    """Pictures, their colors standardized, to vectors before the classifier."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [_convolution(3, 32, 3, 2)]
        inside = 32
        for expansion, outside, count, stride in _BLOCKS:
            for at in range(count):
                layers.append(_Block(inside, outside, stride if at == 0 else 1, expansion))
                inside = outside
        self.features = nn.Sequential(*layers, _convolution(inside, DIM, 1))

    def forward(self, pictures: Tensor) -> Tensor:
        """Pictures [B, 3, S, S] -> [B, 1280]."""
        found: Tensor = self.features(pictures).mean((2, 3))
        return found


def load_mobilenet(file: Path) -> MobileNetV2:
    """The network with the weights of a file, ready to encode. Raises ConfigError, as `read_weights`."""
    network = MobileNetV2()
    weights.fill(network, weights.read_weights(file), str(file))
    return network.eval()
