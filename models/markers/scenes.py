"""Training images of the detector: several marker cards before a camera, drawn by code.

The parts are those of generate.py. An image is a picture of 1:1, 4:3 or 16:9 in a square, as the
service puts it there (letterbox); it and its boxes depend on nothing but its seed.

    python scenes.py --seeds 0:24 --sheet examples.png     a look at them, with their boxes
    python scenes.py --seeds 0:200 --folder DIR            PNG files and annotations.json (COCO)
"""

import argparse
import json
from pathlib import Path

import cv2
import numpy as np

from cards import NAMES
from generate import background, coding, hand_behind, lens, light, paper_card, paste, place, sensor, skin, thumb, visible

SIDE = 160
# ImageNet's mean as blue, green, red: what the service puts beside a picture.
MARGIN = (104, 116, 124)
# Heights of a picture, in its widths, and how frequent they are.
HEIGHTS, SHARES = (1.0, 0.75, 0.5625), (0.3, 0.4, 0.3)
# A card's side, in the width of the picture.
SMALLEST, LARGEST = 0.17, 0.75
# How many cards a picture has, and how frequent that is.
COUNTS, COUNT_SHARES = range(7), (0.1, 0.17, 0.21, 0.2, 0.15, 0.1, 0.07)
# A card may hide so much of the box of another.
HIDDEN = 0.1
# Cards of which less than their symbol is in the picture are not looked for.
SYMBOL_EDGE = 0.17


def box_of(corners):
    """Left, top, right, bottom around corners."""
    return np.concatenate([corners.min(axis=0), corners.max(axis=0)])


def hides(one, other):
    """The share of the smaller box that lies in both."""
    sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    area = min(np.prod(one[2:] - one[:2]), np.prod(other[2:] - other[:2]))
    return np.prod(np.maximum(sides, 0)) / area


def free_place(rng, height, largest, taken):
    """Corners of a card whose symbol is in the picture and that leaves the others visible, or None."""
    for _ in range(25):
        corners = place(rng, SMALLEST, largest, inside=False)
        within = (corners - [0, (1 - height) / 2]) / [1, height]
        if visible(within, SYMBOL_EDGE) > 0.97 and all(hides(box_of(corners), box) < HIDDEN for box in taken):
            return corners
    return None


def paste_part(rng, scene, texture, corners):
    """generate.paste, on no more of the scene than the card and its shadow need."""
    side = scene.shape[0]
    low, high = corners.min(axis=0) * side, corners.max(axis=0) * side
    edge = int(min(side, (high - low).max() + 0.3 * side))
    origin = np.int32(np.clip((low + high - edge) / 2, 0, side - edge))
    rows, columns = slice(origin[1], origin[1] + edge), slice(origin[0], origin[0] + edge)
    part = np.float32((corners * side - origin) / edge)
    scene[rows, columns] = paste(rng, np.ascontiguousarray(scene[rows, columns]), texture, part)


def covers_another(grip, boxes, own):
    """Whether a thumb at `grip` reaches over a card that it does not hold."""
    middle, out, size = grip
    path = [middle + out * size * along for along in np.linspace(-0.1, 1.2, 8)]
    others = [box for index, box in enumerate(boxes) if index != own]
    return any(((point > box[:2] - 0.04) & (point < box[2:] + 0.04)).all() for point in path for box in others)


def cards_of(rng, height, count, others):
    """Names and corners of `count` cards and of `others` that only look like some."""
    largest = min(LARGEST, 0.95 * height, 1.25 / max(1, count + others) ** 0.5)
    names, places = [], []
    for index in range(count + others):
        corners = free_place(rng, height, largest, [box_of(taken) for taken in places])
        if corners is not None:
            alike = rng.choice(["symbol", "letter", "blank", "page", "frame"], p=[0.4, 0.25, 0.1, 0.15, 0.1])
            names.append(str(rng.choice(NAMES) if index < count else alike))
            places.append(corners)
    return names, places


