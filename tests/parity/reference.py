#!/usr/bin/env python3
"""The spiking network in plain PyTorch, step by step, with autograd: what the Rust engines are held against.

    python reference.py FOLDER [--seed N]

Writes into FOLDER, for weights and recordings drawn from the seed:
  data.npz, data.mat        recordings (H contacts x W samples) and labels, both splits alike in either file
  original.pth, ig1.pth, ig2.safetensors and their logits (family.pth): the other networks of the family, each in
                            another format and form: legacy, bare state dict, safetensors
  ann.pth, snn.pth          checkpoints in the study's dictionary; snn.pth holds thresholds, T = 7
  published.pth             logits, spike counts, losses of training steps for T = 7, both surrogates
  gradients-*.pth           every gradient of one step: published and default rules, both surrogates
  optimizers.pth            parameters after steps of Adam and SGD
  pruned.pth                weights, a share, and which of them magnitude pruning keeps

B batch, T steps, C channels. u membrane, theta threshold, m = v / theta - 1, s spike.
"""
import argparse
from collections import OrderedDict
from pathlib import Path

import numpy as np
import safetensors.torch
import scipy.io
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import prune

KEYS = ["features.0", "features.3", "features.6", "classifier.0", "classifier.2"]
SHAPES = [(64, 1, 8, 8), (64, 64, 4, 4), (64, 64, 2, 2), (256, 22400), (3, 256)]
SAMPLES = 2  # of each split


class Spike(torch.autograd.Function):
    """[m > 0] forwards; a given surrogate derivative backwards."""

    @staticmethod
    def forward(ctx, m, g):
        ctx.save_for_backward(g)
        return (m > 0).float()

    @staticmethod
    def backward(ctx, grad):
        (g,) = ctx.saved_tensors
        return grad * g, None


def synapse(k, w, s):
    return F.conv2d(s, w, padding="same") if k < 3 else F.linear(s, w)


def simulate(ws, theta, leak, x, steps, preset, surrogate, gamma=0.3):
    """Logits B x 3, the number of spikes of each layer, and the synaptic operations that they cause: each spike alone, for which
    there is a gradient, and with those of a mean's window taken together. theta and leak: five 0-dim tensors each."""
    published = preset == "published"
    u, last = {}, {}
    counts = [0.0] * 5
    readout = operations = together = 0.0
    for t in range(steps):
        if published:
            s = (torch.rand_like(x) <= x.abs() * 0.9).float() * x.sign()
        else:
            s = x
        for k, w in enumerate(ws):
            if k == 3:
                s = s.flatten(1)
            if k > 0:
                # Four spikes are one in the mean that they are pooled to.
                ones = torch.ones_like(w)
                operations = operations + synapse(k, ones, s * (4 if k in (1, 2) else 1)).sum()
                together = together + synapse(k, ones, (s.detach() > 0).float()).double().sum()
            current = synapse(k, w, s)
            if k == 4 and not published:
                readout = readout + current
                break
            if k not in u:
                u[k] = torch.zeros_like(current) if published else theta[k] / 2 + torch.zeros_like(current)
                last[k] = torch.full_like(current, -1000.0)
            v = u[k] if published else leak[k] * u[k] + current
            m = v / theta[k] - 1
            if surrogate == "linear":
                g = gamma * (1 - m.detach().abs()).clamp(min=0)
            else:
                g = 0.3 * torch.exp(-(t - 1 - last[k])) ** 0.01
            s = Spike.apply(m, g)
            fired = s.detach()
            counts[k] += fired.sum().item()
            last[k] = last[k].masked_fill(fired.bool(), t - 1)
            u[k] = (leak[k] * u[k] + current if published else v) - theta[k] * fired
            if k == 4:
                u[k] = u[k] + torch.softmax(s, 1)
            if k in (0, 1):
                s = F.avg_pool2d(s, 2)
    return (u[4] if published else readout / steps), counts, operations, together


