#!/usr/bin/env python3
"""Networks in TFLite's format: converted, and compared with LiteRT on the same file.

    python3 -m venv venv && venv/bin/pip install numpy pillow ai-edge-litert tensorflow-cpu
    venv/bin/python tests/corpus/tflite.py make FOLDER
    venv/bin/python tests/corpus/tflite.py large FOLDER
    venv/bin/python tests/corpus/tflite.py run FOLDER --resight target/debug/resight > table.md

By hand, not in the test command. `make` draws pictures of 20 classes (five shapes in four patterns), trains
networks of Keras on them for some minutes, and quantises them with TensorFlow's converter. `large` does so
with Keras's ResNet-50 of random weights, to take times with. `run` converts each
`*@SIZE.tflite`, whoever made it, and prints over pictures that were neither trained nor calibrated on how often
the best class is LiteRT's, and the signal to noise ratio of the logits against it, for each way in which LiteRT
computes: XNNPACK, which is what its interpreter takes if nothing is said, the reference kernels, and the
optimised ones without XNNPACK. The last columns are XNNPACK against the reference kernels.
"""

import argparse
import pathlib
import sys

import compared

CALIBRATED = 100
TRAINED = 4200
CLASSES = 20


def drawn(generator, label, size):
    """A picture of a class: one shape in one pattern, of any colour, size, turn and place, on any ground."""
    import numpy
    from PIL import Image

    shape, pattern = label % 5, label // 5
    y, x = numpy.mgrid[0:size, 0:size] / size - 0.5
    centre, turn = generator.uniform(-0.15, 0.15, 2), generator.uniform(0, 2 * numpy.pi)
    half = generator.uniform(0.2, 0.35)
    u = ((x - centre[0]) * numpy.cos(turn) + (y - centre[1]) * numpy.sin(turn)) / half
    v = ((y - centre[1]) * numpy.cos(turn) - (x - centre[0]) * numpy.sin(turn)) / half
    radius, angle = numpy.hypot(u, v), numpy.arctan2(v, u)
    inside = [
        radius < 0.9,
        numpy.maximum(abs(u), abs(v)) < 0.75,
        (v < 0.6) & (abs(u) < (v + 1.0) * 0.6),
        radius < 0.65 + 0.3 * numpy.cos(5 * angle),
        numpy.minimum(abs(u), abs(v)) < numpy.where(numpy.maximum(abs(u), abs(v)) < 0.95, 0.28, -1),
    ][shape]
    waves = [numpy.ones_like(u), numpy.sin(14 * u), numpy.sin(12 * u) * numpy.sin(12 * v), numpy.sin(20 * radius)]
    ground, one, two = generator.uniform(0, 255, (3, 3))
    two = (one + 128) % 256 if pattern else one
    slope = generator.uniform(-60, 60, 3) * (x + y)[..., None]
    drawing = numpy.where((waves[pattern] > 0)[..., None], one, two)
    drawing = numpy.where(inside[..., None], drawing, ground + slope) + generator.normal(0, 8, (size, size, 3))
    return Image.fromarray(numpy.clip(drawing, 0, 255).astype(numpy.uint8))


def pictures_of(folder, size, count):
    """PNG files of the network's size, calibration first."""
    import numpy

    target = folder / f"pictures{size}"
    if not target.exists():
        target.mkdir(parents=True)
        generator = numpy.random.default_rng(2)
        for index in range(count + CALIBRATED):
            drawn(generator, index % CLASSES, size).save(target / f"{index:04}.png")
    return sorted(target.glob("*.png"))