def generate(seed):
    """One image, SIDE x SIDE x 3, blue green red; classes; their corners (n x 4 x 2, of 0 to 1)."""
    rng = np.random.default_rng(seed)
    side = int(rng.choice([160, 224, 320]))
    height = float(rng.choice(HEIGHTS, p=SHARES))
    count = int(rng.choice(COUNTS, p=COUNT_SHARES))
    names, places = cards_of(rng, height, count, int(rng.choice([0, 1, 2], p=[0.55, 0.3, 0.15])))
    scene = np.ascontiguousarray(background(rng, side), dtype=np.float32)
    tone = skin(rng)
    grips = [hand_behind(rng, scene, corners, tone) if rng.random() < 0.35 else None for corners in places]
    for name, corners in zip(names, places):
        texture = paper_card(rng, name, 144)
        paste_part(rng, scene, texture, corners)
    boxes = [box_of(corners) for corners in places]
    for index, grip in enumerate(grips):
        if grip and not covers_another(grip, boxes, index):
            thumb(rng, scene, grip, tone)
    image = coding(rng, sensor(rng, lens(rng, light(rng, scene), SIDE)))
    image = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    margin = round((1 - height) / 2 * SIDE)
    image[:margin], image[SIDE - margin :] = MARGIN, MARGIN
    known = [index for index, name in enumerate(names) if name in NAMES]
    classes = np.array([NAMES.index(names[index]) for index in known], np.int64)
    corners = np.float32([places[index] for index in known]).reshape(-1, 4, 2)
    corners[..., 1] = np.clip(corners[..., 1], margin / SIDE, 1 - margin / SIDE)
    return image, classes, np.clip(corners, 0, 1)


def coco(images):
    """COCO's annotations of (file, side, classes, corners in shares of the side)."""
    listed, annotations = [], []
    for number, (file, side, classes, corners) in enumerate(images, 1):
        listed.append({"id": number, "file_name": file, "width": side, "height": side})
        for label, each in zip(classes, corners):
            left, top, right, bottom = (float(edge) for edge in box_of(np.asarray(each)) * side)
            annotations.append(
                {
                    "id": len(annotations) + 1, "image_id": number, "category_id": int(label) + 1, "iscrowd": 0,
                    "bbox": [left, top, right - left, bottom - top], "area": (right - left) * (bottom - top),
                }
            )
    categories = [{"id": index, "name": name} for index, name in enumerate(NAMES, 1)]
    return {"images": listed, "annotations": annotations, "categories": categories}


def with_boxes(image, classes, corners):
    """For a look: twice as large, each card with its box and the first letters of its name."""
    image = cv2.resize(image, None, fx=2, fy=2)
    for label, each in zip(classes, corners):
        left, top, right, bottom = (int(edge) for edge in box_of(each) * 2 * SIDE)
        cv2.rectangle(image, (left, top), (right, bottom), (0, 255, 0))
        cv2.putText(image, NAMES[label][:4], (left, top + 10), cv2.FONT_HERSHEY_PLAIN, 0.8, (0, 0, 255))
    return image


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--seeds", default="0:24", help="FIRST:END")
    parser.add_argument("--sheet", type=Path)
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    first, end = map(int, arguments.seeds.split(":"))
    if arguments.sheet:
        tiles = [with_boxes(*generate(seed)) for seed in range(first, end)]
        tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % 6)
        cv2.imwrite(str(arguments.sheet), cv2.vconcat([cv2.hconcat(tiles[i : i + 6]) for i in range(0, len(tiles), 6)]))
    if arguments.folder:
        arguments.folder.mkdir(parents=True, exist_ok=True)
        listed = []
        for seed in range(first, end):
            image, classes, corners = generate(seed)
            cv2.imwrite(str(arguments.folder / f"{seed}.png"), image)
            listed.append((f"{seed}.png", SIDE, classes, corners))
        (arguments.folder / "annotations.json").write_text(json.dumps(coco(listed)))


if __name__ == "__main__":
    main()
