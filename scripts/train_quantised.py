#!/usr/bin/env python3
"""Train a small ANN of configs/search.yaml's shape with its rounding, and say what it costs: what `escape-snn train --bits` does, said once
more in PyTorch, so that the rival of the spiking networks does not hang on one program.

    python scripts/train_quantised.py --data runs/search/cells/recordings-*/recordings.npz \\
        --teacher runs/search/cells/teacher-*/teacher.pth --channels 4 --second 8 --bits 4

Weights are whole numbers of --bits bits on a scale for each row, activations of as many bits without a sign on a learned scale for each
layer, the mean after the second layer rounded again, the recording of --input-bits. Gradients go through every rounding as if it were not
there. Batch norms would be a factor and an offset where a layer's sums are brought to few bits. Energies are those of front.csv, for an
ANN that skips zeros: docs/studies.md. Needs torch and numpy.
"""
import argparse
import math
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

# configs/energy.yaml, picojoules; memories as (bytes, access of 64 bits).
MULTIPLY, ADD, REQUANTISE = 0.2, 0.03, 3.1
MEMORIES = ((8192, 10), (32768, 20), (1 << 20, 100), (math.inf, 1300))


class Round(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.round()

    @staticmethod
    def backward(ctx, gradient):
        return gradient


def rounded_weights(weights, bits):
    top = 2 ** (bits - 1) - 1
    scale = weights.detach().abs().flatten(1).amax(1).clamp(min=1e-8) / top
    scale = scale.view([-1] + [1] * (weights.dim() - 1))
    return Round.apply(weights / scale).clamp(-top, top) * scale


class Activation(nn.Module):
    """min(n, round(n a / theta)) theta / n for n = 2^bits - 1 and a learned theta."""

    def __init__(self, bits):
        super().__init__()
        self.most, self.theta, self.begun = 2**bits - 1, nn.Parameter(torch.tensor(0.0)), False

    def rounded(self, x):
        theta = self.theta.abs()
        return Round.apply((x / theta).clamp(0, 1) * self.most) / self.most * theta

    def forward(self, x):
        x = F.relu(x)
        if not self.begun:
            self.theta.data = torch.quantile(x.detach().flatten()[:100_000], 0.999)
            self.begun = True
        return self.rounded(x)


class Network(nn.Module):
    def __init__(self, channels, second, hidden, bits, input_bits):
        super().__init__()
        self.bits, self.most = bits, 2 ** (input_bits - 1) - 1
        self.conv1, self.norm1 = nn.Conv2d(1, channels, (8, 8), (8, 4), (0, 2), bias=False), nn.BatchNorm2d(channels)
        self.conv2, self.norm2 = nn.Conv2d(channels, second, (7, 5), 1, (0, 2), bias=False), nn.BatchNorm2d(second)
        self.linear1, self.norm3 = nn.Linear(5 * second, hidden, bias=False), nn.BatchNorm1d(hidden)
        self.linear2 = nn.Linear(hidden, 3)
        self.activations = nn.ModuleList(Activation(bits) for _ in range(3))

    def forward(self, x, arrived=None):
        look = (lambda x: arrived.append(x != 0)) if arrived is not None else lambda x: None
        first, second, third = self.activations
        whole = lambda layer: rounded_weights(layer.weight, self.bits)
        x = (x * self.most).round() / self.most
        look(x)
        x = first(self.norm1(F.conv2d(x, whole(self.conv1), None, (8, 4), (0, 2))))
        look(x)
        x = second(self.norm2(F.conv2d(x, whole(self.conv2), None, 1, (0, 2))))
        x = second.rounded(F.avg_pool2d(x, (1, 5))).flatten(1)
        look(x)
        x = third(self.norm3(F.linear(x, whole(self.linear1))))
        look(x)
        return F.linear(x, whole(self.linear2), self.linear2.bias)


def judge(net, x, y, device_batch=500):
    """Accuracy; multiply-accumulates with what is not zero, layer by layer, and values sent that are not zero, of a recording."""
    net.eval()
    hits, counts = 0, 0
    with torch.no_grad():
        for i in range(0, len(y), device_batch):
            arrived = []
            hits += (net(recordings(x[i : i + device_batch]), arrived).argmax(1) == y[i : i + device_batch]).sum().item()
            a, b, c, d = (values.float() for values in arrived)
            macs = [
                F.conv2d(a, torch.ones_like(net.conv1.weight), None, (8, 4), (0, 2)).sum(),
                F.conv2d(b, torch.ones_like(net.conv2.weight), None, 1, (0, 2)).sum(),
                c.sum() * net.linear1.out_features,
                d.sum() * net.linear2.out_features,
            ]
            counts = counts + np.array([float(n) for n in (*macs, b.sum(), c.sum(), d.sum())])
    net.train()
    counts /= len(y)
    return hits / len(y), counts[:4], counts[4:]


def energy(macs, sent, weights, neurons, values, bits, input_bits):
    """Nanojoules of arithmetic, and with memory."""
    bit = lambda n: next(pj for size, pj in MEMORIES if n / 8 <= size) / 64
    products = [MULTIPLY * bits / 8 * (input_bits if k == 0 else bits) / 8 + ADD * bits / 8 for k in range(4)]
    arithmetic = sum(n * pj for n, pj in zip(macs, products)) + REQUANTISE * sum(neurons)
    memory = arithmetic + sum(min(n, w) * bits * bit(w * bits) for n, w in zip(macs, weights))
    for n, all_values in zip(sent, values):
        memory += 2 * n * bits * bit(all_values * bits)
        address = max(1, math.ceil(math.log2(all_values)))
        memory += 2 * min(n * address * MEMORIES[0][1] / 64, all_values * bit(all_values))
    return arithmetic / 1e3, memory / 1e3


def recordings(x):
    return torch.from_numpy(np.ascontiguousarray(x)).unsqueeze(1)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--data", required=True, help="recordings, .npz")
    p.add_argument("--teacher", required=True, help="the teacher's logits, as a search leaves them")
    for name, default in (("channels", 4), ("second", 8), ("hidden", 16), ("bits", 4), ("input-bits", 4), ("epochs", 4), ("seed", 0)):
        p.add_argument(f"--{name}", type=int, default=default)
    a = p.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(a.seed)
    data = np.load(a.data)
    x, y = data["train_x"], torch.tensor(data["train_y"]).long()
    test_x, test_y = data["test_x"], torch.tensor(data["test_y"]).long()
    logits = torch.load(a.teacher, weights_only=True)["logits"]
    net = Network(a.channels, a.second, a.hidden, a.bits, a.input_bits)
    lr, batch, temperature = 4e-3, 64, 2.0
    optimizer = torch.optim.Adam(net.parameters(), lr)
    steps, step = a.epochs * (len(y) // batch), 0
    weights = [64 * a.channels, 35 * a.channels * a.second, 5 * a.second * a.hidden, 3 * a.hidden]
    neurons, values = [175 * a.channels, 25 * a.second, a.hidden], [175 * a.channels, 5 * a.second, a.hidden]
    for epoch in range(1, a.epochs + 1):
        start, right, order = time.time(), 0, torch.randperm(len(y))
        for chosen in order.split(batch)[: len(y) // batch]:
            chosen = chosen.sort().values
            found, labels = net(recordings(x[chosen.numpy()])), y[chosen]
            soft = F.softmax(logits[chosen].float() / temperature, 1)
            distance = F.kl_div(F.log_softmax(found / temperature, 1), soft, reduction="batchmean") * temperature**2
            for group in optimizer.param_groups:
                group["lr"] = lr * (1 - step / steps)
            optimizer.zero_grad()
            (0.5 * F.cross_entropy(found, labels) + 0.5 * distance).backward()
            optimizer.step()
            step += 1
            right += (found.argmax(1) == labels).sum().item()
        accuracy, macs, sent = judge(net, test_x, test_y)
        arithmetic, memory = energy(macs, sent, weights, neurons, values, a.bits, a.input_bits)
        print(
            f"{a.channels}-{a.second}, {a.bits} bits, input {a.input_bits}, epoch {epoch}: training accuracy {right / len(y):.4f}, "
            f"test accuracy {accuracy:.4f}, arithmetic {arithmetic:.2f} nJ, with memory {memory:.2f} nJ, {time.time() - start:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
