"""PyTorch's side of checkpoint_pytorch.rs.

    checkpoint_pytorch.py write FOLDER        files of torch.save and safetensors, each with what it holds in a .txt
    checkpoint_pytorch.py dump FOLDER         what torch.load(weights_only=True) finds in every .pth, as .found
    checkpoint_pytorch.py study FILE          uses a checkpoint as the study's code does
    checkpoint_pytorch.py real FOLDER         the same for checkpoints of 2018 that the package lpips carries
    checkpoint_pytorch.py safetensors FILE    the tensors and metadata that safetensors finds, on stdout

What a file holds is told in lines, depth first: a container's kind and length, then its items; numbers and text
in hexadecimal where decimals would hide something. The test writes the same lines for what it reads.
"""

import argparse
import collections
import copy
import dataclasses
import datetime
import enum
import importlib.metadata
import json
import pathlib
import struct
import sys
import zipfile

import numpy as np
import safetensors
import safetensors.torch
import torch
import torch.nn.utils.prune
from torch import nn


def tell(value, line):
    if value is None:
        line("none")
    elif isinstance(value, (bool, np.bool_)):
        line(f"bool {int(value)}")
    elif isinstance(value, (int, np.integer)):
        line(f"int {int(value)}")
    elif isinstance(value, (float, np.floating)):
        line("float " + struct.pack("<d", float(value)).hex())
    elif isinstance(value, str):
        line("str " + value.encode().hex())
    elif isinstance(value, (bytes, bytearray)):
        line("bytes " + bytes(value).hex())
    elif isinstance(value, (list, tuple, set, frozenset)):
        kind = {list: "list", set: "set", frozenset: "set"}.get(type(value), "tuple")
        line(f"{kind} {len(value)}")
        for item in value:
            tell(item, line)
    elif isinstance(value, dict):
        kind = "ordered" if isinstance(value, collections.OrderedDict) else "dict"
        line(f"{kind} {len(value)}")
        for key, item in value.items():
            tell(key, line)
            tell(item, line)
    elif isinstance(value, np.ndarray):
        tell(torch.from_numpy(value.astype(value.dtype.newbyteorder("="))), line)
    elif isinstance(value, torch.Tensor):
        flat = value.detach().resolve_neg().contiguous().flatten()
        content = flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""
        shape = ",".join(map(str, value.shape))
        line(f"tensor {value.dtype} [{shape}] {content.hex()}")
    elif isinstance(value, (torch.dtype, torch.device)):
        line(f"{type(value).__name__} {value}")
    else:
        raise TypeError(f"no line for {type(value)}")


DTYPES = [
    torch.float64, torch.float32, torch.float16, torch.bfloat16,
    torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool,
    torch.uint64, torch.uint32, torch.uint16,
]  # fmt: skip


class Colour(enum.Enum):
    RED = 1


@dataclasses.dataclass
class Settings:
    depth: int = 3


class EasyDict(dict):
    pass


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 2, 3, bias=False), nn.BatchNorm2d(2))
        self.classifier = nn.Sequential(nn.Linear(8, 3, bias=False))

    def forward(self, x):
        return self.classifier(self.features(x).flatten(1))


def trained(make):
    """A state dict and that of its optimiser after two steps."""
    net = nn.DataParallel(Net())
    optimizer = make(net.parameters())
    for _ in range(2):
        optimizer.zero_grad()
        net(torch.randn(5, 1, 4, 4)).square().sum().backward()
        optimizer.step()
    return net.state_dict(), optimizer.state_dict()


