#!/usr/bin/env python3
"""Train ESCAPE-NET in PyTorch by the study's recipes and save it in the study's dictionary.

    python scripts/train_checkpoint.py --arch modified --data nerve.npz --out checkpoints/modified.pth
    python scripts/train_checkpoint.py --arch original --data nerve.npz --out checkpoints/original.pth

modified: Adam 1e-3, batches of 64, cross-entropy on top of the softmax, best test accuracy kept.
original: grown in three stages (one convolution, two, all three), each starting from the convolutions before; SGD with
Nesterov's momentum 0.9 in batches of 50, learning rate 0.01 in the first stage and 0.001 after, 25 epochs for each of the
first two at most; cross-entropy; each stopped 15 epochs after the best accuracy on 1,000 recordings of each class that
were held out with all their copies.

The study trains for up to 150 epochs; --epochs and --patience end it earlier. --init goes on from a checkpoint with a
fresh optimiser, and --every keeps each epoch's network beside the best one. `margin` is the mean distance between the two
largest logits: it keeps growing after the accuracy has settled, and decides how well the study's spiking readout, which
adds up to one to each potential a step, can tell classes apart. What is written is what `torch.save` makes of it: weights
in half precision under DataParallel's `module.` prefix, no optimiser state, the test accuracy of these very weights, and
what the network knows of its recordings. checkpoints/README.md says how the shipped files were made. Needs torch and numpy.
"""
import argparse
import hashlib
import os
import shutil
import time
import warnings
from collections import OrderedDict

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

warnings.filterwarnings("ignore", message="Using padding='same'")


class Network(nn.Module):
    """B x 1 x contacts x samples to B x classes logits. `convolutions` of them, the last pooling `last_pool` wide."""

    def __init__(self, contacts, samples, original, convolutions=3, classes=3):
        super().__init__()
        pool = nn.MaxPool2d if original else nn.AvgPool2d
        pools = {1: [4], 2: [2, 4], 3: [2, 2, None]}[convolutions]
        features, channels, shrunk = [], 1, 1
        for kernel, width in zip((8, 4, 2), pools):
            features += [nn.Conv2d(channels, 64, kernel, padding="same", bias=original), nn.ReLU()]
            channels = 64
            if width:
                features.append(pool(width))
                shrunk *= width
        hidden = 64 * (contacts // shrunk) * (samples // shrunk)
        self.features = nn.Sequential(*features)
        self.classifier = nn.Sequential(
            nn.Linear(hidden, 256, bias=original),
            nn.ReLU(),
            *([nn.Dropout(0.5)] if original else []),
            nn.Linear(256, classes, bias=original),
        )

    def forward(self, x):
        return self.classifier(self.features(x).flatten(1))


def judge(net, x, y, device, fast):
    """Accuracy, and the mean distance between the two largest logits."""
    net.eval()
    hits, margin = 0, 0.0
    with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=fast):
        for i in range(0, len(y), 256):
            logits = net(x[i : i + 256].to(device)).float().cpu()
            hits += (logits.argmax(1) == y[i : i + 256]).sum().item()
            largest = logits.topk(2).values
            margin += (largest[:, 0] - largest[:, 1]).sum().item()
    net.train()
    return hits / len(y), margin / len(y)


def knowledge(data):
    """What a network trained on these recordings knows of them, as keys of its dictionary: shape, rate, simulated nerve."""
    known = {"input_shape": [1, *data["train_x"].shape[1:]], "sample_rate_hz": float(data["sample_rate_hz"])}
    if "nerve_seed" in data:
        known["nerve"] = f"seed {int(data['nerve_seed'])}, animal {int(data['nerve_animal'])}"
    return known


def save(net, test, epoch, path, device, known):
    """As it is judged: with the values of half precision. Atomically: an interrupted run leaves the old file."""
    kept = {k: v.clone() for k, v in net.state_dict().items()}
    net.load_state_dict({k: v.half().float() for k, v in kept.items()})
    found, margin = judge(net, *test, device, fast=False)
    net.load_state_dict(kept)
    # Rows in order, whatever layout training liked.
    state = OrderedDict((f"module.{k}", v.detach().cpu().half().contiguous()) for k, v in kept.items())
    torch.save({"accuracy": found, "epoch": epoch, "state_dict": state, **known}, path + ".part")
    os.replace(path + ".part", path)
    return found, margin


def hold_out(x, y, per_class, seed):
    """Indices to train on, and `per_class` distinct recordings of each class to stop by, no copy of which is among them."""
    key = lambda recording: hashlib.blake2b(recording.tobytes(), digest_size=8).digest()
    keys = np.frombuffer(b"".join(map(key, x.numpy())), np.uint64)
    generator, held = np.random.default_rng(seed), []
    for label in range(3):
        members = np.flatnonzero(y.numpy() == label)
        distinct = members[np.unique(keys[members], return_index=True)[1]]
        if len(distinct) <= per_class:
            raise SystemExit(f"class {label} has {len(distinct)} different recordings; more than {per_class} are needed")
        held.append(generator.choice(distinct, per_class, replace=False))
    held = np.concatenate(held)
    return np.flatnonzero(~np.isin(keys, keys[held])), held


