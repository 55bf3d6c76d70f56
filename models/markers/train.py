"""Trains the marker network on generated images and exports it as ONNX.

    python train.py --work FOLDER --output markers.onnx

The images of a range of seeds are generated once and kept in FOLDER (28 kB each). Training mirrors,
turns, shifts and relights them each time. With two cores: a quarter of an hour for the images, half an
hour for the training. It runs on one thread: layers this narrow gain nothing from a second.
"""

import argparse
import multiprocessing
import os
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn

from cards import CLASSES, NOTHING
from generate import SIDE, generate
from network import MarkerNetwork

# ImageNet's, in the order red, green, blue, for values from 0 to 1: what the importer expects.
MEAN = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
DEVIATION = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)

# Seeds from here on are held out: none is trained on.
HELD_OUT = 1_000_000


# Seeds in one file of the cache.
SHARD = 10_000


def images_of(seeds: range, folder: Path, workers: int):
    """Images (N x SIDE x SIDE x 3, red green blue) and classes of the seeds, from the cache."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = [range(first, min(first + SHARD, seeds.stop)) for first in range(seeds.start, seeds.stop, SHARD)]
    for part in parts:
        path = folder / f"{part.start}-{part.stop}.npz"
        if not path.exists():
            print(f"images of the seeds from {part.start}", flush=True)
            with multiprocessing.Pool(workers) as pool:
                made = pool.map(generate, part, chunksize=64)
            unfinished = path.with_suffix(".part.npz")
            images = np.stack([image[..., ::-1] for image, _ in made])
            np.savez(unfinished, images=images, classes=np.array([label for _, label in made]))
            os.replace(unfinished, path)
    stored = [np.load(folder / f"{part.start}-{part.stop}.npz") for part in parts]
    return np.concatenate([s["images"] for s in stored]), np.concatenate([s["classes"] for s in stored])


def to_input(images: np.ndarray) -> torch.Tensor:
    """uint8 NHWC to NCHW from 0 to 1."""
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 255


# What a card becomes in a mirror; a tick becomes none of the cards.
MIRRORED = np.arange(len(CLASSES))
MIRRORED[[CLASSES.index("left"), CLASSES.index("right")]] = CLASSES.index("right"), CLASSES.index("left")
MIRRORED[CLASSES.index("go")] = -1


def move(dice: np.random.Generator, image: np.ndarray, label: int):
    """Mirrored, turned by up to 8 degrees, scaled, shifted by up to 4 pixels, its colours exchanged."""
    if MIRRORED[label] >= 0 and dice.random() < 0.5:
        image, label = image[:, ::-1], MIRRORED[label]
    middle = (SIDE - 1) / 2
    transform = cv2.getRotationMatrix2D((middle, middle), dice.uniform(-8, 8), dice.uniform(0.85, 1.08))
    transform[:, 2] += dice.uniform(-4, 4, 2)
    image = np.ascontiguousarray(image[..., dice.permutation(3)] if dice.random() < 0.5 else image)
    return cv2.warpAffine(image, transform, (SIDE, SIDE), borderMode=cv2.BORDER_REPLICATE), label


def relight(x: torch.Tensor) -> torch.Tensor:
    """Other contrast and brightness, a little noise."""
    n = x.shape[0]
    contrast = torch.empty(n, 1, 1, 1).uniform_(0.75, 1.25)
    brightness = torch.empty(n, 3, 1, 1).uniform_(-0.06, 0.06)
    noise = torch.randn_like(x) * torch.empty(n, 1, 1, 1).uniform_(0, 0.03)
    return (x * contrast + brightness + noise).clamp(0, 1)


def logits_of(model: nn.Module, images: np.ndarray, bfloat16: bool = False) -> torch.Tensor:
    model.eval()
    parts = []
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        for start in range(0, len(images), 250):
            x = (to_input(images[start : start + 250]) - MEAN) / DEVIATION
            parts.append(model(x.contiguous(memory_format=torch.channels_last)).float())
    return torch.cat(parts)


def report(logits: torch.Tensor, classes: np.ndarray) -> str:
    """Top-1, and how often an image without a card is taken for one."""
    best, truth = logits.argmax(1).numpy(), classes
    nothing = CLASSES.index(NOTHING)
    empty = truth == nothing
    alarms = (best[empty] != nothing).mean()
    probability = torch.softmax(logits, 1).max(1).values.numpy()
    sure = ((best[empty] != nothing) & (probability[empty] >= 0.8)).mean()
    return (
        f"top-1 {100 * (best == truth).mean():.2f} %, false alarms {100 * alarms:.2f} % "
        f"({100 * sure:.2f} % at a threshold of 0.8), of {len(truth)} and {empty.sum()} images"
    )


def export(model: nn.Module, path: Path) -> None:
    """ONNX, batch 1, normalised input, logits as output."""
    model = model.eval().to(memory_format=torch.contiguous_format)
    torch.onnx.export(
        model, (torch.zeros(1, 3, SIDE, SIDE),), str(path), dynamo=False, opset_version=17,
        input_names=["image"], output_names=["logits"],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--images", type=int, default=120_000)
    parser.add_argument("--epochs", type=int, default=7)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rate", type=float, default=0.2)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    arguments = parser.parse_args()

    torch.manual_seed(0)
    torch.set_num_threads(1)
    images, classes = images_of(range(arguments.images), arguments.work, arguments.workers)
    held_images, held_classes = images_of(range(HELD_OUT, HELD_OUT + 4000), arguments.work, arguments.workers)

    model = MarkerNetwork(len(CLASSES)).to(memory_format=torch.channels_last)
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 1e-4}, {"params": others, "weight_decay": 0}]
    optimiser = torch.optim.SGD(groups, arguments.rate, momentum=0.9, nesterov=True)
    steps = arguments.epochs * (len(images) // arguments.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, arguments.rate, total_steps=steps, pct_start=0.1, div_factor=20, final_div_factor=1000
    )
    loss_of = nn.CrossEntropyLoss(label_smoothing=0.05)

    start = time.monotonic()
    for epoch in range(arguments.epochs):
        model.train()
        dice, total = np.random.default_rng(epoch), 0.0
        order = dice.permutation(len(images))
        batches = len(images) // arguments.batch
        for batch in range(batches):
            chosen = order[batch * arguments.batch : (batch + 1) * arguments.batch]
            moved = [move(dice, images[index], classes[index]) for index in chosen]
            targets = torch.from_numpy(np.array([label for _, label in moved]))
            x = (relight(to_input(np.stack([image for image, _ in moved]))) - MEAN) / DEVIATION
            with torch.autocast("cpu", torch.bfloat16):
                logits = model(x.contiguous(memory_format=torch.channels_last))
            loss = loss_of(logits.float(), targets)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            schedule.step()
            total += loss.item()
        told = report(logits_of(model, held_images, bfloat16=True), held_classes)
        print(f"epoch {epoch + 1}: loss {total / batches:.3f}; {told}; {time.monotonic() - start:.0f} s", flush=True)
        torch.save(model.state_dict(), arguments.work / "markers.pt")

    print("held out, f32:", report(logits_of(model, held_images), held_classes))
    export(model, arguments.output)


if __name__ == "__main__":
    main()
