// Zones and lines of rules: drawn over the picture, and edited there by mouse, touch and keyboard. What
// comes of it is text for the configuration; nothing is changed from here.
"use strict";

const MOST_CORNERS = 64;
const STEP = 0.01, STRIDE = 0.05; // of the picture, by an arrow key alone and with Shift

let shownAs = null;             // how the picture lies on the canvas: { matrix, width, height }
let draft = null;               // what is edited: { kind, direction, points }
let touched = null;                // index of the point that was touched last

// ---- geometry, in shares of the frame

const toCanvas = ([x, y]) => shownAs.matrix.transformPoint({ x: x * shownAs.width, y: y * shownAs.height });
function toShares({ x, y }) {
  const place = shownAs.matrix.inverse().transformPoint({ x, y });
  const share = (at, length) => Math.min(1, Math.max(0, Math.round((at / length) * 1000) / 1000));
  return [share(place.x, shownAs.width), share(place.y, shownAs.height)];
}

// Where the canvas has its pixels, in CSS pixels of the stage: it may have bars beside them.
function canvasBox() {
  const canvas = $("frame");
  const [outer, inner] = [$("stage").getBoundingClientRect(), canvas.getBoundingClientRect()];
  const scale = Math.min(inner.width / canvas.width, inner.height / canvas.height);
  const left = inner.left - outer.left + (inner.width - canvas.width * scale) / 2;
  const upper = inner.top - outer.top + (inner.height - canvas.height * scale) / 2;
  return { scale, left, upper, outer };
}

const cross = ([ax, ay], [bx, by]) => ax * by - ay * bx;
const minus = ([ax, ay], [bx, by]) => [ax - bx, ay - by];
const middle = ([ax, ay], [bx, by]) => [(ax + bx) / 2, (ay + by) / 2];
const STEPS = { up: [0, -1], down: [0, 1], left: [-1, 0], right: [1, 0] };

// Whether two sides meet, touching included.
function meet([a, b], [c, d]) {
  const side = (from, to, point) => Math.sign(cross(minus(to, from), minus(point, from)));
  const within = (from, to, point) => [0, 1].every((axis) => Math.min(from[axis], to[axis]) <= point[axis] && point[axis] <= Math.max(from[axis], to[axis]));
  const [s, t, u, v] = [side(a, b, c), side(a, b, d), side(c, d, a), side(c, d, b)];
  if (s !== t && u !== v) return true;
  return (s === 0 && within(a, b, c)) || (t === 0 && within(a, b, d)) || (u === 0 && within(c, d, a)) || (v === 0 && within(c, d, b));
}

const sidesOf = (points) => points.map((point, index) => [point, points[(index + 1) % points.length]]);

// What is wrong with a draft; nothing if it can be used.
function mistake({ kind, direction, points }) {
  const same = points.findIndex((point, index) => points.some((other, before) => before < index && other[0] === point[0] && other[1] === point[1]));
  if (same >= 0) return `Point ${same + 1} lies on another one.`;
  if (kind === "crossing") {
    const way = STEPS[direction];
    return way && cross(minus(points[1], points[0]), way) === 0 ? `Nothing goes ${direction} over this line.` : "";
  }
  const sides = sidesOf(points);
  for (let a = 0; a < sides.length; a += 1) {
    for (let b = a + 2; b < sides.length; b += 1) {
      if (a === 0 && b === sides.length - 1) continue;
      if (meet(sides[a], sides[b])) return `The sides after the corners ${a + 1} and ${b + 1} cross each other.`;
    }
  }
  const area = Math.abs(points.reduce((sum, point, index) => sum + cross(point, points[(index + 1) % points.length]), 0)) / 2;
  return area < 0.001 ? "The zone covers less than a thousandth of the picture." : "";
}

// ---- drawing

// A zone or a line on the canvas, whose pen counts its own pixels.
function drawPlace(pen, { zone, crossing, direction }, unit, ink, name) {
  const points = (crossing ?? zone).map(toCanvas);
  pen.beginPath();
  points.forEach(({ x, y }, index) => (index ? pen.lineTo(x, y) : pen.moveTo(x, y)));
  if (!crossing) {
    pen.closePath();
    pen.fillStyle = `rgb(${ink} / .16)`;
    pen.fill();
  }
  for (const [width, style] of [[5 * unit, "rgb(0 0 0 / .65)"], [2.5 * unit, `rgb(${ink})`]]) {
    pen.lineWidth = width;
    pen.strokeStyle = style;
    pen.stroke();
  }
  if (crossing) drawWays(pen, crossing, direction, unit, ink);
  if (!name) return;
  pen.font = `600 ${13 * unit}px system-ui, sans-serif`;
  pen.textBaseline = "middle";
  const first = points.reduce((best, point) => (point.y < best.y ? point : best));
  const [wide, high] = [pen.measureText(name).width + 10 * unit, 20 * unit];
  const left = Math.min(Math.max(0, first.x), $("frame").width - wide);
  const upper = Math.min(first.y + 3 * unit, $("frame").height - high);
  pen.fillStyle = "rgb(0 0 0 / .78)";
  pen.fillRect(left, upper, wide, high);
  pen.fillStyle = `rgb(${ink})`;
  pen.fillText(name, left + 5 * unit, upper + high / 2);
}