def study(ws, **more):
    state = OrderedDict((f"module.{k}.weight", w) for k, w in zip(KEYS, ws))
    return dict(accuracy=0.5, epoch=3, state_dict=state, **more)


def family(x, folder):
    """The networks with biases and maximum pooling: convolutions as (kernel, pooling after it)."""
    members = {"original": [(8, 2), (4, 2), (2, 1)], "ig1": [(8, 4)], "ig2": [(8, 2), (4, 4)]}
    logits = {}
    for name, convolutions in members.items():
        features, channels = [], 1
        for kernel, pool in convolutions:
            features += [nn.Conv2d(channels, 64, kernel, padding="same"), nn.ReLU()]
            features += [nn.MaxPool2d(pool)] if pool > 1 else []
            channels = 64
        net = nn.Module()
        net.features = nn.Sequential(*features)
        flat = net.features(x).flatten(1)
        net.classifier = nn.Sequential(nn.Linear(flat.shape[1], 256), nn.ReLU(), nn.Dropout(), nn.Linear(256, 3)).eval()
        logits[name] = net.classifier(flat).detach()
        state = net.state_dict()
        if name == "original":
            state = OrderedDict((f"module.{k}", v) for k, v in state.items())
            whole = {"accuracy": 0.7, "epoch": 1, "state_dict": state, "optimizer": {}}
            torch.save(whole, folder / "original.pth", _use_new_zipfile_serialization=False)
        elif name == "ig1":
            torch.save(state, folder / "ig1.pth")
        else:
            safetensors.torch.save_file(state, folder / "ig2.safetensors")
    torch.save(logits, folder / "family.pth")


