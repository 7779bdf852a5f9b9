"""ResNet-18 (He et al., 2016, "Deep residual learning"), optionally with frozen layers (assignment D).

The names of the weights, their initialisation and the outputs are those of `torchvision.models.resnet18`, so that
ImageNet weights load. Unlike in torchvision, each ReLU is a separate instance, and average pooling is deterministic on CUDA.
"""

from typing import Literal, Self

from pydantic import Field
from torch import Tensor, nn

from labbook.config.components import ComponentSettings

__all__ = ["Block", "ResNet18", "Settings", "build"]


class Settings(ComponentSettings):
    """Keys of a `model` block named `resnet18`."""

    name: Literal["resnet18"]
    trainable: list[Literal["conv1", "bn1", "layer1", "layer2", "layer3", "layer4", "fc"]] | None = Field(
        None, description="submodules to train in addition to fc; [] trains only fc; default: all"
    )


class Block(nn.Module):
    """Two convolutions and a skip connection, (N, in, H, W) → (N, out, ⌈H / stride⌉, ⌈W / stride⌉)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, kernel_size=3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.downsample: nn.Module | None = None
        if stride != 1 or in_channels != out_channels:
            conv = nn.Conv2d(in_channels, out_channels, kernel_size=1, stride=stride, bias=False)
            self.downsample = nn.Sequential(conv, nn.BatchNorm2d(out_channels))
        self.relu2 = nn.ReLU()

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the output of the convolutions plus the inputs, or plus a 1×1 convolution of them if the shapes differ."""
        residual = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(inputs)))))
        shortcut = self.downsample(inputs) if self.downsample else inputs
        outputs: Tensor = self.relu2(residual + shortcut)
        return outputs


class Average(nn.Module):
    """Global average pooling, (N, C, H, W) → (N, C)."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Average over rows and columns."""
        return inputs.mean(dim=(2, 3))


class ResNet18(nn.Module):
    """Images (N, C, H, W) → logits (N, classes).

    Args:
        channels: number of channels of the images.
        classes: number of classes.
        frozen: names of submodules, such as `layer1`, that are not trained and keep their running statistics.
    """

    def __init__(self, channels: int, classes: int, frozen: tuple[str, ...]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 64, kernel_size=7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        self.layer1 = nn.Sequential(Block(64, 64, 1), Block(64, 64, 1))
        self.layer2 = nn.Sequential(Block(64, 128, 2), Block(128, 128, 1))
        self.layer3 = nn.Sequential(Block(128, 256, 2), Block(256, 256, 1))
        self.layer4 = nn.Sequential(Block(256, 512, 2), Block(512, 512, 1))
        self.avgpool = Average()
        self.fc = nn.Linear(512, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        self.frozen = frozen
        for name in frozen:
            self.get_submodule(name).requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Self:
        """Set the mode of all submodules that are not frozen; frozen batch norms always use their running statistics."""
        super().train(mode)
        for name in self.frozen:
            self.get_submodule(name).eval()  # by name, because training on several GPUs replaces batch norms
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Compute the logits."""
        maps = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        maps = self.layer4(self.layer3(self.layer2(self.layer1(maps))))
        logits: Tensor = self.fc(self.avgpool(maps))
        return logits


def build(settings: Settings, image_shape: tuple[int, int, int], classes: int) -> nn.Module:
    """Build the network for images (N, C, H, W) of any size."""
    submodules = ("conv1", "bn1", "layer1", "layer2", "layer3", "layer4")
    frozen = tuple(name for name in submodules if settings.trainable is not None and name not in settings.trainable)
    return ResNet18(image_shape[0], classes, frozen)
