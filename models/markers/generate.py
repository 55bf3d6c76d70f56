"""Training images: marker cards before a camera, drawn by code.

An image is made at a random resolution (a scene, a card in perspective, hands, light, lens, sensor,
the camera's coding) and then reduced to the network's input, as the service does it. It depends on
nothing but its seed, so a range of seeds is a data set, and another range is held out.

    python generate.py --seeds 0:24 --sheet examples.png     a look at them
    python generate.py --seeds 0:200 --folder DIR            PNG files and labels.txt
"""

import argparse
import math
from pathlib import Path

import cv2
import numpy as np

from cards import CLASSES, NAMES, NOTHING, card, frame

SIDE = 96
# Share of images without a card: more than a class's share, because false alarms cost most.
NOTHING_SHARE = 0.3
# In perspective, the card's side is at least this part of the image's.
SMALLEST, LARGEST = 0.3, 1.05
# Turned by no more than this in the image's plane, or an arrow would point elsewhere, and out of it.
ROLL, TILT = 28, 48

cv2.setNumThreads(1)


def colour(rng, low=0, high=255):
    return rng.uniform(low, high, 3)


def field(rng, side, coarsest=2, persistence=0.6):
    """Noise at every scale, like clouds; side x side, zero mean, unit deviation."""
    total = np.zeros((side, side), np.float32)
    weight, cells = 1.0, coarsest
    while cells < side:
        grid = rng.standard_normal((cells + 1, cells + 1)).astype(np.float32)
        total += weight * cv2.resize(grid, (side, side), interpolation=cv2.INTER_CUBIC)
        weight *= persistence
        cells *= 2
    return (total - total.mean()) / (total.std() + 1e-6)


def natural(rng, side):
    """Colours that vary together, as in photographs of leaves, cloth, stone or sky."""
    shared = field(rng, side, int(rng.integers(2, 7)), rng.uniform(0.35, 0.95))
    own = rng.uniform(0, 0.5)
    base, contrast = colour(rng, 30, 220), rng.uniform(8, 70)
    channels = [
        base[c] + contrast * (shared * rng.uniform(0.6, 1.2) + own * field(rng, side, 3, 0.5)) for c in range(3)
    ]
    return np.stack(channels, axis=-1)


def gradient(rng, side):
    angle = rng.uniform(0, 2 * math.pi)
    y, x = np.mgrid[0:side, 0:side].astype(np.float32) / side - 0.5
    t = np.clip(0.5 + rng.uniform(0.5, 1.5) * (x * math.cos(angle) + y * math.sin(angle)), 0, 1)[..., None]
    return colour(rng) * (1 - t) + colour(rng) * t