def main():
    p = argparse.ArgumentParser()
    p.add_argument("folder", type=Path)
    p.add_argument("--seed", type=int, default=5)
    a = p.parse_args()
    out, steps = a.folder, 7
    g = torch.Generator().manual_seed(a.seed)
    gains = [1.0, 1.6, 1.8, 2.0, 2.0]
    ws = [torch.randn(s, generator=g) * k * (2.0 / np.prod(s[1:])) ** 0.5 for s, k in zip(SHAPES, gains)]
    x = torch.rand(2 * SAMPLES, 56, 100, generator=g) ** 2 * torch.randn(2 * SAMPLES, 56, 100, generator=g).sign()
    # Every recording and channel differs, so that a mixed-up axis shows.
    y = torch.tensor([i % 3 for i in range(2 * SAMPLES)])
    train, test = x[:SAMPLES], x[SAMPLES:]
    np.savez(
        out / "data.npz", train_x=train.numpy(), train_y=y[:SAMPLES].numpy(), test_x=test.numpy(), test_y=y[SAMPLES:].numpy()
    )
    columns = lambda v: v.reshape(len(v), -1).T.double().numpy()
    scipy.io.savemat(
        out / "data.mat",
        dict(
            training_data_rat=columns(train), test_data_rat=columns(test),
            training_data_labels=y[:SAMPLES, None].numpy() + 1, test_data_labels=y[None, SAMPLES:].numpy() + 1,
        ),
        do_compression=True,
    )
    theta = [1.2, 0.25, 0.12, 0.15, 0.2]
    torch.save(study(ws), out / "ann.pth")
    torch.save(study(ws, thresholds=theta, timesteps=steps, leak=1.0, activation="Linear", optimizer={}), out / "snn.pth")
    train, test = train[:, None], test[:, None]

    torch.manual_seed(a.seed)
    family(test, out)
    found = {}
    scalars = lambda values: [torch.tensor(v) for v in values]
    s = test
    for k, w in enumerate(ws):
        s = synapse(k, w, s.flatten(1) if k == 3 else s)
        s = F.relu(s) if k < 4 else s
        s = F.avg_pool2d(s, 2) if k in (0, 1) else s
    found["ann_logits"] = s
    with torch.no_grad():
        torch.manual_seed(a.seed)
        found["logits"], found["counts"], *_ = simulate(
            ws, scalars(theta), scalars([1.0] * 5), test, steps, "published", "linear"
        )
    for surrogate in ("linear", "exponential"):
        p = [w.clone().requires_grad_() for w in ws]
        optimizer = torch.optim.Adam(p, lr=1e-4)
        torch.manual_seed(a.seed)
        losses = []
        for _ in range(3):
            optimizer.zero_grad()
            logits, *_ = simulate(p, scalars(theta), scalars([1.0] * 5), train, steps, "published", surrogate)
            loss = F.cross_entropy(logits, y[:SAMPLES])
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        found[f"losses_{surrogate}"] = losses
    torch.save(found, out / "published.pth")

    # Every gradient, constants' too, with leaks below 1 so that they matter.
    leak = [0.9, 0.95, 0.8, 0.85, 0.9]
    for preset in ("published", "default"):
        for surrogate in ("linear", "exponential"):
            p = [w.clone().requires_grad_() for w in ws]
            th, lk = ([torch.tensor(v, requires_grad=True) for v in c] for c in (theta, leak))
            torch.manual_seed(a.seed)
            gamma = 0.3 if preset == "published" else 1.0
            logits, *_ = simulate(p, th, lk, train, steps, preset, surrogate, gamma)
            loss = F.cross_entropy(logits, y[:SAMPLES])
            loss.backward()
            zero = torch.tensor(0.0)
            torch.save(
                dict(
                    loss=loss.item(), leak=leak, weights=[w.grad for w in p],
                    thresholds=[zero if t.grad is None else t.grad for t in th],
                    leaks=[zero if t.grad is None else t.grad for t in lk],
                ),
                out / f"gradients-{preset}-{surrogate}.pth",
            )

    # With a teacher, three tenths of the loss at temperature 2, a readout that is divided by 1.5 first, and a penalty on the operations
    # that spikes cause.
    p = [w.clone().requires_grad_() for w in ws]
    logits, _, operations, together = simulate(p, scalars(theta), scalars([1.0] * 5), train, steps, "default", "linear", 1.0)
    logits = logits / 1.5
    teacher = torch.sin(torch.arange(3.0 * SAMPLES)).view(SAMPLES, 3) * 3
    distance = F.kl_div(F.log_softmax(logits / 2, 1), F.softmax(teacher / 2, 1), reduction="batchmean") * 4
    loss = 0.7 * F.cross_entropy(logits, y[:SAMPLES]) + 0.3 * distance
    mean = operations / SAMPLES
    (loss + 0.2 * mean / 1e6).backward()
    torch.save(
        dict(loss=loss.item(), operations=together.item(), teacher=teacher, weights=[w.grad for w in p]),
        out / "gradients-taught.pth",
    )

    # Update rules, over parameters and gradients that are easy to state again.
    rules = {
        "adam": lambda q: torch.optim.Adam(q, lr=0.1, weight_decay=0.01),
        "sgd": lambda q: torch.optim.SGD(q, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    }
    after = {}
    for name, rule in rules.items():
        q = torch.linspace(-1, 1, 7).requires_grad_()
        optimizer = rule([q])
        for i in range(5):
            q.grad = torch.sin(torch.arange(7.0) + i)
            optimizer.step()
        after[name] = q.detach()
    torch.save(after, out / "optimizers.pth")

    # The convolutions' weights, and five of which half a share is a tie.
    pruned = []
    for weight in [*ws[:3], torch.tensor([0.5, -0.1, 0.4, -0.3, 0.2])]:
        for share in (0.1, 0.5, 0.77, 0.95):
            layer = nn.Module()
            layer.weight = nn.Parameter(weight.clone())
            prune.l1_unstructured(layer, "weight", amount=share)
            pruned.append(dict(share=share, weight=weight, kept=layer.weight_mask))
    torch.save(pruned, out / "pruned.pth")


if __name__ == "__main__":
    main()