def readable():
    """Name, value, and what torch.save is told."""
    base = torch.arange(24.0).reshape(2, 3, 4)
    yield "dtypes", {str(d): (torch.rand(2, 3) * 100).to(d) for d in DTYPES}, {}
    yield "views", {
        "transposed": base.transpose(0, 2),
        "slice": base[:, 1:, ::2],
        "one": base[1, 2, 3],
        "expanded": torch.tensor([[1.0], [2.0]]).expand(2, 5),
        "channels last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "diagonal": torch.randn(5, 5).diagonal(),
        "overlapping": torch.arange(9.0).unfold(0, 4, 1),
        "bits": torch.randn(6).view(torch.int32),
        "scalar": torch.tensor(2.5),
        "none": torch.zeros(3, 0, 2),
        "slice of none": torch.zeros(0)[0:0],
    }, {}
    first = torch.randn(100)
    yield "shared", [first, first[10:20], first.reshape(10, 10).t(), first, torch.randn(3)], {}
    parameter = nn.Parameter(torch.randn(3))
    parameter.note = "an attribute"
    plain = torch.randn(2, requires_grad=True)
    plain.note = 1
    yield "parameters", [nn.Parameter(torch.randn(2, 2)), parameter, plain, torch.randn(2, requires_grad=True)], {}
    yield "state_dict", nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).state_dict(), {}
    yield "half", {"double": torch.randn(4000, dtype=torch.float64) * 3e4, "single": torch.randn(4000) * 1e-6}, {}
    optimizers = {
        "adam": lambda p: torch.optim.Adam(p, lr=1e-4, weight_decay=5e-4),
        "amsgrad": lambda p: torch.optim.AdamW(p, amsgrad=True),
        "sgd": lambda p: torch.optim.SGD(p, lr=0.01),
        "nesterov": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9, nesterov=True),
    }
    for name, make in optimizers.items():
        weights, optimizer = trained(make)
        ann = {"accuracy": 0.75, "epoch": 12, "state_dict": weights, "optimizer": optimizer}
        yield name, ann, {}
    yield "numpy", {
        "float64": np.float64(0.1),
        "float32": np.float32(0.1),
        "float16": np.float16(0.1),
        "int64": np.int64(-7),
        "uint8": np.uint8(200),
        "bool": np.bool_(True),
        "mean": np.mean(np.array([0.25, 0.5])),
        "array": np.arange(6, dtype=np.float32).reshape(2, 3),
        "fortran": np.asfortranarray(np.arange(6, dtype=np.int16).reshape(2, 3)),
        "big-endian": np.arange(4, dtype=">f8"),
        "empty": np.zeros((0, 2)),
    }, {}
    plain = {
        "ints": [0, 255, 256, 65535, 65536, -1, 2**31, -(2**63), 2**63 - 1],
        "floats": [0.1, -0.0, float("inf"), float("nan")],
        "texts": ["", "Grüße, 神経", "a" * 300],
        "bytes": [b"", bytes(range(256)), b"x" * 300],
        "containers": [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), {3}, frozenset(), [[]], {}],
        "many": list(range(3000)),
        "keys": {None: 1, (0, "a"): 2, 1.5: 3, b"k": 4},
        "torch": [torch.float32, torch.device("cpu"), torch.device("cuda", 1), torch.Size([2, 3])],
        "array": np.arange(3.0),
        "number": np.float64(3),
        "tensor": torch.arange(3),
        "flags": [True, False, None],
    }
    for protocol in range(2, 6):
        yield f"protocol{protocol}", plain, {"pickle_protocol": protocol}
    snn = {
        "accuracy": torch.tensor(0.6962),
        "epoch": np.int64(9),
        "state_dict": trained(optimizers["adam"])[0],
        "thresholds": [torch.tensor(7.5), 1.25, np.float32(0.5)],
        "timesteps": 28,
        "leak_mem": 1.0,
        "activation": "Linear",
        "scaling_threshold": 1.0,
    }
    yield "snn", snn, {}


def describe(value, path):
    with open(path, "w") as out:
        tell(value, lambda line: print(line, file=out))


def expanded():
    """Tensors that are not kept element by element."""
    x = torch.randn(6, 4, 3) * 3
    scales, zeros = torch.rand(6, dtype=torch.float64) + 0.01, torch.arange(6)
    kinds = {"qint8": torch.qint8, "quint8": torch.quint8, "qint32": torch.qint32}
    quantised = {f"tensor {n}": torch.quantize_per_tensor(x, 0.0712345, 3, kind) for n, kind in kinds.items()}
    quantised |= {f"channel {n}": torch.quantize_per_channel(x, scales, zeros, 0, kind) for n, kind in kinds.items()}
    quantised["axis"] = torch.quantize_per_channel(x, scales[:4], zeros[:4], 1, torch.qint8)
    quantised["floats"] = torch.quantize_per_channel(x, scales.float(), torch.rand(6), 0, torch.quint8)
    quantised["view"] = quantised["tensor qint8"].transpose(0, 2)
    few = torch.randn(6, 8) * (torch.rand(6, 8) > 0.7)
    twice = torch.sparse_coo_tensor([[0, 1, 0], [2, 0, 2]], [1.0, 2.0, 0.1], (2, 3))
    sparse = {"coo": few.to_sparse(), "twice": twice, "hybrid": torch.randn(3, 2, 2).to_sparse(1)}
    sparse |= {"csr": few.to_sparse_csr(), "csc": few.to_sparse_csc(), "double": few.double().to_sparse()}
    sparse |= {"bsr": few.to_sparse_bsr((2, 4)), "bsc": few.to_sparse_bsc((3, 2)), "none": torch.zeros(2, 3).to_sparse()}
    return {"quantised": quantised, "sparse": sparse}


