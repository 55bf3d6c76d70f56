"""Trains the detector on generated scenes, from the weights of the marker network, and exports it.

    python train_detector.py --work FOLDER --backbone markers.onnx --output detector.onnx

The images of a range of seeds are generated once and kept in FOLDER (77 kB each). Training mirrors,
turns, scales, shifts and relights them each time. One thread, like train.py.
"""

import argparse
import multiprocessing
import os
import time
from pathlib import Path

import cv2
import numpy as np
import torch

from cards import NAMES
from detector import CELL, Exported, MarkerDetector
from scenes import MARGIN, SIDE, generate
from train import DEVIATION, HELD_OUT, MEAN, MIRRORED, relight, to_input

# Seeds in one file of the cache.
SHARD = 2_000
# Cards of one image, at most; unused places have the class -1.
MOST = 8
CELLS = SIDE // CELL
# Of a card's box so much has to be in a moved image.
LEAST_SEEN = 0.7


def made(seed: int):
    """generate, with red first and places for MOST cards."""
    image, classes, corners = generate(seed)
    all_classes, all_corners = np.full(MOST, -1, np.int64), np.zeros((MOST, 4, 2), np.float32)
    all_classes[: len(classes)], all_corners[: len(classes)] = classes, corners
    return image[..., ::-1], all_classes, all_corners


def scenes_of(seeds: range, folder: Path, workers: int):
    """Images (N x SIDE x SIDE x 3), classes (N x MOST) and corners (N x MOST x 4 x 2) of the seeds."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = []
    for first in range(seeds.start, seeds.stop, SHARD):
        part = range(first, min(first + SHARD, seeds.stop))
        path = folder / f"scenes-{part.start}-{part.stop}.npz"
        if not path.exists():
            print(f"scenes of the seeds from {part.start}", flush=True)
            with multiprocessing.Pool(workers) as pool:
                images, classes, corners = zip(*pool.map(made, part, chunksize=32))
            unfinished = path.with_suffix(".part.npz")
            np.savez(unfinished, images=np.stack(images), classes=np.stack(classes), corners=np.stack(corners))
            os.replace(unfinished, path)
        parts.append(np.load(path))
    return tuple(np.concatenate([part[name] for part in parts]) for name in ("images", "classes", "corners"))


def move(dice: np.random.Generator, image: np.ndarray, classes: np.ndarray, corners: np.ndarray):
    """Mirrored, turned by up to 6 degrees, scaled, shifted, its colours exchanged."""
    # A tick in a mirror is none of the cards.
    if dice.random() < 0.5 and (MIRRORED[classes[classes >= 0]] >= 0).all():
        image, corners = image[:, ::-1], corners * [-1, 1] + [1, 0]
        classes = np.where(classes >= 0, MIRRORED[classes], -1)
    middle = (SIDE - 1) / 2
    transform = cv2.getRotationMatrix2D((middle, middle), dice.uniform(-6, 6), np.exp(dice.uniform(np.log(0.8), np.log(1.25))))
    transform[:, 2] += dice.uniform(-0.12, 0.12, 2) * SIDE
    colours = image[..., dice.permutation(3)] if dice.random() < 0.4 else image
    border = MARGIN[::-1]
    image = cv2.warpAffine(np.ascontiguousarray(colours), transform, (SIDE, SIDE), borderMode=cv2.BORDER_CONSTANT, borderValue=border)
    pixels = corners * SIDE - 0.5
    corners = (pixels @ transform[:, :2].T + transform[:, 2] + 0.5) / SIDE
    return image, classes, corners


def boxes_of(classes: np.ndarray, corners: np.ndarray):
    """(class, box in cells, whether enough of it is in the image) of each card."""
    for label, each in zip(classes, corners):
        if label >= 0:
            box = np.concatenate([each.min(axis=0), each.max(axis=0)]) * CELLS
            seen = np.clip(box, 0, CELLS)
            width, height = seen[2:] - seen[:2]
            share = width * height / np.prod(box[2:] - box[:2])
            if share > 0:
                yield label, seen, share >= LEAST_SEEN


def targets_of(classes: np.ndarray, corners: np.ndarray):
    """Heat map with its weights (class x cell), and for the cells of middles their size and offset."""
    heat, weight = np.zeros((len(NAMES), CELLS, CELLS), np.float32), np.ones((1, CELLS, CELLS), np.float32)
    geometry, known = np.zeros((4, CELLS, CELLS), np.float32), np.zeros((1, CELLS, CELLS), np.float32)
    row, column = np.mgrid[0:CELLS, 0:CELLS].astype(np.float32)
    for label, box, enough in boxes_of(classes, corners):
        size, middle = box[2:] - box[:2], (box[:2] + box[2:]) / 2
        if not enough:
            left, top, right, bottom = np.int32([box[0], box[1], np.ceil(box[2]), np.ceil(box[3])])
            weight[:, top:bottom, left:right] = 0
            continue
        x, y = np.minimum(middle.astype(int), CELLS - 1)
        deviation = np.maximum(size / 9, 0.5)
        bump = np.exp(-((column - x) ** 2) / (2 * deviation[0] ** 2) - (row - y) ** 2 / (2 * deviation[1] ** 2))
        heat[label] = np.maximum(heat[label], bump)
        geometry[:, y, x] = *size, *(middle - [x, y])
        known[:, y, x], weight[:, y, x] = 1, 1
    return heat, weight, geometry, known


def loss_of(predicted, targets):
    """CenterNet's: focal loss of the heat map, and the L1 distance of size and offset at middles."""
    heat, size, offset = (each.float() for each in predicted)
    truth, weight, geometry, known = targets
    probability = torch.sigmoid(heat).clamp(1e-4, 1 - 1e-4)
    middles = (truth == 1).float()
    found = middles * (1 - probability) ** 2 * torch.log(probability)
    empty = (1 - middles) * weight * (1 - truth) ** 4 * probability**2 * torch.log(1 - probability)
    count = known.sum().clamp(min=1)
    # Sizes by their logarithms: a cell matters more for a small card.
    wanted = torch.where(known > 0, geometry[:, :2], 1)
    sizes = (torch.log(size.clamp(min=0.25)) - torch.log(wanted)).abs() * known
    # Where the clamp would hide the way back.
    sizes = sizes + (0.25 - size).clamp(min=0) * known
    offsets = (offset - geometry[:, 2:]).abs() * known
    return -(found + empty).sum() / count + sizes.sum() / count + offsets.sum() / count


