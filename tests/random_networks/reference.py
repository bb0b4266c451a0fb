#!/usr/bin/env python3
"""Logits of described networks in plain PyTorch.

    python reference.py FOLDER

FOLDER holds networks.json, a list of networks: their input (channels, rows, columns) and their layers in PyTorch's terms;
N.pth, the parameters of each, and N.x, recordings in float32. Writes N.y, their logits in evaluation, likewise.
"""
import json
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


class Padded(nn.Module):
    """Zeros, or what is never the maximum, on each side (top, bottom, left, right) before a layer."""

    def __init__(self, padding, inner, value=0.0):
        super().__init__()
        self.border = [padding[2], padding[3], padding[0], padding[1]]
        self.value = value
        self.inner = inner

    def forward(self, x):
        return self.inner(F.pad(x, self.border, value=self.value))


def module(layer, shape):
    kind = layer["type"]
    if kind == "conv2d":
        conv = nn.Conv2d(shape[0], layer["out"], layer["kernel"], layer["stride"], groups=layer["groups"], bias=layer["bias"])
        return conv, Padded(layer["padding"], conv)
    if kind == "linear":
        linear = nn.Linear(shape[0], layer["out"], bias=layer["bias"])
        return linear, linear
    if kind == "batch_norm":
        norm = (nn.BatchNorm1d if len(shape) == 1 else nn.BatchNorm2d)(shape[0], eps=layer["eps"], affine=layer["affine"])
        return norm, norm
    if kind in ("max_pool2d", "avg_pool2d"):
        top, bottom, left, right = layer["padding"]
        symmetric = top == bottom and left == right
        around = (top, left) if symmetric else 0
        if kind == "max_pool2d":
            pool = nn.MaxPool2d(layer["kernel"], layer["stride"], around, ceil_mode=layer["ceil"])
            return pool, pool if symmetric else Padded(layer["padding"], pool, -float("inf"))
        assert symmetric
        pool = nn.AvgPool2d(layer["kernel"], layer["stride"], around, layer["ceil"], layer["count_include_pad"])
        return pool, pool
    made = {
        "relu": nn.ReLU,
        "flatten": nn.Flatten,
        "dropout": lambda: nn.Dropout(layer["p"]),
        "adaptive_avg_pool2d": lambda: nn.AdaptiveAvgPool2d(layer["out"]),
    }[kind]()
    return made, made


def main():
    folder = Path(sys.argv[1])
    for n, network in enumerate(json.loads((folder / "networks.json").read_text())):
        stored = torch.load(folder / f"{n}.pth", weights_only=True)["state_dict"]
        state = {key.removeprefix("module."): value for key, value in stored.items()}
        x = torch.from_numpy(np.fromfile(folder / f"{n}.x", np.float32)).view(-1, *network["input"])
        used = 0
        with torch.no_grad():
            for i, layer in enumerate(network["layers"]):
                owner, run = module(layer, x.shape[1:])
                own = {key.rsplit(".", 1)[1]: value for key, value in state.items() if key.rsplit(".", 1)[0] == f"net.{i}"}
                used += len(own)
                owner.load_state_dict(own, strict=False)
                missing = [key for key in owner.state_dict() if key not in own and key != "num_batches_tracked"]
                assert not missing, (n, i, missing)
                x = run.eval()(x)
        assert used == len(state), (n, used, len(state))
        x.numpy().tofile(folder / f"{n}.y")


main()