def shapes(rng, image, count):
    """Rectangles, ellipses, polygons, lines and letters over an image, like things on a table."""
    side = image.shape[0]
    for _ in range(count):
        ink = colour(rng).tolist()
        at = rng.uniform(-0.1, 1.1, 2) * side
        size = side * rng.uniform(0.03, 0.5) ** 1.3
        fill = -1 if rng.random() < 0.6 else int(rng.integers(1, 2 + side // 24))
        kind = rng.integers(5)
        if kind == 0:
            box = cv2.boxPoints((at.tolist(), (size * rng.uniform(0.3, 2), size), rng.uniform(0, 180)))
            cv2.polylines(image, [np.int32(box)], True, ink, max(fill, 1), cv2.LINE_AA)
            if fill < 0:
                cv2.fillPoly(image, [np.int32(box)], ink, cv2.LINE_AA)
        elif kind == 1:
            axes = (int(size * rng.uniform(0.3, 1)), int(size))
            cv2.ellipse(image, np.int32(at).tolist(), axes, rng.uniform(0, 180), 0, 360, ink, fill, cv2.LINE_AA)
        elif kind == 2:
            points = at + rng.normal(0, size * 0.6, (int(rng.integers(3, 7)), 2))
            cv2.fillPoly(image, [np.int32(points)], ink, cv2.LINE_AA)
        elif kind == 3:
            end = at + rng.normal(0, size * 2, 2)
            thickness = int(rng.integers(1, 2 + side // 16))
            cv2.line(image, np.int32(at).tolist(), np.int32(end).tolist(), ink, thickness, cv2.LINE_AA)
        else:
            text = "".join(chr(c) for c in rng.integers(48, 123, int(rng.integers(1, 8))))
            scale = size / 30
            thickness = max(1, int(scale * rng.uniform(1, 4)))
            cv2.putText(image, text, np.int32(at).tolist(), int(rng.integers(0, 8)), scale, ink, thickness, cv2.LINE_AA)


def room(rng, side):
    """A few planes with an edge between them, each with a texture of its own."""
    image = natural(rng, side)
    for _ in range(int(rng.integers(1, 4))):
        mask = np.zeros((side, side), np.float32)
        angle, distance = rng.uniform(0, 2 * math.pi), rng.uniform(-0.4, 0.4) * side
        normal = np.array([math.cos(angle), math.sin(angle)])
        along = np.array([-normal[1], normal[0]])
        centre = side / 2 + normal * distance
        corners = [centre + along * 2 * side, centre + along * -2 * side]
        corners += [corners[1] + normal * 2 * side, corners[0] + normal * 2 * side]
        cv2.fillPoly(mask, [np.int32(corners)], 1.0, cv2.LINE_AA)
        other = natural(rng, side) if rng.random() < 0.5 else gradient(rng, side)
        image = image * (1 - mask[..., None]) + other * mask[..., None]
    return image


def stripes(rng, side):
    """Blinds, tiles, shelves: a periodic pattern, possibly in both directions."""
    y, x = np.mgrid[0:side, 0:side].astype(np.float32) / side
    angle = rng.uniform(0, math.pi)
    u, v = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    period = rng.uniform(0.03, 0.4)
    wave = np.sin(2 * math.pi * (u / period + rng.random()))
    if rng.random() < 0.5:
        wave = wave * np.sin(2 * math.pi * v / (period * rng.uniform(0.5, 2)))
    t = (np.clip(wave * rng.uniform(1, 12), -1, 1)[..., None] + 1) / 2
    return colour(rng) * (1 - t) + colour(rng) * t


def background(rng, side):
    kind = rng.choice(5, p=[0.3, 0.25, 0.2, 0.15, 0.1])
    image = [natural, room, natural, gradient, stripes][kind](rng, side)
    image = np.clip(image, 0, 255).astype(np.uint8)
    if kind == 2 or rng.random() < 0.5:
        shapes(rng, image, int(rng.integers(2, 25)))
    if rng.random() < 0.5:
        # Mostly the card is in focus and what is behind it is not.
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 4) * side / SIDE)
    image = image.astype(np.float32)
    # Most of what cameras see is nearly grey.
    saturation = rng.uniform(0, 1)
    grey = image @ np.float32([0.114, 0.587, 0.299])
    return saturation * image + (1 - saturation) * grey[..., None]


def other_symbols(rng):
    """Polygons in the square of a symbol that is none of the cards': what a network must refuse."""
    kinds = {
        "house": [[(0.5, 0), (1, 0.45), (0.85, 0.45), (0.85, 1), (0.15, 1), (0.15, 0.45), (0, 0.45)]],
        "bolt": [[(0.6, 0), (0.1, 0.58), (0.45, 0.58), (0.3, 1), (0.9, 0.38), (0.52, 0.38)]],
        "hourglass": [[(0, 0), (1, 0), (0.55, 0.5), (1, 1), (0, 1), (0.45, 0.5)]],
        "bars": [[(0, y), (1, y), (1, y + 0.2), (0, y + 0.2)] for y in (0, 0.4, 0.8)],
        "both ways": [[(0, 0.5), (0.3, 0.1), (0.3, 0.35), (0.7, 0.35), (0.7, 0.1), (1, 0.5), (0.7, 0.9), (0.7, 0.65), (0.3, 0.65), (0.3, 0.9)]],
        "dots": [[(x + 0.12 * math.cos(a), y + 0.12 * math.sin(a)) for a in np.linspace(0, 6.1, 12)] for x in (0.2, 0.8) for y in (0.2, 0.8)],
        "crescent": [[(0.5 + 0.5 * math.cos(a), 0.5 + 0.5 * math.sin(a)) for a in np.linspace(0.8, 5.5, 24)]
                     + [(0.75 + 0.4 * math.cos(a), 0.5 + 0.4 * math.sin(a)) for a in np.linspace(5.2, 1.1, 24)]],
        "bend": [[(0, 1), (0, 0.3), (0.3, 0), (1, 0), (1, 0.3), (0.4, 0.3), (0.3, 0.4), (0.3, 1)]],
        "random": [rng.uniform(0, 1, (int(rng.integers(5, 9)), 2)).tolist()],
    }
    name = list(kinds)[int(rng.integers(len(kinds)))]
    return [[(0.19 + 0.62 * x, 0.19 + 0.62 * y) for x, y in polygon] for polygon in kinds[name]]


def draw_polygons(mask, polygons):
    """Fills by the even-odd rule, as cards.py says; 4 fractional bits."""
    side = mask.shape[0]
    points = [np.int32(np.round(np.array(p) * side * 16 - 8)) for p in polygons]
    cv2.fillPoly(mask, points, 255, cv2.LINE_AA, shift=4)


def ink_of(rng):
    """Mostly black, sometimes a dark colour or a weak printer's grey."""
    if rng.random() < 0.7:
        return np.full(3, rng.uniform(0, 70)) + rng.normal(0, 5, 3)
    ink = colour(rng, 0, 150)
    return ink * min(1, 90 / (ink @ [0.114, 0.587, 0.299] + 1))


def paper_card(rng, name, side):
    """A flat card, side x side: colours and the part of it that is paper (an imprecise cut).

    `name` is one of the cards', or what else may be in a hand: "blank", "symbol", "letter", "page".
    """
    margin = int(side * rng.choice([0, rng.uniform(0, 0.12)]))
    inner = side - 2 * margin
    black = np.zeros((inner, inner), np.uint8)
    if name in NAMES:
        draw_polygons(black, card(name))
    elif name == "symbol":
        draw_polygons(black, (frame() if rng.random() < 0.8 else []) + other_symbols(rng))
    elif name == "letter":
        if rng.random() < 0.8:
            draw_polygons(black, frame())
        # None of those that a symbol looks like.
        text = rng.choice(list("ABEFHKMNRSWYZ2345679?&#@"))
        font = int(rng.choice([cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_TRIPLEX]))
        scale = inner / 22 * rng.uniform(0.4, 0.75)
        thickness = max(1, int(inner * rng.uniform(0.03, 0.09)))
        (w, h), _ = cv2.getTextSize(text, font, scale, thickness)
        cv2.putText(black, text, ((inner - w) // 2, (inner + h) // 2), font, scale, 255, thickness, cv2.LINE_AA)
    elif name == "page":
        for line in range(int(rng.integers(3, 12))):
            y = int(inner * (0.1 + 0.07 * line))
            x = int(inner * 0.1)
            while x < inner * 0.85:
                word = int(inner * rng.uniform(0.03, 0.2))
                cv2.line(black, (x, y), (min(x + word, int(inner * 0.9)), y), 255, max(1, inner // 40))
                x += word + inner // 25
    elif name == "frame":
        draw_polygons(black, frame())
    ink = np.zeros((side, side), np.float32)
    ink[margin : margin + inner, margin : margin + inner] = black / 255.0
    if rng.random() < 0.15:
        # A printer short of toner, or a scratched lamination.
        ink *= np.clip(1 - 0.35 * np.abs(field(rng, side, 4, 0.9)), 0.35, 1)
    paper = rng.uniform(165, 255) * (1 - rng.uniform(0, 0.12, 3))
    image = paper * (1 - ink[..., None]) + np.clip(ink_of(rng), 0, 140) * ink[..., None]
    if rng.random() < 0.3:
        image += rng.uniform(2, 10) * field(rng, side, 2, 0.7)[..., None]
    if rng.random() < 0.15:
        a, b = rng.integers(0, side, 2), rng.integers(0, side, 2)
        crease = np.zeros((side, side), np.float32)
        cv2.line(crease, a.tolist(), b.tolist(), 1.0, 1, cv2.LINE_AA)
        image += (rng.uniform(-60, 40) * crease)[..., None]
    return np.clip(image, 0, 255).astype(np.float32)


def place(rng, smallest=SMALLEST, largest=LARGEST, inside=True):
    """The corners of a card in a unit image, by a pinhole camera, clockwise from the top left."""
    while True:
        yaw, pitch = np.radians(rng.uniform(-TILT, TILT, 2) * rng.uniform(0, 1) ** 0.5)
        roll = math.radians(rng.uniform(-ROLL, ROLL) if rng.random() < 0.8 else 0)
        size = math.exp(rng.uniform(math.log(smallest), math.log(largest)))
        square = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]]) / 2
        cy, sy, cp, sp, cr, sr = (f(a) for a in (yaw, pitch, roll) for f in (math.cos, math.sin))
        turn_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
        turn_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
        turn_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
        points = square @ (turn_z @ turn_x @ turn_y).T
        focal = rng.uniform(1.2, 4)
        flat = points[:, :2] * focal / (focal + points[:, 2:]) * size
        flat += rng.uniform(0, 1, 2)
        centre = np.abs(flat - 0.5)
        # The whole symbol has to be visible; a corner of the frame need not be.
        overlap = 0.5 + 0.13 * size
        if not inside or (centre.max() <= overlap and visible(flat, 0.17) > 0.97):
            return flat.astype(np.float32)


def visible(corners, edge):
    """The share of a card, without `edge` of its side all around, that lies in the image."""
    transform = cv2.getPerspectiveTransform(np.float32([[0, 0], [1, 0], [1, 1], [0, 1]]), np.float32(corners))
    grid = np.stack(np.meshgrid(np.linspace(edge, 1 - edge, 7), np.linspace(edge, 1 - edge, 7)), -1).reshape(-1, 1, 2)
    points = cv2.perspectiveTransform(grid.astype(np.float32), transform)[:, 0]
    return ((points >= 0) & (points <= 1)).all(axis=1).mean()


def paste(rng, scene, texture, corners):
    """A card over the scene, with the shadow that it throws."""
    side = scene.shape[0]
    target = np.float32(corners * side)
    # Reduced to about its size in the image first: the warp below takes single pixels.
    size = int(np.clip(np.linalg.norm(target - np.roll(target, 1, axis=0), axis=1).max() * 1.15, 12, texture.shape[0]))
    texture = cv2.resize(texture, (size, size), interpolation=cv2.INTER_AREA)
    transform = cv2.getPerspectiveTransform(np.float32([[0, 0], [size, 0], [size, size], [0, size]]), target)
    warped = cv2.warpPerspective(texture, transform, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    mask = np.zeros((side, side), np.float32)
    cv2.fillConvexPoly(mask, np.int32(np.round(target * 16 - 8)), 1.0, cv2.LINE_AA, shift=4)
    if rng.random() < 0.6:
        shift = rng.normal(0, 0.03, 2) * side
        shadow = cv2.warpAffine(mask, np.float32([[1, 0, shift[0]], [0, 1, shift[1]]]), (side, side))
        shadow = cv2.GaussianBlur(shadow, (0, 0), rng.uniform(0.01, 0.06) * side)
        scene = scene * (1 - rng.uniform(0.1, 0.6) * shadow[..., None])
    if rng.random() < 0.25:
        # Shiny paper.
        y, x = np.mgrid[0:side, 0:side].astype(np.float32) / side
        centre = corners.mean(axis=0) + rng.normal(0, 0.2, 2)
        distance = ((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / rng.uniform(0.05, 0.3) ** 2
        warped = warped + (rng.uniform(20, 110) * np.exp(-distance))[..., None]
    return scene * (1 - mask[..., None]) + warped * mask[..., None]


def skin(rng):
    """Blue, green, red of skin from very light to very dark."""
    light = rng.uniform(0.25, 1)
    return light * np.array([rng.uniform(110, 180), rng.uniform(140, 195), rng.uniform(195, 245)])


def finger(rng, scene, tip, root, width, tone):
    side = scene.shape[0]
    ends = [np.int32(np.array(p) * side).tolist() for p in (tip, root)]
    thickness = max(2, int(width * side))
    cv2.line(scene, *ends, (tone * 0.7).tolist(), thickness + max(1, thickness // 6), cv2.LINE_AA)
    cv2.line(scene, *ends, tone.tolist(), thickness, cv2.LINE_AA)
    if rng.random() < 0.5:
        cv2.circle(scene, ends[0], max(1, thickness // 4), np.clip(tone * 1.15, 0, 255).tolist(), -1, cv2.LINE_AA)


def hand_behind(rng, scene, corners, tone):
    """The palm and fingers that a card hides, and the arm."""
    edge = int(rng.integers(4))
    a, b = corners[edge], corners[(edge + 1) % 4]
    middle, centre = (a + b) / 2, corners.mean(axis=0)
    out = (middle - centre) / (np.linalg.norm(middle - centre) + 1e-6)
    size = np.linalg.norm(a - b)
    palm = middle + out * size * rng.uniform(0.05, 0.3)
    finger(rng, scene, palm, palm + out * 2 + rng.normal(0, 0.3, 2), size * rng.uniform(0.3, 0.55), tone)
    for _ in range(int(rng.integers(2, 5))):
        finger(rng, scene, middle + rng.normal(0, 0.25, 2) * size, palm, size * rng.uniform(0.09, 0.16), tone)
    return middle, out, size


def thumb(rng, scene, grip, tone):
    """What a hand shows in front of the card: it covers the frame, not the symbol."""
    middle, out, size = grip
    along = np.array([-out[1], out[0]])
    tip = middle - out * size * rng.uniform(0, 0.13) + along * size * rng.uniform(-0.4, 0.4)
    finger(rng, scene, tip, tip + out * size + rng.normal(0, 0.1, 2), size * rng.uniform(0.09, 0.14), tone)


def light(rng, scene):
    """Uneven light, a shadow's edge, colour of the lamp, exposure."""
    side = scene.shape[0]
    y, x = np.mgrid[0:side, 0:side].astype(np.float32) / side - 0.5
    if rng.random() < 0.6:
        angle, strength = rng.uniform(0, 2 * math.pi), rng.uniform(0, 0.9)
        scene = scene * np.clip(1 + strength * (x * math.cos(angle) + y * math.sin(angle)), 0.2, 2)[..., None]
    if rng.random() < 0.25:
        mask = np.zeros((side, side), np.float32)
        points = rng.uniform(-0.3, 1.3, (4, 2)) * side
        cv2.fillPoly(mask, [np.int32(points)], 1.0)
        mask = cv2.GaussianBlur(mask, (0, 0), rng.uniform(0.005, 0.08) * side)
        scene = scene * (1 - rng.uniform(0.2, 0.65) * mask[..., None])
    if rng.random() < 0.3:
        scene = scene * (1 - rng.uniform(0, 1.1) * (x * x + y * y))[..., None]
    scene = scene * rng.uniform(0.8, 1.2, 3)
    scene = 255 * np.clip(scene / 255, 0, None) ** math.exp(rng.normal(0, 0.25))
    return scene * math.exp(rng.normal(-0.1, 0.33)) + rng.uniform(-10, 25)


def lens(rng, scene, reduced=SIDE):
    """Out of focus or moving, by so much of a pixel of the image as it is `reduced` in the end."""
    side = scene.shape[0]
    if rng.random() < 0.5:
        scene = cv2.GaussianBlur(scene, (0, 0), rng.uniform(0.2, 1.1) * side / reduced)
    if rng.random() < 0.25:
        length = int(max(3, rng.uniform(0.02, 0.055) * side * SIDE / reduced)) | 1
        kernel = np.zeros((length, length), np.float32)
        middle, angle = length // 2, rng.uniform(0, math.pi)
        step = np.array([math.cos(angle), math.sin(angle)]) * middle
        cv2.line(kernel, np.int32(np.round(middle - step)).tolist(), np.int32(np.round(middle + step)).tolist(), 1.0)
        scene = cv2.filter2D(scene, -1, kernel / kernel.sum())
    return scene


def sensor(rng, scene):
    side = scene.shape[0]
    if rng.random() < 0.8:
        noise = rng.standard_normal((side, side, 3), dtype=np.float32)
        if rng.random() < 0.4:
            noise = cv2.GaussianBlur(noise, (0, 0), rng.uniform(0.4, 1.2)) * 2
        amplitude = rng.uniform(0, 14) * (1 if rng.random() < 0.8 else 2.5)
        scene = scene + amplitude * noise * np.sqrt(np.clip(scene, 10, 255) / 128)
    if rng.random() < 0.05:
        scene = scene + rng.normal(0, 6, (side, 1, 1))
    if rng.random() < 0.12:
        scene = np.repeat((scene @ np.float32([0.114, 0.587, 0.299]))[..., None], 3, axis=-1)
    return np.clip(scene, 0, 255).astype(np.uint8)


def coding(rng, image):
    """What YUYV (half the colour's width, limited range) or JPEG leave of an image."""
    kind = rng.random()
    if kind < 0.4:
        luma = cv2.cvtColor(image, cv2.COLOR_BGR2YCrCb).astype(np.float32)
        half = cv2.resize(luma[..., 1:], (image.shape[1] // 2, image.shape[0]), interpolation=cv2.INTER_AREA)
        luma[..., 1:] = np.round(cv2.resize(half, (image.shape[1], image.shape[0])) / 255 * 224) / 224 * 255
        luma[..., 0] = np.round(luma[..., 0] / 255 * 219) / 219 * 255
        return cv2.cvtColor(np.clip(np.round(luma), 0, 255).astype(np.uint8), cv2.COLOR_YCrCb2BGR)
    if kind < 0.85:
        _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 96))])
        return cv2.imdecode(data, cv2.IMREAD_COLOR)
    return image


def without_card(rng, side):
    """A scene in which nothing should be recognised; about half have something like a card."""
    scene = background(rng, side)
    kind = rng.random()
    if kind < 0.45:
        return scene
    tone = skin(rng)
    if kind < 0.55:
        hand_behind(rng, scene, place(rng, inside=False), tone)
        return scene
    if kind < 0.93:
        name = rng.choice(["symbol", "letter", "blank", "page", "frame"], p=[0.4, 0.25, 0.1, 0.15, 0.1])
        corners = place(rng)
    else:
        # A card of which too little is in the image to know it.
        name = rng.choice(NAMES)
        while True:
            corners = place(rng, inside=False) + np.float32(rng.uniform(-0.6, 0.6, 2))
            if visible(corners, 0.22) < 0.2:
                break
    return hold(rng, scene, paper_card(rng, name, 128), corners, tone)


def hold(rng, scene, texture, corners, tone):
    grip = hand_behind(rng, scene, corners, tone) if rng.random() < 0.45 else None
    scene = np.ascontiguousarray(paste(rng, scene, texture, corners), dtype=np.float32)
    if grip:
        thumb(rng, scene, grip, tone)
    return scene


def generate(seed):
    """One image, SIDE x SIDE x 3, blue green red, and its class."""
    rng = np.random.default_rng(seed)
    side = int(rng.choice([112, 144, 192]))
    if rng.random() < NOTHING_SHARE:
        label, scene = CLASSES.index(NOTHING), without_card(rng, side)
    else:
        label = int(rng.integers(len(NAMES)))
        scene = background(rng, side)
        scene = hold(rng, scene, paper_card(rng, NAMES[label], 144), place(rng), skin(rng))
    image = coding(rng, sensor(rng, lens(rng, light(rng, scene.astype(np.float32)))))
    return cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA), label


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--seeds", default="0:60", help="FIRST:END")
    parser.add_argument("--sheet", type=Path)
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    first, end = map(int, arguments.seeds.split(":"))
    made = [generate(seed) for seed in range(first, end)]
    if arguments.sheet:
        tiles = [cv2.copyMakeBorder(image, 0, 2, 0, 2, cv2.BORDER_CONSTANT) for image, _ in made]
        tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % 12)
        cv2.imwrite(str(arguments.sheet), cv2.vconcat([cv2.hconcat(tiles[i : i + 12]) for i in range(0, len(tiles), 12)]))
    if arguments.folder:
        arguments.folder.mkdir(parents=True, exist_ok=True)
        lines = []
        for seed, (image, label) in enumerate(made, first):
            cv2.imwrite(str(arguments.folder / f"{seed}.png"), image)
            lines.append(f"{seed}.png {label}\n")
        (arguments.folder / "labels.txt").write_text("".join(lines))


if __name__ == "__main__":
    main()