def trained(model: MarkerDetector, scenes, arguments: argparse.Namespace) -> None:
    images, classes, corners = scenes
    backbone = [p for layer in model.backbone() for p in layer.parameters()]
    ids = {id(p) for p in backbone}
    others = [p for p in model.parameters() if id(p) not in ids]
    rates = [arguments.rate / 4, arguments.rate]
    optimiser = torch.optim.AdamW(
        [{"params": backbone, "lr": rates[0]}, {"params": others, "lr": rates[1]}], weight_decay=1e-3
    )
    batches = len(images) // arguments.batch
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, rates, total_steps=arguments.epochs * batches, pct_start=0.1, div_factor=20, final_div_factor=500
    )
    start, first = time.monotonic(), 0
    state_file = arguments.work / "training.pt"
    if state_file.exists():
        state = torch.load(state_file)
        first = state["epoch"]
        for part, kept in ((model, "model"), (optimiser, "optimiser"), (schedule, "schedule")):
            part.load_state_dict(state[kept])
    for epoch in range(first, arguments.epochs):
        model.train()
        dice, total = np.random.default_rng(epoch), 0.0
        torch.manual_seed(epoch)
        order = dice.permutation(len(images))
        for batch in range(batches):
            chosen = order[batch * arguments.batch : (batch + 1) * arguments.batch]
            moved = [move(dice, images[index], classes[index], corners[index]) for index in chosen]
            targets = [torch.from_numpy(np.stack(part)) for part in zip(*(targets_of(c, k) for _, c, k in moved))]
            x = (relight(to_input(np.stack([image for image, _, _ in moved]))) - MEAN) / DEVIATION
            with torch.autocast("cpu", torch.bfloat16):
                predicted = model(x.contiguous(memory_format=torch.channels_last))
            loss = loss_of(predicted, targets)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 5)
            optimiser.step()
            schedule.step()
            total += loss.item()
            if batch % 50 == 49:
                print(f"  {batch + 1} of {batches}: loss {total / (batch + 1):.3f}, {time.monotonic() - start:.0f} s, of the processor {time.process_time():.0f} s", flush=True)
        print(f"epoch {epoch + 1}: loss {total / batches:.3f}, {time.monotonic() - start:.0f} s", flush=True)
        state = {"epoch": epoch + 1, "model": model.state_dict(), "optimiser": optimiser.state_dict(), "schedule": schedule.state_dict()}
        torch.save(state, state_file.with_suffix(".part"))
        os.replace(state_file.with_suffix(".part"), state_file)


def export(model: MarkerDetector, path: Path) -> None:
    """ONNX, batch 1, normalised input; the maps that the decoder `centernet` expects."""
    model = Exported(model).eval().to(memory_format=torch.contiguous_format)
    torch.onnx.export(
        model, (torch.zeros(1, 3, SIDE, SIDE),), str(path), dynamo=False, opset_version=17,
        input_names=["image"], output_names=["heatmap", "size", "offset"],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--work", type=Path, required=True, help="goes on where a training in it was interrupted")
    parser.add_argument("--backbone", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    arguments = parser.parse_args()

    torch.manual_seed(0)
    torch.set_num_threads(1)
    assert arguments.images <= HELD_OUT
    scenes = scenes_of(range(arguments.images), arguments.work, arguments.workers)
    model = MarkerDetector(len(NAMES))
    model.take_backbone(str(arguments.backbone))
    model = model.to(memory_format=torch.channels_last)
    trained(model, scenes, arguments)
    export(model, arguments.output)


if __name__ == "__main__":
    main()
