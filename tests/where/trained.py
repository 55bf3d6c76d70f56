#!/usr/bin/env python3
"""U-Nets that are trained: what int8 costs them in mIoU.

    python3 -m venv venv && venv/bin/pip install torch torchvision segmentation-models-pytorch onnx onnxruntime pillow
    venv/bin/python tests/where/trained.py make FOLDER [NAME...]      trains, and writes ONNX files and pictures
    venv/bin/python tests/where/trained.py run FOLDER --resight target/release/resight > table.md

By hand, not in the test command. The pictures are drawn: discs, bars and triangles of any colour before a
coloured ground with noise, 600 to train on, 32 to calibrate on, 150 to test on; masks are grey PNG files, whose
levels are classes. `run` gives mIoU and pixel accuracy of f32 and int8 as `resight evaluate` counts them, and
mIoU of f32 as this script counts it over onnxruntime's maps, which the first must equal.
"""

import argparse
import json
import pathlib
import subprocess
import sys

CLASSES = ["ground", "disc", "bar", "triangle"]
SIDE = 128
SETS = {"training": 600, "calibration": 32, "test": 150}
# Encoder or kind, classes, exporter.
NETWORKS = {
    "unet_resnet18": ("resnet18", len(CLASSES), False),
    "unet_resnet34_dynamo": ("resnet34", len(CLASSES), True),
    "classic": ("classic", len(CLASSES), False),
    "classic_one_class": ("classic", 1, False),
}


def draw(random):
    """A picture and the classes of its places."""
    import numpy
    from PIL import Image, ImageDraw

    scale = 4
    large = SIDE * scale
    corners = random.integers(0, 256, (3, 3, 3)).astype(numpy.uint8)
    ground = Image.fromarray(corners).resize((large, large), Image.BICUBIC)
    mask = Image.new("L", (large, large), 0)
    on_ground, on_mask = ImageDraw.Draw(ground), ImageDraw.Draw(mask)
    for _ in range(random.integers(1, 6)):
        kind = int(random.integers(1, len(CLASSES)))
        colour = tuple(int(level) for level in random.integers(0, 256, 3))
        x, y = random.uniform(0, large, 2)
        size, angle = random.uniform(0.08, 0.25) * large, random.uniform(0, 2 * numpy.pi)
        if kind == 1:
            shape = [(x - size, y - size), (x + size, y + size)]
            for canvas, fill in ((on_ground, colour), (on_mask, kind)):
                canvas.ellipse(shape, fill=fill)
            continue
        angles = [0.3, numpy.pi - 0.3, numpy.pi + 0.3, -0.3] if kind == 2 else [0, 2.1, 4.2]
        shape = [(x + size * numpy.cos(angle + a), y + size * numpy.sin(angle + a)) for a in angles]
        for canvas, fill in ((on_ground, colour), (on_mask, kind)):
            canvas.polygon(shape, fill=fill)
    picture = numpy.asarray(ground.resize((SIDE, SIDE), Image.BOX), dtype=numpy.float64)
    picture = picture + random.normal(0, random.uniform(0, 12), picture.shape)
    classes = numpy.asarray(mask)[scale // 2 :: scale, scale // 2 :: scale]
    return numpy.clip(picture, 0, 255).astype(numpy.uint8), classes


def pictures(folder):
    import numpy
    from PIL import Image

    for number, (name, count) in enumerate(SETS.items()):
        if (folder / name).exists():
            continue
        random = numpy.random.default_rng(number)
        for kind in (name, f"{name}_masks", f"{name}_masks_one"):
            (folder / kind).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            picture, classes = draw(random)
            Image.fromarray(picture).save(folder / name / f"{index:04}.png")
            Image.fromarray(classes).save(folder / f"{name}_masks" / f"{index:04}.png")
            Image.fromarray((classes == 1).astype(numpy.uint8)).save(folder / f"{name}_masks_one" / f"{index:04}.png")
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in CLASSES))
    (folder / "one.txt").write_text(f"{CLASSES[1]}\n")