def trained(keras, model, size, epochs):
    """Trains on other pictures than those of the folder; gives the share that is right among 200 of these."""
    import numpy

    generator = numpy.random.default_rng(1)
    labels = numpy.arange(TRAINED) % CLASSES
    batch = numpy.stack([numpy.asarray(drawn(generator, label, size)) for label in labels])
    batch = batch.astype(numpy.float32) / 127.5 - 1
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    rate = keras.optimizers.schedules.CosineDecay(3e-3, epochs * TRAINED // 32)
    model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
    model.fit(batch[200:], labels[200:], 32, epochs, verbose=0)
    return model.evaluate(batch[:200], labels[:200], verbose=0)[1]


def levels(file):
    """Grey levels [1, rows, columns, channels]."""
    import numpy
    from PIL import Image

    return numpy.asarray(Image.open(file).convert("RGB"), dtype=numpy.float32)[None]


def residual(keras, batch):
    """A residual network with a max pool, strides and a shortcut of its own."""
    layers = keras.layers

    def convolution(x, channels, stride=1, kernel=3, relu=True):
        x = layers.Conv2D(channels, kernel, stride, "same", use_bias=False)(x)
        x = layers.BatchNormalization()(x)
        return layers.ReLU()(x) if relu else x

    image = x = keras.Input((96, 96, 3), batch_size=batch)
    x = layers.MaxPooling2D(3, 2, "same")(convolution(x, 16, 2))
    for channels, stride in ((16, 1), (32, 2), (64, 2)):
        same = stride == 1 and x.shape[-1] == channels
        shortcut = x if same else convolution(x, channels, stride, 1, relu=False)
        x = convolution(convolution(x, channels, stride), channels, relu=False)
        x = layers.ReLU()(layers.Add()([x, shortcut]))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, layers.Dense(CLASSES)(x))


def mobile(keras, batch):
    """MobileNetV2, narrow: depthwise convolutions, ReLU6, linear bottlenecks, padding of its own."""
    image = keras.Input((96, 96, 3), batch_size=batch)
    return keras.applications.MobileNetV2(input_tensor=image, alpha=0.35, weights=None, classes=CLASSES, classifier_activation=None)


def gated(keras, batch):
    """MobileNetV3: gates of channels, hard swish, hard sigmoid."""
    image = keras.Input((96, 96, 3), batch_size=batch)
    return keras.applications.MobileNetV3Small(
        input_tensor=image, alpha=0.75, weights=None, classes=CLASSES, classifier_activation=None,
        include_preprocessing=False, minimalistic=False,
    )


def flattened(keras, batch):
    """Branches that are concatenated, an average pool, and a fully connected layer of an image."""
    layers = keras.layers
    image = keras.Input((96, 96, 3), batch_size=batch)
    x = layers.Conv2D(16, 3, 2, "same", activation="relu")(image)
    one = layers.Conv2D(16, 3, 2, "same", activation="relu")(x)
    two = layers.AveragePooling2D(2, 2)(layers.Conv2D(8, 1, activation="relu6")(x))
    x = layers.MaxPooling2D(4)(layers.Concatenate()([one, two]))
    x = layers.Dense(32, activation="relu")(layers.Flatten()(x))
    return keras.Model(image, layers.Dense(CLASSES)(x))


NETWORKS = {"residual": residual, "mobilenet-v2": mobile, "mobilenet-v3": gated, "flattened": flattened}
# What the first layer takes, of grey levels, and the type of the file's input.
FORMS = {"int8": "int8", "uint8": "uint8", "float": "float32"}


def make(folder, count, epochs, names):
    import numpy
    import tensorflow

    keras = tensorflow.keras
    for name, build in NETWORKS.items():
        if names and name not in names:
            continue
        keras.utils.set_random_seed(1)
        model = build(keras, None)
        size = model.input_shape[1]
        files = pictures_of(folder, size, count)[:CALIBRATED]
        batch = numpy.concatenate([levels(file) / 127.5 - 1 for file in files])
        for layer in model.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.momentum = 0.9
        right = trained(keras, model, size, epochs)
        print(f"trained {name}: {100 * right:.1f} % right", flush=True)
        # TFLite files are for one picture.
        single = build(keras, 1)
        single.set_weights(model.get_weights())
        model = single
        for form, kind in FORMS.items():
            (folder / f"{name}-{form}@{size}.tflite").write_bytes(quantised(model, batch, kind))
            print("made", name, form, flush=True)