def foreign():
    """Weights among what training programs keep beside them."""
    return {
        "model": nn.DataParallel(Net()).state_dict(),
        "args": argparse.Namespace(lr=0.1, name="x", out=pathlib.Path("/a/b")),
        "colour": Colour.RED,
        "settings": Settings(),
        "function": foreign,
        "class": Net,
        "now": datetime.datetime(2024, 1, 2),
        "hyper_parameters": {"lr": 0.1, "out": pathlib.Path("a"), "list": [1, Colour.RED]},
        "names": np.array(["a", "b"]),
        "objects": np.array([1, "b"], dtype=object),
        "defaults": collections.defaultdict(list, {"a": [1]}),
        "easy": EasyDict(depth=3),
        Colour.RED: 3,
        "loss": torch.tensor(1 + 2j),
        "epoch": np.int64(7),
    }


def in_parts():
    """A state dict with weights in parts, and the one they make."""
    net = nn.Sequential(*(nn.Conv2d(2, 3, 2) for _ in range(3)), *(nn.Linear(4, 3) for _ in range(3)))
    nn.utils.prune.l1_unstructured(net[0], "weight", 0.4)
    nn.utils.weight_norm(net[1])
    nn.utils.parametrizations.weight_norm(net[2])
    nn.utils.spectral_norm(net[3])
    nn.utils.parametrizations.spectral_norm(net[4])
    for layer in net:
        layer(torch.randn(5, 2, 4, 4) if isinstance(layer, nn.Conv2d) else torch.randn(5, 4))
    net.eval()
    parts = copy.deepcopy(net.state_dict())
    for layer in net:
        layer(torch.randn(5, 2, 4, 4) if isinstance(layer, nn.Conv2d) else torch.randn(5, 4))
    whole = {}
    for i, layer in enumerate(net):
        whole[f"{i}.weight"] = layer.weight.detach().clone()
        whole[f"{i}.bias"] = layer.bias.detach().clone()
    return parts, whole


def on_cuda(value, path, **options):
    """What a machine with CUDA would write; where a tensor lies is told by nothing but this tag."""
    tag = torch.serialization.location_tag
    torch.serialization.location_tag = lambda storage: "cuda:1"
    torch.save(value, path, **options)
    torch.serialization.location_tag = tag