def read(folder, name, one):
    """Normalised pictures, N x 3 x H x W, and classes, N x H x W."""
    import numpy
    from PIL import Image

    files = sorted((folder / name).glob("*.png"))
    levels = numpy.stack([numpy.asarray(Image.open(file)) for file in files]).astype(numpy.float32) / 255
    normalised = (levels - numpy.float32([0.485, 0.456, 0.406])) / numpy.float32([0.229, 0.224, 0.225])
    masks = folder / (f"{name}_masks_one" if one else f"{name}_masks")
    classes = numpy.stack([numpy.asarray(Image.open(masks / file.name)) for file in files])
    return numpy.ascontiguousarray(normalised.transpose(0, 3, 1, 2)), classes.astype(numpy.int64)


def build(kind, classes):
    if kind == "classic":
        from exports import classic

        return classic("transposed", classes)
    import segmentation_models_pytorch

    return segmentation_models_pytorch.Unet(kind, encoder_weights=None, classes=classes)


def make(folder, names, epochs):
    import torch

    pictures(folder)
    for name in names:
        kind, classes, dynamo = NETWORKS[name]
        path = folder / f"{name}.onnx"
        if path.exists():
            continue
        torch.manual_seed(3)
        images, wanted = map(torch.from_numpy, read(folder, "training", classes == 1))
        network = build(kind, classes)
        steps = epochs * (len(images) // 12)
        optimiser = torch.optim.AdamW(network.parameters(), 2e-3)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, steps)
        for step in range(steps):
            chosen = torch.randint(len(images), (12,))
            x, y = images[chosen], wanted[chosen]
            if step % 2:
                x, y = x.flip(3), y.flip(2)
            maps = network(x)
            if classes == 1:
                loss = torch.nn.functional.binary_cross_entropy_with_logits(maps[:, 0], y.float())
            else:
                loss = torch.nn.functional.cross_entropy(maps, y)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            if step % 50 == 0:
                print(name, step, steps, f"{loss.item():.3f}", flush=True)
        common = {"input_names": ["input"], "output_names": ["out"]}
        if dynamo:
            torch.onnx.export(network.eval(), (images[:1],), path, dynamo=True, external_data=False, **common)
        else:
            torch.onnx.export(network.eval(), (images[:1],), path, dynamo=False, opset_version=17, **common)


def mean_iou(folder, file, one):
    """Of the f32 network by onnxruntime, in per cent."""
    import numpy
    import onnxruntime

    images, wanted = read(folder, "test", one)
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    maps = numpy.concatenate([session.run(None, {"input": image[None]})[0] for image in images])
    found = (maps[:, 0] > 0).astype(numpy.int64) if one else maps.argmax(1)
    shares = []
    for kind in range(2 if one else maps.shape[1]):
        both = ((found == kind) & (wanted == kind)).sum()
        either = ((found == kind) | (wanted == kind)).sum()
        shares.append(both / either)
    return 100 * numpy.mean(shares)


def run(folder, resight, names, method):
    print("| network | f32 mIoU, by this script | f32 | int8 | lost | f32 pixels | int8 |\n|---|---|---|---|---|---|---|", flush=True)
    for name in names:
        file, model = folder / f"{name}.onnx", folder / f"{name}.resight.tar"
        one = NETWORKS[name][1] == 1
        if not file.exists():
            continue
        labels, masks = ("one.txt", "test_masks_one") if one else ("classes.txt", "test_masks")
        subprocess.run([resight, "quantize", file, "--task", "segment", "--fit", "squash", "--preprocess", "imagenet", "--method", method,
                        "--calibration", folder / "calibration", "--labels", folder / labels, "-o", model], check=True,
                       stdout=subprocess.DEVNULL)
        done = subprocess.run([resight, "evaluate", file, model, "--images", folder / "test", "--annotations", folder / masks, "--json"],
                              check=True, capture_output=True, text=True)
        f32, int8 = json.loads(done.stdout)
        cells = [mean_iou(folder, file, one), f32["mean_iou"], int8["mean_iou"], f32["mean_iou"] - int8["mean_iou"],
                 f32["pixel_accuracy"], int8["pixel_accuracy"]]
        print(f"| {name} | " + " | ".join(f"{cell:.2f}" for cell in cells) + " |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["make", "run"])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--resight", default="target/release/resight")
    parser.add_argument("--method", default="best")
    parser.add_argument("--epochs", type=int, default=12)
    arguments = parser.parse_args()
    names = arguments.names or list(NETWORKS)
    if arguments.what == "make":
        make(arguments.folder, names, arguments.epochs)
    else:
        run(arguments.folder, arguments.resight, names, arguments.method)


if __name__ == "__main__":
    sys.exit(main())
