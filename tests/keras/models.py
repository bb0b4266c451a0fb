#!/usr/bin/env python3
"""Models of Keras on its PyTorch back end, as people save them, and their logits.

    python models.py FOLDER

Writes NAME.h5 and NAME.keras, NAME.x (recordings, rows x columns x channels put channels first, float32), NAME.y (their logits)
and models.json: for each name its input (channels, rows, columns) and the notes that are to be expected.
"""
import json
import os
import sys
from pathlib import Path

os.environ["KERAS_BACKEND"] = "torch"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import keras
import numpy as np
from keras import layers as L


def lab_layers(filters, dense):
    """The network of ESCAPE-NET's lab: 64 contacts, kernels of 9 x 9 and 1 x 1, maxima with `same` padding."""
    return [
        L.Conv2D(filters, (9, 9), padding="same", activation="relu"),
        L.MaxPooling2D((2, 2), padding="same"),
        L.Conv2D(filters, (1, 1), padding="same", activation="relu"),
        L.MaxPooling2D((3, 2), padding="same"),
        L.Flatten(),
        L.Dense(dense, activation="relu"),
        L.Dropout(0.5),
        L.Dense(3, activation="softmax"),
    ]


def functional(shape, layers):
    x = first = keras.Input(shape)
    for layer in layers:
        x = layer(x)
    return keras.Model(first, x)


def sequential(shape, layers):
    return keras.Sequential([keras.Input(shape), *layers])


def made():
    for filters, dense in [(4, 8), (16, 64), (64, 256)]:
        yield f"lab_{filters}", sequential((64, 100, 1), lab_layers(filters, dense))
        yield f"lab_{filters}_functional", functional((64, 100, 1), lab_layers(filters, dense))
    yield "norms", sequential((13, 17, 2), [
        L.BatchNormalization(),
        L.ZeroPadding2D(((1, 2), (0, 3))),
        L.Conv2D(6, (4, 3), strides=(2, 3), padding="same", use_bias=False),
        L.BatchNormalization(scale=False),
        L.ReLU(),
        L.DepthwiseConv2D((3, 2), depth_multiplier=2, padding="same"),
        L.BatchNormalization(center=False, epsilon=0.01),
        L.Activation("relu"),
        L.SpatialDropout2D(0.1),
        L.Conv2D(8, 2, groups=4, activation="linear"),
        L.GaussianNoise(0.1),
        L.AveragePooling2D(2),
        L.Flatten(),
        L.BatchNormalization(),
        L.Dense(5, use_bias=False),
        L.BatchNormalization(center=False, scale=False),
        L.ReLU(),
        L.Dense(4),
        L.Softmax(),
    ])
    yield "global", functional((20, 21, 1), [
        L.Conv2D(5, 3, activation="relu"),
        L.AveragePooling2D((3, 3), strides=(1, 1), padding="same"),
        L.Conv2D(7, 3, activation="relu"),
        L.GlobalAveragePooling2D(),
        L.Dense(6, activation="relu"),
        L.Dense(2, activation="softmax"),
    ])
    yield "maxima", sequential((9, 8, 1), [
        L.Conv2D(5, 3, activation="relu", padding="same", strides=2),
        L.MaxPooling2D(3, strides=1, padding="same"),
        L.GlobalMaxPooling2D(keepdims=True),
        L.Flatten(),
        L.Dense(2),
    ])
    yield "reshaped", sequential((12, 10), [
        L.Reshape((12, 10, 1)),
        L.Conv2D(3, (2, 3), activation="relu"),
        L.Flatten(),
        L.Dense(2),
    ])
    yield "first", sequential((2, 9, 8), [
        L.Conv2D(5, 3, activation="relu", padding="same", data_format="channels_first"),
        L.BatchNormalization(axis=1),
        L.MaxPooling2D(2, data_format="channels_first"),
        L.Flatten(data_format="channels_first"),
        L.Dense(3),
    ])
    yield "first_plain", functional((2, 9, 8), [
        L.Conv2D(5, 3, activation="relu", data_format="channels_first"),
        L.Flatten(),
        L.Dense(3),
    ])


def main():
    folder = Path(sys.argv[1])
    random = np.random.default_rng(7)
    described = {}
    for name, model in made():
        # As a training leaves them: biases, and statistics that are not the first ones.
        for layer in model.layers:
            values = []
            for variable in layer.weights:
                shape = tuple(variable.shape)
                if variable.name in ("kernel", "depthwise_kernel"):
                    values.append(variable.numpy())
                elif variable.name in ("gamma", "moving_variance"):
                    values.append(random.uniform(0.5, 1.5, shape).astype("f4"))
                elif variable.dtype == "float32":
                    values.append(random.normal(0, 0.3, shape).astype("f4"))
                else:
                    values.append(variable.numpy())
            layer.set_weights(values)
        model.save(folder / f"{name}.h5")
        model.save(folder / f"{name}.keras")
        left_out = [layer.name for layer in model.layers if type(layer) is L.GaussianNoise]
        last = model.layers[-1]
        if isinstance(last, L.Softmax):
            left_out.append(last.name)
            inner = keras.Sequential([keras.Input(model.input_shape[1:]), *model.layers[:-1]])
        else:
            if last.activation is keras.activations.softmax:
                left_out.append(last.name)
                last.activation = keras.activations.linear
            inner = model
        shape = model.input_shape[1:]
        x = random.normal(0, 1, (3, *shape)).astype("f4")
        y = np.asarray(keras.ops.convert_to_numpy(inner(x, training=False)), "f4")
        if not name.startswith("first"):
            x = x.reshape(3, *shape, *([1] if len(shape) == 2 else [])).transpose(0, 3, 1, 2)
        (folder / f"{name}.x").write_bytes(np.ascontiguousarray(x).tobytes())
        (folder / f"{name}.y").write_bytes(y.tobytes())
        described[name] = {"input": x.shape[1:], "left_out": left_out}
    (folder / "models.json").write_text(json.dumps(described))


main()
