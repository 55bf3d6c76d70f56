#!/usr/bin/env python3
"""Finds defects by PatchCore on f32 features, to compare `resight teach --normal` with.

The reference of the tests: the ends of the second and third stage of an f32 ONNX network by onnxruntime,
averaged over 3 x 3 neighbours, the third enlarged to the second's size, side by side; a memory of the good
pictures' patches, thinned by a greedy coreset under a random projection; the score of a picture is its
largest distance to the nearest patch, reweighted by that patch's neighbours (Roth and others, 2022), and
besides the mean of the farthest part of the places. Also PaDiM's distance, with the mean and covariance of
each place (Defard and others, 2021). Prints AUROC in percent, as a table.

Needs Python 3.9 or later, onnxruntime, onnx, numpy and pillow. FOLDER has train/good and test/good,
test/OTHERS. Example:

    python3 tests/compare_patchcore/compare.py resnet18.onnx FOLDER
"""

import argparse
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from PIL import Image

MEAN, DEVIATION = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("network", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--memory", type=int, default=1000, help="patches that are kept")
    parser.add_argument("--farthest", type=float, default=0.05, help="part of the places whose mean counts")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


def stage_ends(model, number):
    """The last ReLU of a stage, as torchvision names it."""
    names = [name for node in model.graph.node for name in node.output]
    of_stage = [name for name in names if name.startswith(f"layer{number}.") and name.endswith(".relu")]
    if not of_stage:
        raise SystemExit(f"no outputs layer{number}.*.relu: a torchvision ResNet is expected")
    return of_stage[-1]


def features(network, files):
    """[picture][y][x][channel] of both stages."""
    model = onnx.load(network)
    ends = [stage_ends(model, 2), stage_ends(model, 3)]
    del model.graph.output[:]
    model.graph.output.extend(onnx.helper.make_tensor_value_info(end, onnx.TensorProto.FLOAT, None) for end in ends)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    name, size = session.get_inputs()[0].name, session.get_inputs()[0].shape[2]
    stages = [[], []]
    for file in files:
        pixels = Image.open(file).convert("RGB").resize((size, size), Image.BILINEAR)
        pixels = (np.float32(pixels) / 255 - MEAN) / DEVIATION
        for kept, stage in zip(stages, session.run(ends, {name: pixels.transpose(2, 0, 1)[None]})):
            kept.append(averaged(stage[0].transpose(1, 2, 0)))
    return [np.array(kept) for kept in stages]


def averaged(stage):
    padded = np.pad(stage, ((1, 1), (1, 1), (0, 0)), mode="edge")
    rows, columns, _ = stage.shape
    return sum(padded[y : y + rows, x : x + columns] for y in range(3) for x in range(3)) / 9


def coreset(patches, count, random):
    """Greedy k-centre under a random projection."""
    small = patches @ random.standard_normal((patches.shape[1], 64)).astype(np.float32)
    nearest = np.full(len(small), np.inf, np.float32)
    chosen = [0]
    for _ in range(count - 1):
        nearest = np.minimum(nearest, ((small - small[chosen[-1]]) ** 2).sum(1))
        chosen.append(int(nearest.argmax()))
    return patches[chosen]


def distances(patches, memory):
    square = (patches**2).sum(1)[:, None] - 2 * patches @ memory.T + (memory**2).sum(1)
    return np.sqrt(np.maximum(square, 0))


def patchcore(picture, memory, farthest):
    """The reweighted largest distance, and the mean of the farthest."""
    all_distances = distances(picture.reshape(-1, picture.shape[-1]), memory)
    nearest = all_distances.min(1)
    place = nearest.argmax()
    known = memory[all_distances[place].argmin()]
    neighbours = np.argsort(distances(known[None], memory)[0])[:9]
    others = np.exp(all_distances[place][neighbours] - nearest[place])
    weight = 1 - 1 / max(float(others.sum()), 1.0)
    return nearest[place] * weight, np.sort(nearest)[-farthest:].mean()


def padim(good, pictures, farthest, random):
    """The mean of the farthest places by their own mean and covariance, of 100 projected features."""
    projection = random.standard_normal((good.shape[-1], 100)).astype(np.float32) / 10
    good, pictures = good @ projection, pictures @ projection
    rows, columns = good.shape[1:3]
    found = np.zeros(pictures.shape[:3])
    for y in range(rows):
        for x in range(columns):
            here = good[:, y, x]
            covariance = np.cov(here.T)
            covariance += 0.05 * np.trace(covariance) / 100 * np.eye(100)
            centred = pictures[:, y, x] - here.mean(0)
            found[:, y, x] = np.sqrt(np.einsum("na,ab,nb->n", centred, np.linalg.inv(covariance), centred))
    return np.sort(found.reshape(len(found), -1))[:, -farthest:].mean(1)


def auroc(others, good):
    """How often one of the others is above a good one, percent."""
    pairs = np.sign(np.array(others)[:, None] - np.array(good)[None])
    return 50 * (1 + pairs.mean())


def main():
    options = arguments()
    random = np.random.default_rng(options.seed)
    images = lambda folder: sorted(file for file in folder.iterdir() if file.suffix.lower() in (".png", ".jpg", ".jpeg"))
    good = images(options.folder / "train" / "good")
    kinds = {folder.name: images(folder) for folder in sorted((options.folder / "test").iterdir()) if folder.is_dir()}
    if "good" not in kinds or len(kinds) < 2:
        raise SystemExit(f"{options.folder}: train/good, test/good and one folder or more beside it are expected")
    tested = [(kind, file) for kind, files in kinds.items() for file in files]
    second, third = features(options.network, good + [file for _, file in tested])
    for stage in (second, third):
        known = stage[: len(good)].reshape(-1, stage.shape[-1])
        stage -= known.mean(0)
        stage /= (known.std(0) + 1e-3) * np.sqrt(stage.shape[-1])
    factor = second.shape[1] // third.shape[1]
    fine = np.concatenate([second, third.repeat(factor, 1).repeat(factor, 2)], -1)
    memory = coreset(fine[: len(good)].reshape(-1, fine.shape[-1]), options.memory, random)
    places = fine.shape[1] * fine.shape[2]
    farthest = max(1, round(places * options.farthest))
    by_patch = np.array([patchcore(picture, memory, farthest) for picture in fine[len(good) :]])
    shape = (len(second), third.shape[1], factor, third.shape[2], factor, second.shape[-1])
    coarse = np.concatenate([second.reshape(shape).mean((2, 4)), third], -1)
    by_place = padim(coarse[: len(good)], coarse[len(good) :], max(1, round(farthest / factor**2)), random)
    scores = {"PatchCore": by_patch[:, 0], f"PatchCore, farthest {options.farthest:.0%}": by_patch[:, 1], "PaDiM": by_place}
    of_kind = np.array([kind for kind, _ in tested])
    print(f"AUROC %, {options.network.name}, {len(good)} good pictures")
    for name, score in scores.items():
        ordinary = score[of_kind == "good"]
        by_kind = {kind: auroc(score[of_kind == kind], ordinary) for kind in kinds if kind != "good"}
        listed = ", ".join(f"{kind} {value:.1f}" for kind, value in by_kind.items())
        print(f"{name}: {auroc(score[of_kind != 'good'], ordinary):.1f} ({listed})")


main()
