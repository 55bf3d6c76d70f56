#!/usr/bin/env python3
"""Compares the boxes of an int8 detector with those of its f32 network by onnxruntime.

The f32 network is run by onnxruntime and decoded here, by a program of another hand: anchors as the
member task.json of the model file describes them, softmax or sigmoid, the choice among boxes of a class
that overlap. The int8 network is run and decoded by `resight classify --json`. Both see whole pictures,
squashed to the network's input by Pillow's bilinear filter; what becomes of their grey levels is said as
for `resight quantize`.

Of each side's boxes with at least the score SCORE it says how many have a box of the other side, of the
same class, that overlaps them by IOU at least; the other's boxes may be as unlikely as the model file's
threshold. Needs numpy, pillow and onnxruntime. Example:

    resight quantize faces.onnx --task detect --decoder opencv-faces --fit squash --channels bgr \\
        --scale 1 --mean 104,177,123 --std 1,1,1 --calibration calibration/ --labels names.txt -o faces.resight.tar
    python3 tests/compare_boxes/compare.py faces.onnx faces.resight.tar calibration/ evaluation/ \\
        --channels bgr --scale 1 --mean 104,177,123
"""

import argparse
import json
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

REPOSITORY = Path(__file__).resolve().parents[2]
ENDINGS = {".png", ".jpg", ".jpeg", ".webp"}
# How many pictures one `resight classify` is given.
AT_ONCE = 50


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], epilog="See the top of the script for more."
    )
    parser.add_argument("network", type=Path, help="the f32 ONNX file")
    parser.add_argument("model", type=Path, help="the int8 model file")
    parser.add_argument("folders", type=Path, nargs="+", help="folders of pictures")
    parser.add_argument("--score", type=float, default=0.5, help="of the boxes that are looked for")
    parser.add_argument("--iou", type=float, default=0.85, help="the least overlap")
    numbers = lambda text: np.array([float(number) for number in text.split(",")])
    parser.add_argument("--scale", type=float, default=1 / 255, help="these as for resight quantize")
    parser.add_argument("--mean", type=numbers, default=np.zeros(3))
    parser.add_argument("--std", type=numbers, default=np.ones(3))
    parser.add_argument("--channels", choices=["rgb", "bgr"], default="rgb")
    parser.add_argument("--resight", type=Path, default=REPOSITORY / "target/release/resight", metavar="FILE")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def member(model, name):
    with tarfile.open(model) as archive:
        return json.load(archive.extractfile(name))


def shapes_of(shapes):
    """Widths and heights of the anchors of a place."""
    if shapes["kind"] == "listed":
        return np.array(shapes["sizes"], np.float64)
    if shapes["kind"] == "grid":
        made = [[s / r**0.5, s * r**0.5] for r in shapes["ratios"] for s in shapes["sizes"]]
        made = np.array(made)
        return 2 * np.round(made / 2) if shapes.get("rounded") else made
    least, made = shapes["least"], [[shapes["least"]] * 2]
    if shapes.get("greatest"):
        made.append([(least * shapes["greatest"]) ** 0.5] * 2)
    for ratio in shapes.get("ratios", []):
        made += [[least * ratio**0.5, least / ratio**0.5], [least / ratio**0.5, least * ratio**0.5]]
    return np.array(made, np.float64)


def anchors_of(decoder, sizes, image):
    """Middle, width and height of all anchors, in the order of the outputs' rows."""
    height, width = image
    rows = []
    for level, (down, across) in zip(decoder["levels"], sizes):
        stride = level.get("stride")
        vertical, horizontal = (stride, stride) if stride else (height / down, width / across)
        shapes = shapes_of(level["shapes"])
        if decoder.get("clip") == "sizes":
            shapes = np.minimum(shapes, [width, height])
        y, x = np.mgrid[0:down, 0:across] + level["offset"]
        middles = np.stack([x * horizontal, y * vertical], -1).reshape(-1, 1, 2)
        middles, shapes = np.broadcast_arrays(middles, shapes[None])
        rows.append(np.concatenate([middles, shapes], -1).reshape(-1, 4))
    return np.concatenate(rows)


def overlaps(box, others):
    edges = np.concatenate([np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])], 1)
    area = lambda b: np.clip(b[..., 2] - b[..., 0], 0, None) * np.clip(b[..., 3] - b[..., 1], 0, None)
    common = area(edges)
    return common / np.maximum(area(box) + area(others) - common, 1e-9)


def decoded(decoder, anchors, numbers, scores, image):
    """Class, score and edges of the boxes, the likeliest first, in pixels of the network's image."""
    height, width = image
    numbers = numbers.reshape(-1, 4) / np.array(decoder["weights"])
    middle = anchors[:, :2] + numbers[:, :2] * anchors[:, 2:]
    half = anchors[:, 2:] * np.exp(np.minimum(numbers[:, 2:], decoder["largest"])) / 2
    boxes = np.clip(np.concatenate([middle - half, middle + half], 1), 0, [width, height, width, height])
    scores = scores.reshape(len(boxes), -1)
    if "background" in decoder:
        scores = np.delete(scores, decoder["background"], 1)
    found = []
    for anchor, kind in zip(*np.nonzero(scores >= decoder["threshold"])):
        found.append((scores[anchor, kind], int(kind), boxes[anchor]))
    found.sort(key=lambda one: -one[0])
    kept = []
    for score, kind, box in found[: decoder["candidates"]]:
        same = np.array([other for _, other_kind, other in kept if other_kind == kind]).reshape(-1, 4)
        if len(same) == 0 or overlaps(box, same).max() <= decoder["overlap"]:
            kept.append((score, kind, box))
    return kept[: decoder["most"]]


