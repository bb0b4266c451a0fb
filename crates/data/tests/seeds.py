"""Writes the seeds of the fuzz targets that read recordings, and of this crate's tests of memory and damage.

    python crates/data/tests/seeds.py tests/fuzz/seeds

Needs numpy, scipy and h5py. The files are small: two or three recordings of one contact a split.
"""
import os
import sys

import h5py
import numpy as np
import scipy.io

HEAD = b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + bytes([0, 2]) + b"IM"


def values(n):
    return (np.arange(n * 100) * 769 % 2049 / 1024 - 1).reshape(n, 100)


def labels(n):
    return np.arange(n) % 3 + 1.0


def variables():
    return dict(
        training_data_rat=values(3).T, training_data_labels=labels(3)[:, None],
        test_data_rat=values(2).T, test_data_labels=labels(2)[:, None],
    )


def mat(folder):
    few = {k: v[:, :1].astype("i1") if "rat" in k else v[:1] for k, v in variables().items()}
    scipy.io.savemat(f"{folder}/plain", variables(), appendmat=False)
    scipy.io.savemat(f"{folder}/packed", dict(variables(), note="a rat"), appendmat=False, do_compression=True)
    scipy.io.savemat(f"{folder}/small", few, appendmat=False)
    scipy.io.savemat(f"{folder}/level4", few, appendmat=False, format="4")
    names = np.array([["prick"]], object)
    beside = dict(few, test_data_labels=names, a=dict(x=few["test_data_rat"], y=1.0), samples=50.0)
    scipy.io.savemat(f"{folder}/cells", beside, appendmat=False)


def npz(folder):
    arrays = dict(train_x=values(3)[:, None], train_y=labels(3) - 1, test_x=values(2)[:, None], test_y=labels(2) - 1)
    for name, save in (("plain", np.savez), ("packed", np.savez_compressed)):
        with open(f"{folder}/{name}", "wb") as f:
            save(f, **arrays, contacts=1, sample_rate_hz=30e3)
    with open(f"{folder}/turned", "wb") as f:
        np.savez_compressed(f, test_x=np.asfortranarray(arrays["test_x"].astype(">f4")), test_y=np.array([2, 1], "u1"))
    with open(f"{folder}/text", "wb") as f:
        np.savez_compressed(f, test_x=(arrays["test_x"] * 99).astype("i1"), test_y=np.array(["pricking", "dorsi"]))
    with open(f"{folder}/hot", "wb") as f:
        np.savez_compressed(f, test_x=arrays["test_x"].astype("f2"), test_y=np.eye(3)[:2])


def hdf5(folder):
    def save(name, libver=None, rows=(3, 2), **options):
        with h5py.File(f"{folder}/{name}", "w", userblock_size=512, libver=libver) as f:
            for split, n in zip(("training", "test"), rows):
                f.create_dataset(split + "_data_rat", data=values(n), **options)
                f[split + "_data_labels"] = labels(n)[None]
        with open(f"{folder}/{name}", "r+b") as f:
            f.write(HEAD)

    save("contiguous")
    save("chunks", chunks=(2, 30))
    save("packed", chunks=(2, 60), compression="gzip", shuffle=True, fletcher32=True)
    save("array", "latest", chunks=(2, 60), compression="gzip", shuffle=True)
    save("single", "latest", rows=(2, 2), chunks=(2, 100), compression="gzip")
    save("implicit", ("v110", "v110"), chunks=(1, 50))
    with h5py.File(f"{folder}/octave", "w", libver="latest") as f:
        for name, kind, value in (("test_data_rat", "matrix", values(2).astype("f4")), ("test_data_labels", "cell", None)):
            group = f.create_group(name)
            group.attrs["OCTAVE_NEW_FORMAT"] = np.uint8(1)
            group["type"] = np.bytes_(kind)
            if value is not None:
                group["value"] = value
            for i, text in enumerate(("prick", "dorsi") if value is None else ()):
                cell = group.create_group(f"value/_{i}")
                cell.attrs["OCTAVE_NEW_FORMAT"] = np.uint8(1)
                cell["type"] = np.bytes_("string")
                cell["value"] = np.array([[ord(c)] for c in text], "i1")
    with h5py.File(f"{folder}/cells", "w", libver="latest") as f:
        f["test_data_rat"] = values(2).astype("f4")
        cells = []
        for i, text in enumerate(("prick", "dorsi")):
            cell = f.create_dataset(f"#refs#/{i}", data=np.array([[ord(c)] for c in text], "u2"))
            cell.attrs["MATLAB_class"] = np.bytes_("char")
            cells.append(cell.ref)
        f.create_dataset("test_data_labels", data=np.array([cells], h5py.ref_dtype)).attrs["MATLAB_class"] = np.bytes_("cell")


for write in (mat, npz, hdf5):
    folder = os.path.join(sys.argv[1], write.__name__)
    os.makedirs(folder, exist_ok=True)
    write(folder)
