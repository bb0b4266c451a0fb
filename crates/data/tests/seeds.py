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


def npz(folder):
    arrays = dict(train_x=values(3)[:, None], train_y=labels(3) - 1, test_x=values(2)[:, None], test_y=labels(2) - 1)
    for name, save in (("plain", np.savez), ("packed", np.savez_compressed)):
        with open(f"{folder}/{name}", "wb") as f:
            save(f, **arrays, contacts=1, sample_rate_hz=30e3)
    with open(f"{folder}/turned", "wb") as f:
        np.savez_compressed(f, test_x=np.asfortranarray(arrays["test_x"].astype(">f4")), test_y=np.array([2, 1], "u1"))


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


for write in (mat, npz, hdf5):
    folder = os.path.join(sys.argv[1], write.__name__)
    os.makedirs(folder, exist_ok=True)
    write(folder)