def probabilities(values, activation):
    """What the network's file may have left to whoever decodes it."""
    inside = values.min() >= 0 and values.max() <= 1
    if inside:
        return values
    if activation == "sigmoid":
        return 1 / (1 + np.exp(-values))
    powers = np.exp(values - values.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


class Reference:
    """The f32 network."""

    def __init__(self, options, levels):
        network, model = options.network, options.model
        self.levels, self.given = levels, options
        self.session = onnxruntime.InferenceSession(str(network), providers=["CPUExecutionProvider"])
        self.task, preprocessing = member(model, "task.json"), member(model, "preprocessing.json")
        if preprocessing.get("fit") != "squash" or "interpolation" in preprocessing:
            raise SystemExit(f"{model}: pictures must be squashed, with the default interpolation")
        self.decoder, self.image = self.task["decoder"], preprocessing["crop"]
        self.input = self.session.get_inputs()[0].name
        name = lambda output: output["name"].split("[")[0]
        self.activation = {name(output): output.get("activation") for output in self.task["outputs"]}
        self.anchors = None

    def boxes(self, path):
        height, width = self.image
        picture = Image.open(path).convert("RGB")
        scale = np.array([picture.width / width, picture.height / height] * 2)
        pixels = np.asarray(picture.resize((width, height), Image.BILINEAR), np.float32)
        if self.given.channels == "bgr":
            pixels = pixels[..., ::-1]
        pixels = ((pixels * self.given.scale - self.given.mean) / self.given.std).astype(np.float32)
        names = [self.decoder["boxes"], self.decoder["scores"]]
        numbers, scores = self.session.run(names, {self.input: pixels.transpose(2, 0, 1)[None].copy()})
        if self.anchors is None:
            self.anchors = anchors_of(self.decoder, self.levels, self.image)
        scores = probabilities(scores, self.activation[names[1]])
        found = decoded(self.decoder, self.anchors, numbers, scores, self.image)
        return [(score, kind, box * scale) for score, kind, box in found]


def levels_of(resight, model):
    """Height and width of each level's map of boxes."""
    told = json.loads(subprocess.run([resight, "inspect", model, "--json"], check=True, capture_output=True).stdout)
    task = member(model, "task.json")
    # Such as `1x38x38x16 I8`, in the order of the task's outputs.
    shapes = [[int(side) for side in shape.split()[0].split("x")] for shape in told["outputs"]]
    named = zip(task["outputs"], shapes)
    return [shape[1:3] for output, shape in named if output["name"].split("[")[0] == task["decoder"]["boxes"]]


def int8_boxes(resight, model, pictures):
    found = []
    for first in range(0, len(pictures), AT_ONCE):
        command = [resight, "classify", model, *pictures[first : first + AT_ONCE], "--json"]
        told = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        found += [[(b["score"], b["class"], np.array(b["box"])) for b in one["boxes"]] for one in told]
    return found


def matched(ours, others, score, iou):
    """How many of ours there are, and how many have a counterpart."""
    count = hits = 0
    for own, other in zip(ours, others):
        for likely, kind, box in own:
            if likely < score:
                continue
            count += 1
            same = np.array([b for _, other_kind, b in other if other_kind == kind]).reshape(-1, 4)
            hits += bool(len(same) and overlaps(box, same).max() >= iou)
    return count, hits


def main():
    options = arguments()
    pictures = [p for f in options.folders for p in sorted(f.rglob("*")) if p.suffix.lower() in ENDINGS]
    options.resight = options.resight.resolve()
    levels = levels_of(options.resight, options.model)
    reference = Reference(options, levels)
    f32 = [reference.boxes(picture) for picture in pictures]
    int8 = int8_boxes(options.resight, options.model, pictures)
    (int8_count, int8_hits), (f32_count, f32_hits) = [
        matched(ours, others, options.score, options.iou) for ours, others in [(int8, f32), (f32, int8)]
    ]
    result = {
        "pictures": len(pictures),
        "int8_boxes": int8_count,
        "int8_with_f32_percent": round(100 * int8_hits / max(int8_count, 1), 2),
        "f32_boxes": f32_count,
        "f32_with_int8_percent": round(100 * f32_hits / max(f32_count, 1), 2),
    }
    if options.json:
        print(json.dumps(result))
        return
    print(f"{len(pictures)} pictures, boxes with a score of {options.score} or more, IoU {options.iou}")
    print(f"int8: {int8_count} boxes, {result['int8_with_f32_percent']:.2f} % have one of f32")
    print(f"f32:  {f32_count} boxes, {result['f32_with_int8_percent']:.2f} % have one of int8")


if __name__ == "__main__":
    main()