def train(net, rule, batch_size, epochs, patience, train_set, test, held, device, args, softmax, path=None, name="", first=0):
    """Best network by the held-out recordings, or by those for testing where nothing is held out. Epochs count on from
    `first`."""
    step = torch.compile(net) if args.fast else net
    optimizer = rule(net.parameters())
    best, best_epoch, best_state = -1.0, 0, None
    x, y = train_set
    for epoch in range(1, epochs + 1):
        start, total, right = time.time(), 0.0, 0
        batches = torch.randperm(len(y)).split(batch_size)
        # The last one, if it is smaller, would have to be compiled anew.
        batches = batches[:-1] if args.fast and len(batches) > 1 and len(batches[-1]) < batch_size else batches
        for batch in batches:
            optimizer.zero_grad()
            with torch.autocast(device.type, torch.bfloat16, enabled=args.bfloat16):
                inputs = x[batch].contiguous(memory_format=args.layout).to(device)
                logits = step(inputs).float()
            target = y[batch].to(device)
            loss = F.cross_entropy(logits.softmax(1) if softmax else logits, target)
            loss.backward()
            optimizer.step()
            total += loss.item() * len(batch)
            right += (logits.argmax(1) == target).sum().item()
        seen = sum(map(len, batches))
        number, each = first + epoch, None
        if path and args.every:
            each = f"{path.removesuffix('.pth')}-{number}.pth"
            written, margin = save(net, test, number, each, device, args.known)
        if each and not held:
            judged = written
        else:
            judged, margin = judge(net, *(held or test), device, args.bfloat16)
        print(
            f"{name} epoch {number}: loss {total / seen:.4f}, accuracy {right / seen:.4f}, "
            f"{'held out' if held else 'test'} {judged:.4f}, margin {margin:.2f}, {time.time() - start:.0f} s",
            flush=True,
        )
        if judged > best:
            best, best_epoch = judged, epoch
            best_state = {k: v.clone() for k, v in net.state_dict().items()}
            if each:
                shutil.copyfile(each, path + ".part")
                os.replace(path + ".part", path)
            elif path:
                written, _ = save(net, test, number, path, device, args.known)
            if path:
                print(f"{name} epoch {number}: kept, test accuracy in half precision {written:.4f}", flush=True)
        if patience and epoch - best_epoch >= patience:
            break
    return best_state


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--arch", choices=("modified", "original"), default="modified")
    p.add_argument("--data", required=True, help=".npz made by `escape-snn data simulate`")
    p.add_argument("--out", required=True)
    p.add_argument("--epochs", type=int, default=150, help="at most, of the whole network")
    p.add_argument("--stage-epochs", type=int, default=25, help="at most, of each of the original's first two stages")
    p.add_argument("--patience", type=int, help="epochs without a better one, 0: no limit [default: 15 for the original]")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--init", help="go on from this checkpoint, of the modified network")
    p.add_argument("--every", action="store_true", help="also keep every epoch's network, as OUT-EPOCH.pth")
    p.add_argument("--threads", type=int, help="CPU threads [default: all]")
    p.add_argument("--fast", action="store_true", help="compiled (needs a C++ compiler), and in bfloat16 where the processor has it")
    args = p.parse_args()
    args.layout = torch.channels_last if args.fast else torch.contiguous_format
    args.bfloat16 = args.fast and (torch.cuda.is_available() or torch.cpu._is_avx512_bf16_supported())
    if args.threads:
        torch.set_num_threads(args.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    data = np.load(args.data)
    args.known = knowledge(data)
    x, y, test_x, test_y = (torch.from_numpy(data[k]) for k in ("train_x", "train_y", "test_x", "test_y"))
    x, test = x[:, None], (test_x[:, None], test_y)
    torch.manual_seed(args.seed)

    def network(original, convolutions=3):
        net = Network(*x.shape[2:], original, convolutions)
        return net.to(device, memory_format=args.layout)

    if args.patience is None and args.arch == "original":
        args.patience = 15
    if args.arch == "modified":
        adam = lambda weights: torch.optim.Adam(weights, 1e-3, fused=args.fast)
        net, first = network(False), 0
        if args.init:
            saved = torch.load(args.init, weights_only=True)
            net.load_state_dict({k.removeprefix("module."): v.float() for k, v in saved["state_dict"].items()})
            first = saved["epoch"]
        train(net, adam, 64, args.epochs, args.patience, (x, y), test, None, device, args, True, args.out, "modified", first)
        return
    kept, held = hold_out(x, y, 1000, args.seed)
    train_set, held = (x[kept], y[kept]), (x[held], y[held])
    features = {}
    for convolutions, name, rate in ((1, "ig1", 1e-2), (2, "ig2", 1e-3), (3, "original", 1e-3)):
        net, last = network(True, convolutions), convolutions == 3
        net.load_state_dict(net.state_dict() | features)
        sgd = lambda weights: torch.optim.SGD(weights, rate, momentum=0.9, nesterov=True)
        epochs, path = (args.epochs, args.out) if last else (args.stage_epochs, None)
        best = train(net, sgd, 50, epochs, args.patience, train_set, test, held, device, args, False, path, name)
        features = {k: v for k, v in best.items() if k.startswith("features.")}


if __name__ == "__main__":
    main()
