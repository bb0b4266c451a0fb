#!/usr/bin/env python3
"""Well-known networks in plain PyTorch, with weights and statistics as a training leaves them.

    python known.py FOLDER

Writes NAME.pth, a state dictionary, NAME.x, three recordings in float32, and NAME.y, their logits in evaluation.
"""
import sys
from pathlib import Path

import torch
from torch import nn


def vgg11(classes):
    """VGG-11 with batch norm (Simonyan and Zisserman, 2015) for 3 x 32 x 32, with one linear layer."""
    layers, channels = [], 3
    for out in [64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M"]:
        if out == "M":
            layers.append(nn.MaxPool2d(2, 2))
        else:
            layers += [nn.Conv2d(channels, out, 3, padding=1), nn.BatchNorm2d(out), nn.ReLU(inplace=True)]
            channels = out
    return nn.Sequential(nn.Sequential(*layers), nn.Flatten(), nn.Linear(512, classes))


def lenet5():
    """LeNet-5 (LeCun et al., 1998) with ReLUs, for 1 x 28 x 28."""
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.AvgPool2d(2),
        nn.Conv2d(6, 16, 5), nn.ReLU(), nn.AvgPool2d(2),
        nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
    )  # fmt: skip


class EscapeNet(nn.Module):
    """The modified ESCAPE-NET for 64 contacts and 5 classes."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 64, 8, padding="same", bias=False), nn.ReLU(), nn.AvgPool2d(2),
            nn.Conv2d(64, 64, 4, padding="same", bias=False), nn.ReLU(), nn.AvgPool2d(2),
            nn.Conv2d(64, 64, 2, padding="same", bias=False), nn.ReLU(),
        )  # fmt: skip
        self.classifier = nn.Sequential(
            nn.Linear(64 * 16 * 25, 256, bias=False), nn.ReLU(), nn.Linear(256, 5, bias=False)
        )

    def forward(self, x):
        return self.classifier(self.features(x).flatten(1))


def main():
    folder = Path(sys.argv[1])
    torch.manual_seed(3)
    networks = {"vgg11": (vgg11(10), (3, 32, 32)), "lenet5": (lenet5(), (1, 28, 28)), "escape": (EscapeNet(), (1, 64, 100))}
    for name, (net, shape) in networks.items():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                for tensor in [module.weight.data, module.running_var]:
                    tensor.uniform_(0.5, 1.5)
                for tensor in [module.bias.data, module.running_mean]:
                    tensor.normal_(0, 0.3)
        net.eval()
        x = torch.randn(3, *shape)
        with torch.no_grad():
            y = net(x)
        torch.save(net.state_dict(), folder / f"{name}.pth")
        (folder / f"{name}.x").write_bytes(x.numpy().tobytes())
        (folder / f"{name}.y").write_bytes(y.numpy().tobytes())


main()
