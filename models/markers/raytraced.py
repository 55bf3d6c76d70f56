"""A test set that the generator did not make: scenes ray-traced by POV-Ray.

    python raytraced.py --count 390 --folder DIR        PNG files and labels.txt
    python raytraced.py --several --folder DIR          several cards each: PNG files and annotations.json (COCO)

The cards are the printed sheet (cards.pdf, by pdftoppm), on a table or held by rods in a room with
lamps, soft shadows, wood, stone and shining things. Needs povray and poppler-utils.
"""

import argparse
import json
import math
import random
import subprocess
import tempfile
from pathlib import Path

from PIL import Image

from cards import CLASSES, NAMES, NOTHING

SIDE = 256
# Where cards.pdf has its cards, in millimetres on two A4 sheets: see write_pdf in cards.py.
CARD, GAP, LEFT, TOP = 90, 8, 11, 5
DOTS_PER_MM = 6


def textures(folder: Path) -> None:
    """Cuts the cards out of the printed sheets: NAME.png, with its paper."""
    sheet = Path(__file__).with_name("cards.pdf")
    resolution = str(DOTS_PER_MM * 25.4)
    subprocess.run(["pdftoppm", "-r", resolution, "-png", sheet, folder / "sheet"], check=True)
    pages = [Image.open(path).convert("RGB") for path in sorted(folder.glob("sheet*.png"))]
    for index, name in enumerate(NAMES):
        place = index % 6
        x, y = LEFT + place % 2 * (CARD + GAP), TOP + place // 2 * (CARD + GAP)
        box = [round(DOTS_PER_MM * edge) for edge in (x, y, x + CARD, y + CARD)]
        pages[index // 6].crop(box).save(folder / f"{name}.png")
    # Faces of things that are not cards: text and a blank sheet.
    pages[0].crop([0, 0, 20, 20]).resize((64, 64)).save(folder / "blank.png")


def vector(values) -> str:
    return "<" + ",".join(f"{value:.4f}" for value in values) + ">"


def pigment(dice: random.Random) -> str:
    colours = [vector(dice.uniform(0.05, 0.95) for _ in range(3)) for _ in range(2)]
    pattern = dice.choice(["wood turbulence 0.1", "marble turbulence 0.8", "granite", "bozo turbulence 1", "checker", "crackle"])
    scale = dice.uniform(0.1, 1.5)
    if pattern == "checker":
        return f"pigment {{ checker color rgb {colours[0]} color rgb {colours[1]} scale {scale} }}"
    turn = vector(dice.uniform(0, 180) for _ in range(3))
    return f"pigment {{ {pattern} color_map {{ [0 rgb {colours[0]}] [1 rgb {colours[1]}] }} scale {scale} rotate {turn} }}"


def thing(dice: random.Random) -> str:
    x, z, size = dice.uniform(-2.5, 2.5), dice.uniform(0.6, 4), dice.uniform(0.15, 0.7)
    finish = dice.choice(["", "finish { specular 0.6 reflection 0.15 }", "finish { phong 0.4 }"])
    shape = dice.choice(
        [
            f"sphere {{ <{x},{size - 1.2},{z}>, {size}",
            f"cylinder {{ <{x},-1.2,{z}>, <{x},{2 * size - 1.2},{z}>, {size / 2}",
            f"box {{ <{-size},0,{-size}>, <{size},{dice.uniform(0.2, 2) * size},{size}> rotate <0,{dice.uniform(0, 90)},0> translate <{x},-1.2,{z}>",
            f"cone {{ <{x},-1.2,{z}>, {size}, <{x},{2.5 * size - 1.2},{z}>, {size * dice.uniform(0, 0.5)}",
            f"torus {{ {size}, {size / 4} rotate <{dice.uniform(0, 90)},{dice.uniform(0, 90)},0> translate <{x},{size - 1.2},{z}>",
        ]
    )
    return f"{shape} {pigment(dice)} {finish} }}"


def board(dice: random.Random, image: str) -> str:
    """A thin square of side 1 with an image on its face, before the camera."""
    size = math.exp(dice.uniform(math.log(0.5), math.log(1.25)))
    tilt = [dice.uniform(-35, 35), dice.uniform(-40, 40), dice.uniform(-22, 22)]
    # The picture is about 2.1 wide at this distance; the card stays whole in it.
    free = max(0.0, 1.05 - 0.75 * size)
    place = [dice.uniform(-free, free), dice.uniform(-free, free), 0]
    return board_at(dice, image, size, tilt, place)


def board_at(dice: random.Random, image: str, size: float, tilt: list, place: list) -> str:
    gloss = dice.choice(["finish { ambient 0.1 diffuse 0.85 }", "finish { ambient 0.1 diffuse 0.8 specular 0.5 roughness 0.02 }"])
    face = f'pigment {{ image_map {{ png "{image}" interpolate 2 once }} }} {gloss} translate <-0.5,-0.5,0>'
    rod = f"cylinder {{ <0,-0.42,0.03>, <{dice.uniform(-0.4, 0.4)},-3,0.2>, 0.05 {pigment(dice)} }}"
    return (
        f"union {{ box {{ <-0.5,-0.5,0>, <0.5,0.5,0.012> texture {{ {face} }} }} {rod} "
        f"scale {size} rotate {vector(tilt)} translate {vector(place)} }}"
    )


# Half the width of the picture at a distance of 1, by the camera's angle of 36 degrees.
HALF = math.tan(math.radians(18))


def project(point: list, height: float) -> tuple[float, float]:
    """Where the picture shows a point, as shares from its upper left corner; the camera is `height` high
    and looks at the origin."""
    forward = [0.0, -height, 3.2]
    length = math.hypot(*forward)
    forward = [part / length for part in forward]
    up = [0.0, forward[2], -forward[1]]
    seen = [point[0], point[1] - height, point[2] + 3.2]
    depth = sum(a * b for a, b in zip(seen, forward))
    rise = sum(a * b for a, b in zip(seen, up))
    return 0.5 + seen[0] / depth / (2 * HALF), 0.5 - rise / depth / (2 * HALF)


def turned(point: list, tilt: list) -> list:
    """As POV-Ray's `rotate`: about x, then y, then z, in degrees."""
    x, y, z = point
    (ca, sa), (cb, sb), (cc, sc) = ((math.cos(math.radians(a)), math.sin(math.radians(a))) for a in tilt)
    y, z = y * ca - z * sa, y * sa + z * ca
    x, z = x * cb + z * sb, z * cb - x * sb
    x, y = x * cc - y * sc, x * sc + y * cc
    return [x, y, z]


def corners(size: float, tilt: list, place: list, height: float) -> list:
    """The corners of a board in the picture, clockwise from the upper left one."""
    flat = [[-0.5, 0.5, 0], [0.5, 0.5, 0], [0.5, -0.5, 0], [-0.5, -0.5, 0]]
    placed = ([size * a + b for a, b in zip(turned(corner, tilt), place)] for corner in flat)
    return [project(point, height) for point in placed]


def separate(corners: list, others: list) -> bool:
    """Whether a board is whole in the picture and its box beside all others'."""
    def box(points):
        (xs, ys) = zip(*points)
        return min(xs), min(ys), max(xs), max(ys)

    left, top, right, bottom = box(corners)
    if min(left, top) < 0 or max(right, bottom) > 1:
        return False
    return all(left > r or right < l or top > b or bottom < t for l, t, r, b in map(box, others))


def several(dice: random.Random, names: list) -> tuple[str, list, list]:
    """A scene with up to six of these cards and some blank sheets; which cards, and their corners."""
    height = dice.uniform(-0.2, 0.4)
    shown, found, taken, boards = [], [], [], []
    for number in range(dice.randint(1, 6)):
        name = "blank" if number > 0 and dice.random() < 0.15 else dice.choice(names)
        for _ in range(30):
            size = math.exp(dice.uniform(math.log(0.42), math.log(0.95)))
            tilt = [dice.uniform(-35, 35), dice.uniform(-40, 40), dice.uniform(-22, 22)]
            place = [dice.uniform(-0.85, 0.85), dice.uniform(-0.85, 0.85), dice.uniform(-0.1, 0.1)]
            at = corners(size, tilt, place, height)
            if separate(at, taken):
                break
        else:
            continue
        taken.append(at)
        boards.append(board_at(dice, f"{name}.png", size, tilt, place))
        if name != "blank":
            shown.append(names.index(name))
            found.append(at)
    return "\n".join([scene(dice, None, height), *boards]), shown, found


def scene(dice: random.Random, image: str | None, height: float | None = None) -> str:
    lamps = []
    for _ in range(dice.choice([1, 1, 2, 3])):
        place = [dice.uniform(-5, 5), dice.uniform(1, 6), dice.uniform(-6, -1)]
        power = dice.uniform(0.4, 1.1)
        tint = [power * dice.uniform(0.8, 1) for _ in range(3)]
        lamps.append(f"light_source {{ {vector(place)} rgb {vector(tint)} area_light <0.8,0,0>, <0,0.8,0>, 3, 3 adaptive 0 jitter }}")
    parts = [
        "#version 3.7; global_settings { assumed_gamma 2.2 ambient_light rgb 1.2 }",
        f"camera {{ location <0,{dice.uniform(-0.2, 0.4) if height is None else height:.3f},-3.2> look_at <0,0,0> angle 36 right x }}",
        *lamps,
        f"plane {{ y, -1.2 {pigment(dice)} }}",
        f"plane {{ z, {dice.uniform(2, 6):.3f} {pigment(dice)} }}",
        *(thing(dice) for _ in range(dice.randint(0, 9))),
    ]
    if image:
        parts.append(board(dice, image))
    return "\n".join(parts)


def render(work: Path, text: str, file: Path) -> None:
    (work / "scene.pov").write_text(text)
    command = ["povray", "scene.pov", f"+O{file}", f"+W{SIDE}", f"+H{SIDE}", "+A0.3", "-D", "+WT1"]
    subprocess.run(command, cwd=work, check=True, capture_output=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--count", type=int, default=390, help="one in thirteen has no card")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--several", action="store_true", help="several cards in each, for the detector")
    parser.add_argument("--folder", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    lines, placed = [], []
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        textures(work)
        for index in range(arguments.count):
            dice = random.Random(arguments.seed * 1_000_000 + index)
            if arguments.several:
                text, classes, found = several(dice, list(NAMES))
                render(work, text, arguments.folder.resolve() / f"{index}.png")
                placed.append((f"{index}.png", SIDE, classes, found))
                continue
            label = index % len(CLASSES)
            name = CLASSES[label]
            # Of the scenes without a card, half have a blank sheet.
            image = dice.choice([None, "blank.png"]) if name == NOTHING else f"{name}.png"
            render(work, scene(dice, image), arguments.folder.resolve() / f"{index}.png")
            lines.append(f"{index}.png {label}\n")
    if arguments.several:
        # Needs what training needs, which the other scenes do without.
        from scenes import coco

        (arguments.folder / "annotations.json").write_text(json.dumps(coco(placed)))
    else:
        (arguments.folder / "labels.txt").write_text("".join(lines))


if __name__ == "__main__":
    main()