def quantised(model, batch, kind):
    """The bytes of a TFLite file in integers throughout, calibrated on a batch, that takes and gives this type."""
    import tensorflow

    converter = tensorflow.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tensorflow.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([picture[None]] for picture in batch)
    converter.target_spec.supported_ops = [tensorflow.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tensorflow.dtypes.as_dtype(kind)
    return converter.convert()


def make_large(folder):
    import numpy
    import tensorflow

    keras = tensorflow.keras
    keras.utils.set_random_seed(1)
    image = keras.Input((224, 224, 3), batch_size=1)
    model = keras.applications.ResNet50(input_tensor=image, weights=None, classifier_activation=None)
    batch = numpy.random.default_rng(2).uniform(-1, 1, (4, 224, 224, 3)).astype(numpy.float32)
    (folder / "resnet50.tflite").write_bytes(quantised(model, batch, "int8"))


def litert_logits(file, pictures, kind):
    """What goes into the probabilities, or the output where there are none, as real numbers."""
    import numpy
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(
        model_path=str(file),
        experimental_op_resolver_type=getattr(OpResolverType, kind),
        experimental_preserve_all_tensors=True,
        num_threads=1,
    )
    interpreter.allocate_tensors()
    given, output = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    # Probabilities are left out of a model file; what XNNPACK has within it does not tell.
    wanted = output["index"]
    for operator in reversed(interpreter._get_ops_details()):
        if operator["op_name"] in ("DEQUANTIZE", "QUANTIZE", "SOFTMAX") and operator["outputs"][0] == wanted:
            if kind == "BUILTIN" and operator["op_name"] == "SOFTMAX":
                return None
            wanted = operator["inputs"][0]
    details = next(tensor for tensor in interpreter.get_tensor_details() if tensor["index"] == wanted)
    rows = []
    for picture in pictures:
        # Where integers are taken they are the bytes, as everybody gives them.
        of_bytes = {numpy.float32: lambda x: x / 127.5 - 1, numpy.int8: lambda x: x - 128, numpy.uint8: lambda x: x}
        real = of_bytes[given["dtype"]](levels(picture))
        interpreter.set_tensor(given["index"], real.astype(given["dtype"]))
        interpreter.invoke()
        found = interpreter.get_tensor(wanted).astype(numpy.float64).ravel()
        scale, zero = details["quantization"]
        rows.append((found - zero) * scale if scale else found)
    return numpy.stack(rows)


# Names of the ways and LiteRT's for them.
WAYS = {"XNNPACK": "BUILTIN", "reference": "BUILTIN_REF", "optimised": "BUILTIN_WITHOUT_DEFAULT_DELEGATES"}


def run(folder, resight, count, names):
    heads = [f"{way}, % | dB" for way in WAYS]
    print(f"| file | {' | '.join(heads)} | between them, % | dB |")
    print("|---|" + "---|---|" * (len(WAYS) + 1), flush=True)
    for file, size in compared.files(folder, ".tflite", names):
        pictures = compared.pictures(folder, size, CALIBRATED, count)
        real = {way: litert_logits(file, pictures, kind) for way, kind in WAYS.items()}
        preprocess = ["--preprocess", "tf"] if "float" in file.stem else []
        classes = real["reference"].shape[1]
        ours, refusal = compared.converted_logits(resight, file, classes, pictures, "--resize", size, *preprocess)
        if refusal:
            print(f"| {file.stem} | {refusal} " + "| " * 9 + "|", flush=True)
            continue
        pairs = [(logits, ours) for logits in real.values()] + [(real["reference"], real["XNNPACK"])]
        cells = [
            "| " if one is None or other is None else f"{compared.same_best(one, other):.1f} | {compared.decibel(one, other):.1f}"
            for one, other in pairs
        ]
        print(f"| {file.stem} | {' | '.join(cells)} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["make", "large", "run"])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--epochs", type=int, default=8, help="how often make shows each picture")
    parser.add_argument("--count", type=int, default=200, help="pictures to compare on")
    parser.add_argument("--resight", default="target/debug/resight")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    if arguments.what == "make":
        make(arguments.folder, arguments.count, arguments.epochs, arguments.names)
    elif arguments.what == "large":
        make_large(arguments.folder)
    else:
        run(arguments.folder, arguments.resight, arguments.count, arguments.names)


if __name__ == "__main__":
    sys.exit(main())