// Arrows over the middle of a line, the ways that count.
function drawWays(pen, [from, to], direction, unit, ink) {
  const [a, b] = [toCanvas(from), toCanvas(to)];
  const at = toCanvas(middle(from, to));
  const length = Math.hypot(b.x - a.x, b.y - a.y) || 1;
  const normal = [-(b.y - a.y) / length, (b.x - a.x) / length];
  // On the canvas, which may be turned and mirrored.
  const origin = toCanvas([0, 0]);
  const step = STEPS[direction] && toCanvas(STEPS[direction]);
  const along = step ? (step.x - origin.x) * normal[0] + (step.y - origin.y) * normal[1] : 0;
  const ways = step ? [Math.sign(along)] : [1, -1];
  for (const way of ways) {
    const [nx, ny] = [normal[0] * way * 26 * unit, normal[1] * way * 26 * unit];
    const tip = [at.x + nx, at.y + ny];
    pen.beginPath();
    pen.moveTo(at.x, at.y);
    pen.lineTo(...tip);
    pen.moveTo(tip[0] - nx * 0.4 - ny * 0.3, tip[1] - ny * 0.4 + nx * 0.3);
    pen.lineTo(...tip);
    pen.lineTo(tip[0] - nx * 0.4 + ny * 0.3, tip[1] - ny * 0.4 - nx * 0.3);
    for (const [width, style] of [[5 * unit, "rgb(0 0 0 / .65)"], [2.5 * unit, `rgb(${ink})`]]) {
      pen.lineWidth = width;
      pen.strokeStyle = style;
      pen.stroke();
    }
  }
}

// The places of all rules, and what is edited.
function drawPlaces(pen, matrix, image, unit) {
  shownAs = { matrix, width: image.width, height: image.height };
  pen.setTransform(1, 0, 0, 1, 0, 0);
  for (const rule of shownRules()) {
    const { place } = rule;
    if (!place || (draft && rule.name === $("place-rule").value)) continue;
    const ink = rule.active ? "96 240 160" : "130 200 255";
    if (place.zone) drawPlace(pen, { zone: place.zone }, unit, ink, rule.name);
    if (place.crossing) drawPlace(pen, place, unit, ink, rule.name);
  }
  if (draft) drawPlace(pen, placeOf(draft), unit, mistake(draft) ? "255 120 110" : "255 210 74", "");
  showHandles();
}

const placeOf = ({ kind, direction, points }) => (kind === "zone" ? { zone: points } : { crossing: points, direction });

// ---- editing

// What the rule has already, or something to begin with.
function beginDraft() {
  const rule = shownRules().find(({ name }) => name === $("place-rule").value);
  const [kind, place] = [$("place-kind").value, rule?.place];
  const direction = $("place-direction").value;
  if (kind === "zone") draft = { kind, direction: "", points: structuredClone(place?.zone ?? [[0.25, 0.25], [0.75, 0.25], [0.75, 0.75], [0.25, 0.75]]) };
  else draft = { kind, direction, points: structuredClone(place?.crossing ?? [[0.1, 0.5], [0.9, 0.5]]) };
  touched = null;
  showDraft();
}

function showRulesToEdit() {
  const finds = camera().view.finds;
  $("places").hidden = !finds || state.rules.length === 0;
  if ($("places").hidden && $("places").open) $("places").open = false;
  const names = shownRules().map(({ name }) => name);
  const before = $("place-rule").value;
  reconcile($("place-rule"), names, String, (name) => element("option", { value: name }, name));
  $("place-kind").querySelector("[value=crossing]").disabled = finds === "mask";
  if (draft && before !== $("place-rule").value) takeRule();
}

function showDraft() {
  const editing = draft !== null;
  $("stage").toggleAttribute("data-editing", editing);
  if (editing) {
    const { kind, direction, points } = draft;
    const wrong = mistake(draft);
    show($("place-check"), wrong || "It can be used.");
    $("place-check").dataset.wrong = wrong !== "";
    const list = points.map((point) => `[${point.map((share) => share.toFixed(3).replace(/0{1,2}$/, "")).join(", ")}]`).join(", ");
    const way = kind === "crossing" && direction ? `\ndirection = "${direction}"` : "";
    show($("place-text"), `# In the [[rule]] ${JSON.stringify($("place-rule").value)}:\n${kind} = [${list}]${way}`);
    $("place-copy").disabled = wrong !== "";
    $("place-direction").disabled = kind === "zone";
    $("place-add").disabled = kind !== "zone" || points.length >= MOST_CORNERS;
    $("place-remove").disabled = kind !== "zone" || points.length <= 3;
  }
  showHandles();
  if (picture) drawPicture();
}

