#!/usr/bin/env python3
"""Networks in TFLite's format: converted, and compared with LiteRT on the same file.

    python3 -m venv venv && venv/bin/pip install numpy pillow ai-edge-litert tensorflow-cpu
    venv/bin/python tests/corpus/tflite.py make FOLDER --pictures PHOTOS
    venv/bin/python tests/corpus/tflite.py run FOLDER --resight target/debug/resight > table.md

By hand, not in the test command. `make` builds networks of Keras with seeded weights, whose normalisations have
the statistics of the pictures, and quantises them with TensorFlow's converter. `run` converts each
`*@SIZE.tflite`, whoever made it, and prints over the pictures that were not calibrated on how often the best
class is LiteRT's, and the signal to noise ratio of the logits against it; beside it the same of LiteRT's
reference kernels against its optimised ones.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

CALIBRATED = 32


def pictures_of(photos, folder, size, count):
    """PNG files of the network's size, calibration first."""
    from PIL import Image

    target = folder / f"pictures{size}"
    if not target.exists():
        target.mkdir(parents=True)
        files = sorted(file for file in photos.rglob("*") if file.suffix.lower() in (".jpg", ".jpeg", ".png"))
        step = max(1, len(files) // (count + CALIBRATED))
        for index, file in enumerate(files[::step][: count + CALIBRATED]):
            image = Image.open(file).convert("RGB")
            side = min(image.size)
            left, top = (image.width - side) // 2, (image.height - side) // 2
            image = image.crop((left, top, left + side, top + side)).resize((size, size), Image.BILINEAR)
            Image.frombytes("RGB", image.size, image.tobytes()).save(target / f"{index:04}.png")
    return sorted(target.glob("*.png"))


def levels(file):
    """Grey levels [1, rows, columns, channels]."""
    import numpy
    from PIL import Image

    return numpy.asarray(Image.open(file).convert("RGB"), dtype=numpy.float32)[None]


def residual(keras):
    """A residual network with a max pool, strides and a shortcut of its own."""
    layers = keras.layers

    def convolution(x, channels, stride=1, kernel=3, relu=True):
        x = layers.Conv2D(channels, kernel, stride, "same", use_bias=False)(x)
        x = layers.BatchNormalization()(x)
        return layers.ReLU()(x) if relu else x

    image = x = keras.Input((96, 96, 3), batch_size=1)
    x = layers.MaxPooling2D(3, 2, "same")(convolution(x, 16, 2))
    for channels, stride in ((16, 1), (32, 2), (64, 2)):
        same = stride == 1 and x.shape[-1] == channels
        shortcut = x if same else convolution(x, channels, stride, 1, relu=False)
        x = convolution(convolution(x, channels, stride), channels, relu=False)
        x = layers.ReLU()(layers.Add()([x, shortcut]))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, layers.Softmax()(layers.Dense(20)(x)))


def mobile(keras):
    """MobileNetV2, narrow: depthwise convolutions, ReLU6, linear bottlenecks, padding of its own."""
    image = keras.Input((96, 96, 3), batch_size=1)
    return keras.applications.MobileNetV2(input_tensor=image, alpha=0.35, weights=None, classes=20)


def gated(keras):
    """MobileNetV3: gates of channels, hard swish, hard sigmoid."""
    image = keras.Input((96, 96, 3), batch_size=1)
    return keras.applications.MobileNetV3Small(
        input_tensor=image, alpha=0.75, weights=None, classes=20, include_preprocessing=False, minimalistic=False
    )


def flattened(keras):
    """Branches that are concatenated, an average pool, and a fully connected layer of an image."""
    layers = keras.layers
    image = keras.Input((96, 96, 3), batch_size=1)
    x = layers.Conv2D(16, 3, 2, "same", activation="relu")(image)
    one = layers.Conv2D(16, 3, 2, "same", activation="relu")(x)
    two = layers.AveragePooling2D(2, 2)(layers.Conv2D(8, 1, activation="relu6")(x))
    x = layers.MaxPooling2D(4)(layers.Concatenate()([one, two]))
    x = layers.Dense(32, activation="relu")(layers.Flatten()(x))
    return keras.Model(image, layers.Dense(20)(x))


NETWORKS = {"residual": residual, "mobilenet-v2": mobile, "mobilenet-v3": gated, "flattened": flattened}
# What the first layer takes, of grey levels, and the type of the file's input.
FORMS = {"int8": "int8", "uint8": "uint8", "float": "float32"}


