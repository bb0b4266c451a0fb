#!/usr/bin/env python3
"""Makes the seeds of the fuzz targets that read checkpoints and raw frames anew: small files of every kind. Those of files of recordings are
made by crates/data/tests/seeds.py. Needs torch, numpy and h5py.

    python tests/fuzz/seeds.py
"""
import argparse
import collections
import io
import json
import pathlib
import struct
import zipfile

import h5py
import numpy as np
import torch
from torch import nn

SEEDS = pathlib.Path(__file__).parent / "seeds"


def put(target, name, content):
    (SEEDS / target).mkdir(parents=True, exist_ok=True)
    (SEEDS / target / name).write_bytes(content)


def values():
    weights = collections.OrderedDict(
        (f"module.{k}", v) for k, v in nn.Sequential(nn.Conv2d(1, 2, 2, bias=False), nn.BatchNorm2d(2)).state_dict().items()
    )
    yield "snn", {
        "accuracy": 0.7, "epoch": 9, "state_dict": weights, "thresholds": [7.5, 1.25], "timesteps": 28,
        "leak_mem": 1.0, "activation": "Linear", "scaling_threshold": 1.0,
    }  # fmt: skip
    net = nn.Linear(2, 2)
    optimizer = torch.optim.Adam(net.parameters())
    net(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    yield "adam", {"state_dict": net.state_dict(), "optimizer": optimizer.state_dict()}
    base = torch.arange(12.0)
    yield "views", [base, base[3:7], base.reshape(3, 4).t(), nn.Parameter(torch.ones(1)), torch.zeros(2, 0)]
    kinds = ["float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool", "uint16"]
    yield "types", {k: torch.ones(2, dtype=getattr(torch, k)) for k in kinds}
    yield "numpy", [np.float64(0.5), np.arange(3, dtype=">i2"), np.asfortranarray(np.ones((2, 2), np.float32))]
    yield "plain", {None: (), 1: [True, 2**70, -5, 1e9], "b": b"\xff", (0,): {3}, "d": torch.device("cuda", 1),
                    "t": torch.float16, "s": torch.Size([2])}  # fmt: skip


    quantised = torch.quantize_per_channel(torch.ones(2, 2), torch.ones(2).double(), torch.zeros(2).long(), 0, torch.qint8)
    yield "expanded", {
        "tensor": torch.quantize_per_tensor(torch.ones(2), 0.5, 1, torch.quint8), "channel": quantised,
        "coo": torch.eye(2).to_sparse(), "csr": torch.eye(2).to_sparse_csr(), "bsc": torch.eye(2).to_sparse_bsc((1, 2)),
    }  # fmt: skip
    yield "foreign", {
        "model": {"model.a_orig": torch.ones(2), "model.a_mask": torch.zeros(2), "model.b_g": torch.ones(2, 1),
                  "model.b_v": torch.ones(2, 2)},
        "args": argparse.Namespace(lr=0.1, path=pathlib.PurePosixPath("a")), "kept": [collections.deque([1]), 3],
        "counts": collections.defaultdict(list, {"a": 1}), "type": argparse.Namespace, "none": torch.ones(1, device="meta"),
    }  # fmt: skip


def saved(value, **options):
    out = io.BytesIO()
    torch.save(value, out, **options)
    return out.getvalue()


def checkpoints():
    torch.serialization.set_crc32_options(False)
    for name, value in values():
        put("archive", name, saved(value))
        for protocol in (2, 4):
            whole = saved(value, _use_new_zipfile_serialization=False, pickle_protocol=protocol)
            put("legacy", f"{name}-{protocol}", whole)
            if protocol == 2:
                # Behind the magic number, the protocol and the facts about the machine.
                at = whole.index(b"\x80\x02", whole.index(b"little_endian"))
                put("pickle", name, whole[at:])
                put("written", name, whole[at:])


def safetensors():
    def file(directory, content):
        text = json.dumps(directory).encode()
        return struct.pack("<Q", len(text)) + text + content

    w = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}
    put("safetensors", "one", file({"w": w}, bytes(16)))
    put("safetensors", "two", file({"w": w, "n": {"dtype": "I64", "shape": [], "data_offsets": [16, 24]}}, bytes(24)))
    fields = {
        "format": "pt",
        "by": "hand",
        "checkpoint.accuracy": "0.5",
        "checkpoint.thresholds": "[1.5,2]",
        "checkpoint.optimizer": '{"state":{"$dict":[[0,{"exp_avg":{"$tensor":"m"}}]]},"betas":{"$tuple":[0.9,0.999]}}',
        "checkpoint.rest": '[{"$float":"7ff8000000000000"},{"$int":"00ff"},{"$bytes":"00"},{"$set":[1]},'
        '{"$ordered":[["a",null]]},{"$dtype":"float32"},{"$device":"cpu"},true]',
    }
    m = {"dtype": "BF16", "shape": [1], "data_offsets": [16, 18]}
    put("safetensors", "fields", file({"__metadata__": fields, "w": w, "m": m}, bytes(18)))