def as_of_1_6(source, path):
    """The same archive without the entries that later releases added, and compressed, as some tools leave it."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            entry = name.split("/", 1)[1]
            if entry in ("data.pkl", "version") or entry.startswith("data/"):
                new.writestr(f"archive/{entry}", old.read(name))


def write(folder):
    torch.manual_seed(0)
    legacy = {"_use_new_zipfile_serialization": False}
    for name, value, options in readable():
        torch.save(value, folder / f"{name}.pth", **options)
        describe(value, folder / f"{name}.txt")
        torch.save(value, folder / f"{name}-legacy.pth", **options, **legacy)
        describe(value, folder / f"{name}-legacy.txt")
    value = {"a": torch.randn(3, 4).t(), "b": nn.Parameter(torch.randn(2)), "c": [torch.arange(5)]}
    for name, options in [("cuda", {}), ("cuda-legacy", legacy)]:
        on_cuda(value, folder / f"{name}.pth", **options)
        describe(value, folder / f"{name}.txt")
    as_of_1_6(folder / "adam.pth", folder / "adam-1.6.pth")
    (folder / "adam-1.6.txt").write_text((folder / "adam.txt").read_text())

    tensors = {str(d): (torch.rand(2, 3) * 100).to(d) for d in DTYPES}
    tensors |= {"scalar": torch.tensor(2.5), "none": torch.zeros(3, 0, 2)}
    for name, metadata in [("bare", None), ("format", {"format": "pt"}), ("told", {"format": "pt", "by": "hand ü"})]:
        path = folder / f"{name}.safetensors"
        safetensors.torch.save_file(tensors, path, metadata=metadata)
        # In the order of the file's directory.
        with open(path, "rb") as file:
            order = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        found = collections.OrderedDict((k, tensors[k]) for k in order if k != "__metadata__")
        told = {"state_dict": found, "metadata": {"by": "hand ü"}} if name == "told" else found
        describe(told, folder / f"{name}.txt")
    safetensors.torch.save_file({"w": torch.zeros(3).to(torch.float8_e4m3fn)}, folder / "float8.safetensors")
    double, single = (torch.load(folder / "half.pth")[key] for key in ("double", "single"))
    (folder / "half.bin").write_bytes(torch.cat([double.half(), single.half()]).numpy().tobytes())

    value = {"w": torch.arange(4.0)}
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), folder / "script.pth")
    torch.save(nn.Sequential(nn.Linear(2, 2)), folder / "module.pth")
    torch.save({"w": torch.zeros(3, dtype=torch.complex64)}, folder / "complex.pth")
    torch.save({"w": torch.zeros(3, dtype=torch.complex64)}, folder / "complex-legacy.pth", **legacy)
    torch.save(nn.Sequential(nn.Linear(2, 2)), folder / "module-legacy.pth", **legacy)
    torch.save({"w": torch.zeros(3, dtype=torch.complex64).conj().imag}, folder / "negative.pth")
    torch.save({"w": torch.empty(3, device="meta")}, folder / "meta.pth")
    rows = [torch.ones(2), torch.ones(3)]
    torch.save({"w": torch.nested.nested_tensor(rows)}, folder / "nested.pth")
    torch.save({"w": torch.nested.nested_tensor(rows, layout=torch.jagged)}, folder / "jagged.pth")
    torch.save({"model": Net()}, folder / "whole.pth")
    for name, tensors in expanded().items():
        dense = {key: t.dequantize() if t.is_quantized else t.to_dense() for key, t in tensors.items()}
        for end, options in [("", {}), ("-legacy", legacy)]:
            torch.save(tensors, folder / f"{name}{end}.pth", **options)
            describe(dense, folder / f"{name}{end}.txt")
    torch.save(foreign(), folder / "foreign.pth")
    torch.save(foreign(), folder / "foreign-legacy.pth", **legacy)
    parts, whole = in_parts()
    torch.save(parts, folder / "parts.pth")
    torch.save(whole, folder / "put-together.pth")
    torch.serialization.set_crc32_options(False)
    torch.save(value, folder / "unchecked.pth")
    describe(value, folder / "unchecked.txt")


def real(folder):
    """Files that nobody here wrote, in the legacy format by releases of their time."""
    for file in importlib.metadata.files("lpips"):
        if file.suffix == ".pth":
            name = "-".join(file.parts[-2:])
            (folder / name).write_bytes(file.locate().read_bytes())
            describe(torch.load(folder / name, weights_only=True, map_location="cpu"), (folder / name).with_suffix(".txt"))


def study(path):
    saved = torch.load(path, weights_only=True, map_location="cpu")
    order = "accuracy epoch state_dict optimizer thresholds timesteps leak activation scaling_threshold note"
    assert list(saved) == order.split(), list(saved)
    assert isinstance(saved["state_dict"], collections.OrderedDict)
    kinds = {"accuracy": float, "epoch": int, "timesteps": int, "leak": float, "activation": str}
    for key, kind in kinds.items():
        assert type(saved[key]) is kind, (key, saved[key])
    assert saved["thresholds"] == [7.3638, 1.4794] and all(type(t) is float for t in saved["thresholds"])
    net = nn.DataParallel(Net())
    net.load_state_dict(saved["state_dict"])
    optimizer = torch.optim.Adam(net.parameters())
    optimizer.load_state_dict(saved["optimizer"])
    net(torch.randn(5, 1, 4, 4)).sum().backward()
    optimizer.step()


if __name__ == "__main__":
    command, path = sys.argv[1], pathlib.Path(sys.argv[2])
    if command == "write":
        write(path)
    elif command == "real":
        real(path)
    elif command == "dump":
        for file in path.glob("*.pth"):
            describe(torch.load(file, weights_only=True), file.with_suffix(".found"))
    elif command == "study":
        study(path)
    elif command == "safetensors":
        tell(safetensors.torch.load_file(path), print)
        with safetensors.safe_open(path, "pt") as file:
            tell(dict(sorted(file.metadata().items())), print)
    else:
        sys.exit(f"unknown command {command}")