def make(folder, photos, count, names):
    import numpy
    import tensorflow

    keras = tensorflow.keras
    for name, build in NETWORKS.items():
        if names and name not in names:
            continue
        keras.utils.set_random_seed(1)
        model = build(keras)
        size = model.input_shape[1]
        files = pictures_of(photos, folder, size, count)[:CALIBRATED]
        batch = numpy.concatenate([levels(file) / 127.5 - 1 for file in files])
        # The statistics of one picture are near those of all.
        for layer in model.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.momentum = 0.8
        for picture in batch:
            model(picture[None], training=True)
        for form, kind in FORMS.items():
            converter = tensorflow.lite.TFLiteConverter.from_keras_model(model)
            converter.optimizations = [tensorflow.lite.Optimize.DEFAULT]
            converter.representative_dataset = lambda: ([picture[None]] for picture in batch)
            converter.target_spec.supported_ops = [tensorflow.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.inference_input_type = converter.inference_output_type = tensorflow.dtypes.as_dtype(kind)
            (folder / f"{name}-{form}@{size}.tflite").write_bytes(converter.convert())
            print("made", name, form, flush=True)


def litert_logits(file, pictures, optimised):
    """What goes into the probabilities, or the output where there are none, as real numbers."""
    import numpy
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    kind = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES if optimised else OpResolverType.BUILTIN_REF
    interpreter = Interpreter(
        model_path=str(file), experimental_op_resolver_type=kind, experimental_preserve_all_tensors=True
    )
    interpreter.allocate_tensors()
    given, output = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    # Probabilities are left out of a model file.
    wanted = output["index"]
    for operator in reversed(interpreter._get_ops_details()):
        if operator["op_name"] in ("DEQUANTIZE", "QUANTIZE", "SOFTMAX") and operator["outputs"][0] == wanted:
            wanted = operator["inputs"][0]
    details = next(tensor for tensor in interpreter.get_tensor_details() if tensor["index"] == wanted)
    rows = []
    for picture in pictures:
        real = levels(picture) / 127.5 - 1
        scale, zero = given["quantization"]
        if given["dtype"] != numpy.float32:
            least, most = numpy.iinfo(given["dtype"]).min, numpy.iinfo(given["dtype"]).max
            real = numpy.clip(numpy.round(real / numpy.float32(scale)) + zero, least, most)
        interpreter.set_tensor(given["index"], real.astype(given["dtype"]))
        interpreter.invoke()
        found = interpreter.get_tensor(wanted).astype(numpy.float64).ravel()
        scale, zero = details["quantization"]
        rows.append((found - zero) * scale if scale else found)
    return numpy.stack(rows)


def resight_logits(resight, model, files):
    import numpy

    command = [resight, "classify", model, *files, "--json", "--top", "1000000"]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=True)
    rows = []
    for picture in json.loads(done.stdout):
        row = numpy.zeros(len(picture["classes"]))
        for entry in picture["classes"]:
            row[entry["class"]] = entry["logit"]
        rows.append(row)
    return numpy.stack(rows)


def decibel(real, found):
    import numpy

    noise = ((real - found) ** 2).sum()
    return 200.0 if noise == 0 else 10 * numpy.log10((real**2).sum() / noise)


def run(folder, resight, count, names):
    import numpy

    print("| file | same best class, % | SQNR, dB | LiteRT against itself, % | dB |")
    print("|---|---|---|---|---|", flush=True)
    for file in sorted(folder.glob("*@*.tflite")):
        if names and not any(name in file.stem for name in names):
            continue
        size = int(file.stem.rpartition("@")[2])
        pictures = sorted((folder / f"pictures{size}").glob("*.png"))[CALIBRATED:][:count]
        real = litert_logits(file, pictures, True)
        plain = litert_logits(file, pictures, False)
        labels = folder / "labels.txt"
        labels.write_text("".join(f"class {index}\n" for index in range(real.shape[1])))
        with tempfile.TemporaryDirectory() as temporary:
            output = pathlib.Path(temporary) / "model.resight.tar"
            command = [resight, "convert", file, "--labels", labels, "-o", output, "--preprocess", "tf", "--resize", size]
            done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
            if done.returncode:
                print(f"| {file.stem} | {done.stderr.strip().splitlines()[-1].replace('|', '/')} | | | |", flush=True)
                continue
            ours = resight_logits(resight, output, pictures)
        # Equal logits of two classes are no difference.
        best = real[numpy.arange(len(real)), ours.argmax(1)] == real.max(1)
        itself = plain[numpy.arange(len(real)), real.argmax(1)] == plain.max(1)
        print(f"| {file.stem} | {100 * best.mean():.1f} | {decibel(real, ours):.1f} | {100 * itself.mean():.1f} | "
              f"{decibel(real, plain):.1f} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["make", "run"])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--pictures", type=pathlib.Path, help="folder of photographs, for make")
    parser.add_argument("--count", type=int, default=200, help="pictures to compare on")
    parser.add_argument("--resight", default="target/debug/resight")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    if arguments.what == "make":
        make(arguments.folder, arguments.pictures, arguments.count, arguments.names)
    else:
        run(arguments.folder, arguments.resight, arguments.count, arguments.names)


if __name__ == "__main__":
    sys.exit(main())