def keras():
    """Models written by hand as Keras writes them, with nothing that is not read, so that they are small."""
    layers = [
        ("InputLayer", {"name": "i", "batch_shape": [None, 3, 4, 1]}),
        ("Conv2D", {"name": "c", "filters": 2, "kernel_size": [2, 2], "padding": "same", "activation": "relu"}),
        ("BatchNormalization", {"name": "b", "axis": [3], "epsilon": 0.1}),
        ("MaxPooling2D", {"name": "m", "pool_size": [2, 2]}),
        ("Flatten", {"name": "f"}),
        ("Dense", {"name": "d", "units": 3, "activation": {"class_name": "function", "config": "softmax"}}),
    ]
    variables = {
        "c": [("kernel", (2, 2, 1, 2)), ("bias", (2,))],
        "b": [("gamma", (2,)), ("beta", (2,)), ("moving_mean", (2,)), ("moving_variance", (2,))],
        "d": [("kernel", (4, 3)), ("bias", (3,))],
    }
    numbered = {"c": "conv2d", "b": "batch_normalization", "d": "dense"}

    def model(functional):
        entries, before = [], None
        for name, config in layers:
            entry = {"class_name": name, "config": config}
            if functional:
                tensor = {"class_name": "__keras_tensor__", "config": {"shape": [None], "keras_history": [before, 0, 0]}}
                fed = [] if before is None else [{"args": [tensor], "kwargs": {"mask": None}}]
                entry |= {"name": config["name"], "inbound_nodes": fed}
            entries.append(entry)
            before = config["name"]
        ends = {"input_layers": ["i", 0, 0], "output_layers": [["d", 0, 0]]} if functional else {}
        return json.dumps({"class_name": "Functional" if functional else "Sequential", "config": {"layers": entries, **ends}})

    def named(functional, libver):
        content = io.BytesIO()
        with h5py.File(content, "w", libver=libver) as file:
            file.attrs["model_config"] = model(functional).encode()
            for layer, all_of_it in variables.items():
                for name, shape in all_of_it:
                    file[f"model_weights/{layer}/{layer}/{name}:0"] = np.ones(shape, "f4")
        return content.getvalue()

    put("keras", "sequential", named(False, "earliest"))
    put("keras", "functional", named(True, "latest"))
    weights = io.BytesIO()
    with h5py.File(weights, "w") as file:
        for layer, all_of_it in variables.items():
            for i, (_, shape) in enumerate(all_of_it):
                file[f"layers/{numbered[layer]}/vars/{i}"] = np.ones(shape, "f2")
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("config.json", model(True))
        file.writestr("model.weights.h5", weights.getvalue())
    put("keras", "archive", archive.getvalue())
    for name, groups in [("weights", ["layers", "vars"]), ("nir", ["node/nodes", "node/edges"])]:
        other = io.BytesIO()
        with h5py.File(other, "w", libver="latest") as file:
            for group in groups:
                file.create_group(group)
        put("keras", name, other.getvalue())


def frames():
    """A byte each for format, scaling, contacts less one and samples less one; whole frames, and the beginning of another."""
    floats = [0.5, -1.0, 0.25, 0.0, float("nan"), 0.0, 0.0, 0.0, 0.5, 0.5, 0.5, 0.5]
    put("frames", "f32", bytes([0, 0, 1, 1]) + struct.pack("<12f", *floats) + b"\1\2")
    put("frames", "i16", bytes([1, 0, 1, 1]) + struct.pack("<8h", -300, 100, 500, 100, 7, 7, 7, 7) + b"\1")


if __name__ == "__main__":
    torch.manual_seed(0)
    checkpoints()
    safetensors()
    keras()
    frames()