function makeHandle(key) {
  const handle = element("button", { type: "button", className: "handle" });
  const index = () => Number(handle.dataset.key);
  handle.onpointerdown = (event) => {
    event.preventDefault();
    handle.focus();
    handle.setPointerCapture(event.pointerId);
  };
  handle.onpointermove = (event) => {
    if (handle.hasPointerCapture(event.pointerId)) movePoint(index(), pointed(event));
  };
  handle.onfocus = () => { touched = index(); };
  handle.onkeydown = (event) => {
    const way = STEPS[event.key.replace("Arrow", "").toLowerCase()];
    if (way) {
      const [canvas, step] = [$("frame"), event.shiftKey ? STRIDE : STEP];
      const at = toCanvas(draft.points[index()]);
      movePoint(index(), { x: at.x + way[0] * step * canvas.width, y: at.y + way[1] * step * canvas.height });
    } else if (event.key === "Delete" || event.key === "Backspace") removePoint(index());
    else return;
    event.preventDefault();
  };
  handle.dataset.key = key;
  return handle;
}

// A place on the canvas.
function pointed({ clientX, clientY }) {
  const { scale, left, upper, outer } = canvasBox();
  return { x: (clientX - outer.left - left) / scale, y: (clientY - outer.top - upper) / scale };
}

function movePoint(index, place) {
  draft.points[index] = toShares(place);
  showDraft();
}

function removePoint(index) {
  if (draft.kind !== "zone" || draft.points.length <= 3) return;
  draft.points.splice(index, 1);
  touched = Math.min(index, draft.points.length - 1);
  showDraft();
  announce(`${draft.points.length} corners`);
  $("handles").children[touched].focus();
}

// A new corner after one, where nothing else is said in the middle of the side that begins there.
function addPoint(after, place) {
  if (draft.kind !== "zone" || draft.points.length >= MOST_CORNERS) return;
  const { points } = draft;
  points.splice(after + 1, 0, place ?? middle(points[after], points[(after + 1) % points.length]).map((share) => Math.round(share * 1000) / 1000));
  touched = after + 1;
  showDraft();
  announce(`${points.length} corners`);
  $("handles").children[touched].focus();
}

function showHandles() {
  const points = (draft && shownAs && draft.points) || [];
  reconcile($("handles"), points.map((_, index) => index), String, makeHandle);
  if (!points.length) return;
  const { scale, left, upper } = canvasBox();
  points.forEach((point, index) => {
    const [handle, at] = [$("handles").children[index], toCanvas(point)];
    handle.style.left = `${left + at.x * scale}px`;
    handle.style.top = `${upper + at.y * scale}px`;
    show(handle, String(index + 1));
    const what = draft.kind === "zone" ? `Corner ${index + 1} of ${points.length}` : `End ${index + 1}`;
    handle.setAttribute("aria-label", `${what}: ${percent(point[0])} from the left, ${percent(point[1])} from the top`);
  });
}

// The side that is nearest to a point.
function nearestSide(points, point) {
  const distance = ([from, to]) => {
    const way = minus(to, from);
    const share = Math.min(1, Math.max(0, (minus(point, from)[0] * way[0] + minus(point, from)[1] * way[1]) / (way[0] ** 2 + way[1] ** 2 || 1)));
    return Math.hypot(...minus(point, [from[0] + share * way[0], from[1] + share * way[1]]));
  };
  const distances = sidesOf(points).map(distance);
  return distances.indexOf(Math.min(...distances));
}

// Begins with what the rule that is chosen looks at.
function takeRule() {
  const place = shownRules().find(({ name }) => name === $("place-rule").value)?.place;
  $("place-kind").value = place?.crossing ? "crossing" : "zone";
  $("place-direction").value = place?.direction ?? "";
  beginDraft();
}

$("places").ontoggle = () => {
  if ($("places").open) takeRule();
  else {
    draft = null;
    showDraft();
  }
};
$("place-rule").onchange = takeRule;
$("place-kind").onchange = beginDraft;
$("place-direction").onchange = () => {
  draft.direction = $("place-direction").value;
  showDraft();
};
$("place-reset").onclick = beginDraft;
$("place-add").onclick = () => addPoint(touched ?? draft.points.length - 1);
$("place-remove").onclick = () => removePoint(touched ?? draft.points.length - 1);
$("frame").ondblclick = (event) => {
  if (!draft || draft.kind !== "zone" || !shownAs) return;
  const place = toShares(pointed(event));
  addPoint(nearestSide(draft.points, place), place);
};
$("place-copy").onclick = async () => {
  try {
    await navigator.clipboard.writeText(`${$("place-text").textContent}\n`);
    announce("Copied");
    show($("place-note"), "Copied.");
  } catch {
    // Not over plain HTTP from elsewhere.
    getSelection().selectAllChildren($("place-text"));
    show($("place-note"), "It is selected: copy it with Ctrl+C.");
  }
};
addEventListener("resize", showHandles);
