#!/usr/bin/env python3
"""Train the modified ESCAPE-NET in PyTorch by the study's recipe and save it in the study's dictionary.

    python scripts/train_checkpoint.py --data train.npz --out checkpoints/modified.pth [--epochs 4] [--seed 0]

The recipe: Adam 1e-3, batches of 64, cross-entropy on top of the softmax, best test accuracy kept. The file is
what `torch.save` makes of it: weights in half precision under DataParallel's `module.` prefix, no optimiser state.
`checkpoints/README.md` says which data the shipped file was trained on. Needs torch and numpy.
"""
import argparse
import os
import time
from collections import OrderedDict

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F


def network(contacts=56, samples=100, classes=3):
    """The study's modified ESCAPE-NET: B x 1 x contacts x samples to B x classes probabilities."""
    flat = 64 * (contacts // 4) * (samples // 4)
    net = nn.Module()
    net.features = nn.Sequential(
        nn.Conv2d(1, 64, 8, padding="same", bias=False), nn.ReLU(), nn.AvgPool2d(2),
        nn.Conv2d(64, 64, 4, padding="same", bias=False), nn.ReLU(), nn.AvgPool2d(2),
        nn.Conv2d(64, 64, 2, padding="same", bias=False), nn.ReLU(),
    )
    net.classifier = nn.Sequential(
        nn.Linear(flat, 256, bias=False), nn.ReLU(), nn.Linear(256, classes, bias=False), nn.Softmax(dim=1)
    )
    net.forward = lambda x: net.classifier(net.features(x).flatten(1))
    return net


def accuracy(net, x, y, device):
    with torch.no_grad():
        hits = sum((net(x[i : i + 256].to(device)).argmax(1).cpu() == y[i : i + 256]).sum() for i in range(0, len(y), 256))
    return hits.item() / len(y)


def save(net, accuracy, epoch, path):
    """Atomically: an interrupted run leaves the old file."""
    state = OrderedDict((f"module.{k}", v.detach().cpu().half()) for k, v in net.state_dict().items())
    torch.save({"accuracy": accuracy, "epoch": epoch, "state_dict": state}, path + ".part")
    os.replace(path + ".part", path)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--data", required=True, help=".npz made by `escape-snn data simulate`")
    p.add_argument("--out", required=True)
    p.add_argument("--epochs", type=int, default=4)
    p.add_argument("--seed", type=int, default=0)
    args = p.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    data = np.load(args.data)
    x, y, test_x, test_y = (torch.from_numpy(data[k]) for k in ("train_x", "train_y", "test_x", "test_y"))
    x, test_x = x[:, None], test_x[:, None]
    torch.manual_seed(args.seed)
    net = network(*x.shape[2:]).to(device)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    best = -1.0
    for epoch in range(1, args.epochs + 1):
        start, total = time.time(), 0.0
        order = torch.randperm(len(y))
        for batch in order.split(64):
            optimizer.zero_grad()
            loss = F.cross_entropy(net(x[batch].to(device)), y[batch].to(device))
            loss.backward()
            optimizer.step()
            total += loss.item() * len(batch)
        # Judged as it is shipped: in half precision's values.
        kept = {k: v.clone() for k, v in net.state_dict().items()}
        net.load_state_dict({k: v.half().float() for k, v in kept.items()})
        found = accuracy(net, test_x, test_y, device)
        if found > best:
            best = found
            save(net, found, epoch, args.out)
        net.load_state_dict(kept)
        print(f"epoch {epoch}: loss {total / len(y):.4f}, test accuracy {found:.4f}, {time.time() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
