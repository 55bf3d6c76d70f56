// The live page of resightd. Everything comes by one stream of events and by single pictures; both
// are asked for only while somebody can see them.
"use strict";

const SPAN = 60_000;            // ms that the charts show
const FRAME_PERIOD = 125;       // ms between two pictures, at least
const GLANCE_PERIOD = 1_000;    // ms between two small pictures of a camera
const SILENCE = 6_000;          // ms without a word after which a stream is dead
const EVENTS = 60;              // that are listed
const QUIET = 8_000;            // ms between two announcements of rules

const $ = (id) => document.getElementById(id);
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const wait = (ms) => new Promise((done) => setTimeout(done, ms));

// Whether this browser has a session: a cookie keeps it, and no script sees that.
let session = localStorage.getItem("session") === "yes";
let state = null;               // the last "state"
let online = false;
let paused = false;
let chosen = new URLSearchParams(location.search).get("camera"); // the name of the camera that is shown
let figures = [];               // of the last seconds
let all = new Map();            // the last minute of each camera, by its name
let clock = 0;                  // service's time - performance.now(), ms
let lastFrame = 0;              // performance.now() of the last picture
let picture = null;             // the last picture with what was seen in it
let masks = new Map();          // the last masks of each camera, by its name

// ---- helpers

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

// Only what changes is touched: screen readers and selections keep their place.
function show(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function badge(node, kind, text) {
  node.dataset.kind = kind;
  show(node, text);
}

const percent = (share) => (share === null || share === undefined ? "–" : `${Math.round(share * 100)} %`);

function milliseconds(value) {
  if (!Number.isFinite(value)) return "–";
  return `${value < 10 ? value.toFixed(1) : Math.round(value)}`;
}

function duration(seconds) {
  const s = Math.floor(seconds);
  if (s < 120) return `${s} s`;
  if (s < 7200) return `${Math.floor(s / 60)} min`;
  if (s < 172800) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} days`;
}

function list(words) {
  return words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} and ${words.at(-1)}`;
}

// Makes the children of a list fit its items; each child stays as long as its key does.
function reconcile(parent, items, key, make) {
  const known = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  items.forEach((item, index) => {
    const name = key(item);
    let child = known.get(name);
    if (child) known.delete(name);
    else {
      child = make(item);
      child.dataset.key = name;
    }
    if (parent.children[index] !== child) parent.insertBefore(child, parent.children[index] ?? null);
  });
  known.forEach((child) => child.remove());
}

// Few words at a time: what a screen reader says cannot be taken back.
let announced = -QUIET, held = [], holding = 0;
function announce(text) {
  show($("announcement"), text);
  announced = performance.now();
  if (holding) hold();
}
function announceRule(text) {
  held.push(text);
  if (!holding) hold();
}
function hold() {
  clearTimeout(holding);
  holding = setTimeout(() => {
    holding = 0;
    announce(held.length > 2 ? `${held.at(-1)}, and ${held.length - 1} changes before` : held.join(", "));
    held = [];
  }, Math.max(0, announced + QUIET - performance.now()));
}

function complain(text) {
  $("alert").hidden = !text;
  show($("alert"), text ?? "");
}

// ---- cameras

// The camera that is shown; the only one has no name.
function camera() {
  if (!state.cameras) return { name: null, view: state.view, source: state.source };
  return state.cameras.find(({ name }) => name === chosen) ?? state.cameras[0];
}

const shownRules = () => state.rules.filter((rule) => !state.cameras || rule.camera === camera().name);
const samplesOf = (name) => all.get(name ?? "") ?? [];
const samples = () => samplesOf(camera().name);
const picturePath = (name) => (name === null ? "frame.jpg" : `frame.jpg?camera=${encodeURIComponent(name)}`);

// What was measured of the camera that is shown.
function own(value) {
  const name = camera().name;
  return name === null ? value : (value.camera_figures.find((other) => other.name === name) ?? value);
}

function choose(name) {
  if (name === camera().name) return;
  chosen = name;
  const address = new URL(location.href);
  address.searchParams.set("camera", name);
  history.replaceState(null, "", address);
  picture?.image.close();
  [picture, lastFrame] = [null, 0];
  $("frame").getContext("2d").clearRect(0, 0, $("frame").width, $("frame").height);
  $("top").replaceChildren();
  show($("caption"), "No frame yet.");
  announce(`Camera ${name}`);
  showState(state);
  if (figures.length) showFigures(figures.at(-1));
  wish();
}

function makeCamera({ name }) {
  const button = element(
    "button", { type: "button" },
    element("canvas", { width: 128, height: 96, ariaHidden: "true" }),
    element("span", {}, name),
    element("span", { className: "badge" }),
  );
  button.onclick = () => choose(name);
  return element("li", {}, button);
}

function showCameras() {
  const cameras = state.cameras ?? [];
  $("camera-list").hidden = cameras.length === 0;
  reconcile($("camera-list"), cameras, ({ name }) => name, makeCamera);
  show($("view-title"), cameras.length ? `Camera ${camera().name}` : "Camera");
  cameras.forEach(({ name, source }, index) => {
    const item = $("camera-list").children[index];
    item.querySelector("button").setAttribute("aria-pressed", name === camera().name);
    badge(item.querySelector(".badge"), ...SOURCES[source.state]);
  });
}

function drawSmall(name, image) {
  const item = [...$("camera-list").children].find((child) => child.dataset.key === name);
  const canvas = item?.querySelector("canvas");
  if (!canvas) return;
  canvas.height = Math.round((canvas.width * image.height) / image.width);
  canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
}

// Small pictures of the cameras that are not shown, now and then.
async function glance() {
  for (;;) {
    const others = online && !paused && !gone() ? (state?.cameras ?? []) : [];
    for (const { name, source } of others) {
      if (name === camera().name || source.state !== "streaming") continue;
      try {
        const response = await request(picturePath(name));
        if (!response.ok) continue;
        const image = await createImageBitmap(await response.blob());
        drawSmall(name, image);
        image.close();
      } catch {
        // The stream tells what is wrong.
      }
    }
    await wait(GLANCE_PERIOD);
  }
}

// ---- requests

async function request(path, options = {}) {
  const response = await fetch(path, { ...options, credentials: "same-origin" });
  if (response.status === 401) await login();
  return response;
}

// Shows the token or the password once; afterwards a cookie tells who this is.
async function begin(secret) {
  const response = await fetch("session", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ secret }),
    credentials: "same-origin",
  });
  if (response.ok) return "";
  return response.status === 401 ? "That is not the token or the password of this board." : (await response.text()).trim();
}

function remember(now) {
  session = now;
  if (now) localStorage.setItem("session", "yes");
  else localStorage.removeItem("session");
}

let loggingIn = null;
function login() {
  loggingIn ??= new Promise((done) => {
    remember(false);
    $("main").hidden = true;
    $("login").hidden = false;
    $("forget").hidden = true;
    show($("login-error"), "");
    $("token").value = "";
    $("token").focus();
    $("login-form").onsubmit = async (event) => {
      event.preventDefault();
      $("login-button").disabled = true;
      const error = await begin($("token").value.trim()).catch((error) => `No connection to the service (${error.message}).`);
      $("login-button").disabled = false;
      show($("login-error"), error);
      $("token").value = "";
      if (error) return $("token").focus();
      remember(true);
      $("login").hidden = true;
      loggingIn = null;
      done();
    };
  });
  return loggingIn;
}

$("forget").onclick = async () => {
  remember(false);
  // Without the service its session is gone as well.
  await fetch("session", { method: "DELETE", credentials: "same-origin" }).catch(() => null);
  location.reload();
};

async function change(what) {
  try {
    const response = await request("switches", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(what),
    });
    if (!response.ok) throw new Error((await response.text()).trim());
    complain(null);
    showState({ ...(await response.json()), switches: true });
  } catch (error) {
    complain(`Nothing was switched: ${error.message}`);
  }
}

// ---- the stream

const gone = () => document.hidden;

async function follow() {
  for (let pause = 500; ; pause = Math.min(pause * 2, 5000)) {
    while (gone()) await wait(200);
    const abort = new AbortController();
    const watchdog = setInterval(() => {
      if (gone() || performance.now() - heard > SILENCE) abort.abort();
    }, 500);
    let heard = performance.now();
    try {
      const response = await request("events", { signal: abort.signal });
      if (response.status === 401) {
        pause = 0;
        continue;
      }
      if (!response.ok) throw new Error((await response.text()).trim());
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      freshList = true;
      let rest = "";
      for (;;) {
        const { value, done } = await reader.read();
        if (done) break;
        heard = performance.now();
        const messages = (rest + value).split("\n\n");
        rest = messages.pop();
        messages.forEach(receive);
        connected(true);
        pause = 500;
      }
      connected(false, "it has closed the connection");
    } catch (error) {
      if (!gone()) connected(false, error.name === "AbortError" ? "it is silent" : error.message);
    } finally {
      clearInterval(watchdog);
    }
    await wait(gone() ? 0 : pause);
  }
}

function connected(now, cause) {
  if (now) {
    if (!online) {
      badge($("connection"), "good", "live");
      announce("Connected");
      complain(null);
      $("main").hidden = false;
      $("forget").hidden = !session;
    }
  } else {
    badge($("connection"), "bad", "not connected");
    complain(`No connection to the service (${cause}); trying again. What is shown is old.`);
    if (online) announce("Connection lost");
  }
  online = now;
  document.body.dataset.online = now;
  if (state) showStage();
  showSwitches();
}

function receive(message) {
  const lines = message.split("\n");
  const field = (name) => lines.find((line) => line.startsWith(`${name}: `))?.slice(name.length + 2);
  const [kind, data] = [field("event"), field("data")];
  if (!kind || !data) return;
  const value = JSON.parse(data);
  if (kind === "state") showState(value);
  else if (kind === "figures") showFigures(value);
  else if (kind === "scores") takeScores(value);
  else if (kind === "masks") masks.set(value.camera ?? "", { ...value, layers: value.masks.map(layerOf) });
  else if (kind === "event") takeEvent(value);
  else if (kind === "missed") takeEvent({ event: "missed", count: value.events, wall_ms: Date.now() });
}

// ---- state: source, rules, lines

const SOURCES = {
  opening: ["waiting", "opening"],
  streaming: ["good", "streaming"],
  silent: ["bad", "no frames"],
  lost: ["bad", "lost"],
  ended: ["off", "ended"],
};

const live = () => online && state && camera().source.state === "streaming";

function showState(next) {
  const before = state;
  state = next;
  const source = camera().source.state;
  badge($("source"), ...SOURCES[source]);
  announceSources(before?.cameras ?? (before ? [{ source: before.source }] : []));
  showCameras();
  showRulesToEdit();
  showStage();
  show($("source-name"), camera().source.name);
  show($("model"), next.model);
  show($("kernels"), next.kernels);
  show($("version"), `resightd ${next.version}`);
  $("dry-banner").hidden = !next.dry_run;
  if (before && before.dry_run !== next.dry_run) announce(`Dry run is ${next.dry_run ? "on" : "off"}`);
  if (before && before.rules.map((rule) => rule.name).join() !== next.rules.map((rule) => rule.name).join()) all = new Map();
  showRules(shownRules());
  showLevels($("line-list"), next.lines);
  $("no-lines").hidden = Object.keys(next.lines).length > 0;
  const safe = next.dry_run ? "dry run" : source === "streaming" ? "" : "no frames";
  show($("lines-note"), safe && `at their safe levels: ${safe}`);
  showLevels($("input-list"), next.inputs);
  $("inputs").hidden = Object.keys(next.inputs).length === 0;
  showSwitches();
}

// What has become of each source since.
function announceSources(before) {
  for (const { name, source } of state.cameras ?? [{ source: state.source }]) {
    const old = before.find((other) => other.name === name);
    if (old && old.source.state !== source.state) announce(`Camera${name ? ` ${name}` : ""}: ${SOURCES[source.state][1]}`);
  }
}

function showSwitches() {
  if (!state) return;
  const may = online && state.switches;
  $("dry").setAttribute("aria-checked", state.dry_run);
  $("dry").disabled = !may || state.dry_run_configured;
  show($("dry-note"), state.dry_run_configured ? "set in the configuration" : "");
  $("readonly").hidden = state.switches;
  for (const item of $("rule-list").children) item.querySelector("button").disabled = !may;
}

$("dry").onclick = () => change({ dry_run: !state.dry_run });

function ruleText(rule) {
  const more = rule.class_count - rule.classes.length;
  const classes = rule.classes.slice(0, 4);
  if (more > 0 || rule.classes.length > 4) classes.push(`${rule.class_count - 4} more`);
  const frames = rule.frames > 1 ? ` in ${rule.hits} of ${rule.frames} frames` : "";
  const mode = rule.mode === "pulse" ? `pulse of ${rule.pulse_ms} ms` : rule.mode;
  const where = placeText(rule.place);
  const lines = rule.lines.length ? ` → ${list(rule.lines)}` : ", no line";
  return `${list(classes)} ≥ ${percent(rule.threshold)}${where}${frames} · ${mode}${lines}`;
}

const WAYS = { up: " upwards", down: " downwards", left: " to the left", right: " to the right" };

function placeText(place) {
  if (!place) return "";
  const parts = [];
  if (place.count) parts.push(`${place.count} of them`);
  if (place.zone) parts.push("in its zone");
  if (place.dwell_s) parts.push(`for ${place.dwell_s} s`);
  if (place.crossing) parts.push(`across its line${WAYS[place.direction] ?? ""}`);
  return parts.length ? `, ${parts.join(" ")}` : "";
}

function countText(counted) {
  const counts = Object.entries(counted ?? {}).sort((a, b) => b[1] - a[1]);
  if (!counts.length) return "";
  const sum = counts.reduce((total, [, count]) => total + count, 0);
  const shown = counts.slice(0, 6).map(([name, count]) => `${name} ${count}`).join(", ");
  return `counted ${sum}: ${shown}${counts.length > 6 ? ", …" : ""}`;
}

function waitText(rule, hits) {
  const causes = {
    switch: () => "disarmed here",
    input: () => `waits for the input ${rule.armed_by}`,
    hours: () => "waits for its hours",
    frames: () => "waits for frames",
    cooldown: () => `cools down, ${duration(Math.max(0, rule.ready_at_ms - now()) / 1000 + 1)} left`,
    hits: () => (rule.hits > 1 ? `waits for hits: ${hits} of ${rule.hits}` : `waits for a frame above ${percent(rule.threshold)}`),
  };
  return rule.waits_for.map((cause) => causes[cause]?.() ?? cause).join("; ");
}

function makeRule(rule) {
  const button = element("button", { type: "button" });
  // The rule as it is when pressed.
  button.onclick = () => {
    const current = state.rules.find((other) => other.name === rule.name);
    if (current) change({ rule: rule.name, armed: current.switched_off });
  };
  const chart = element("canvas", { className: "chart", role: "img", ariaLabel: `Score of ${rule.name}` });
  return element(
    "li", {},
    element("div", { className: "rule-name" }, element("span", {}, rule.name), element("span", { className: "badge" })),
    button,
    element("p", { className: "rule-text" }),
    element("p", { className: "rule-count" }),
    element("div", { className: "rule-chart" }, chart, element("span", { className: "score" }, "–")),
    element("p", { className: "rule-wait" }),
  );
}

function showRules(rules) {
  reconcile($("rule-list"), rules, (rule) => rule.name, makeRule);
  $("no-rules").hidden = rules.length > 0;
  rules.forEach((rule, index) => {
    const item = $("rule-list").children[index];
    const kind = rule.active ? ["on", "active"] : rule.armed ? ["", "armed"] : ["off", "disarmed"];
    badge(item.querySelector(".badge"), ...kind);
    const button = item.querySelector("button");
    show(button, rule.switched_off ? "Arm" : "Disarm");
    button.setAttribute("aria-label", `${button.textContent} the rule ${rule.name}`);
    show(item.querySelector(".rule-text"), ruleText(rule));
    show(item.querySelector(".rule-count"), countText(rule.counted));
  });
  showScores();
}

function showLevels(parent, levels) {
  const items = Object.entries(levels);
  reconcile(parent, items, ([name]) => name, ([name]) =>
    element("li", {}, element("span", {}, name), element("span", { className: "badge" })));
  items.forEach(([, level], index) => {
    const item = parent.children[index];
    item.toggleAttribute("data-on", level === true);
    const [kind, text] = level === null ? ["bad", "unknown"] : level ? ["on", "active"] : ["", "inactive"];
    badge(item.querySelector(".badge"), kind, text);
  });
}

// ---- figures

function showFigures(value) {
  const time = value.uptime_s;
  // Started again.
  if (figures.length && time < figures.at(-1).uptime_s) [figures, all] = [[], new Map()];
  const offset = time * 1000 - performance.now();
  clock = figures.length ? Math.max(clock, offset) : offset;
  figures = [...figures.filter((old) => old.uptime_s > time - 4 && old !== value), value];
  if (!state) return;
  const [first, seen] = [figures[0], own(value)];
  const rate = (seen.inferences - own(first).inferences) / (time - first.uptime_s);
  show($("rate"), Number.isFinite(rate) ? `${rate.toFixed(1)} /s` : "–");
  const { latency, inference } = seen;
  show($("latency"), `${milliseconds(latency.p95_ms)} ms`);
  show($("latencies"), [latency.p50_ms, latency.p99_ms, latency.max_ms].map(milliseconds).join(" · ") + " ms");
  show($("inference"), [inference.p50_ms, inference.p99_ms].map(milliseconds).join(" · ") + " ms");
  const celsius = value.temperature_c;
  show($("temperature"), celsius === null ? "no sensor" : `${celsius.toFixed(1)} °C`);
  const count = (number) => number.toLocaleString("en");
  show($("frames"), `${count(seen.frames)}, ${count(seen.dropped)} dropped, ${count(seen.corrupt)} corrupt`);
  show($("uptime"), duration(time));
  // Cooldowns count down.
  showScores();
}

// ---- scores

const now = () => performance.now() + clock;

function takeScores(batch) {
  for (const sample of batch) {
    const name = sample.camera ?? "";
    if (!all.has(name)) all.set(name, []);
    all.get(name).push(sample);
  }
  const first = batch.at(-1).at_ms - SPAN - 2000;
  for (const kept of all.values()) {
    const young = kept.findIndex((sample) => sample.at_ms >= first);
    kept.splice(0, young < 0 ? kept.length : young);
  }
  showScores();
  wish();
}

function showScores() {
  const last = samples().at(-1);
  shownRules().forEach((rule, index) => {
    const item = $("rule-list").children[index];
    const [score, hits] = last?.rules[index] ?? [null, 0];
    show(item.querySelector(".score"), rule.armed && live() ? percent(score) : "–");
    show(item.querySelector(".rule-wait"), rule.active ? "" : waitText(rule, hits));
  });
}

// ---- charts

let wished = 0, drawn = 0;
function wish() {
  if (wished || paused || gone()) return;
  const least = calm.matches ? 1000 : 0;
  wished = setTimeout(() => requestAnimationFrame(() => {
    [wished, drawn] = [0, performance.now()];
    draw();
  }), Math.max(0, drawn + least - performance.now()));
}

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

// A cleared context in CSS pixels.
function context(canvas) {
  const scale = devicePixelRatio || 1;
  const { width, height } = canvas.getBoundingClientRect();
  const [columns, rows] = [Math.round(width * scale), Math.round(height * scale)];
  if (canvas.width !== columns) canvas.width = columns;
  if (canvas.height !== rows) canvas.height = rows;
  const pen = canvas.getContext("2d");
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  pen.clearRect(0, 0, width, height);
  return [pen, width, height];
}

// Frames further apart than this are not joined: none came, or the rule was disarmed.
function gap() {
  const recent = samples().slice(-40);
  if (recent.length < 3) return 2000;
  const steps = recent.slice(1).map((sample, index) => sample.at_ms - recent[index].at_ms).sort((a, b) => a - b);
  return Math.max(500, 4 * steps[steps.length >> 1]);
}

// Calls `run` with each unbroken run of points [x, y, sample].
function runs(value, x, y, run) {
  const most = gap();
  let points = [], before = null;
  const end = () => {
    if (points.length) run(points);
    points = [];
  };
  for (const sample of samples()) {
    const found = value(sample);
    if (found === null || found === undefined || (before !== null && sample.at_ms - before > most)) end();
    if (found !== null && found !== undefined) points.push([x(sample.at_ms), y(found), sample]);
    before = sample.at_ms;
  }
  end();
}

function area(pen, points, bottom, fill, stroke) {
  const line = new Path2D();
  points.forEach(([x, y], index) => (index ? line.lineTo(x, y) : line.moveTo(x, y)));
  const below = new Path2D(line);
  below.lineTo(points.at(-1)[0], bottom);
  below.lineTo(points[0][0], bottom);
  pen.fillStyle = fill;
  pen.fill(below);
  pen.strokeStyle = stroke;
  pen.lineWidth = 1.5;
  pen.stroke(line);
}

function drawHistory(until) {
  const canvas = $("history");
  const [pen, width, height] = context(canvas);
  const head = 17;
  const x = (at) => width * (1 - (until - at) / SPAN);
  const y = (share) => head + (height - head - 2) * (1 - share);
  pen.font = "12px system-ui, sans-serif";
  pen.textBaseline = "top";
  pen.strokeStyle = colour("edge");
  pen.lineWidth = 1;
  for (const share of [0, 1]) {
    pen.beginPath();
    pen.moveTo(0, y(share) + 0.5);
    pen.lineTo(width, y(share) + 0.5);
    pen.stroke();
  }
  const [line, soft, other, text] = ["chart", "chart-soft", "chart-other", "text"].map(colour);
  let shade = 0, free = 0;
  runs((sample) => sample.top[0]?.[1], x, y, (points) => {
    // One area for each time that a class is the likeliest.
    for (let from = 0; from < points.length;) {
      const name = points[from][2].top[0][0];
      let to = from + 1;
      while (to < points.length && points[to][2].top[0][0] === name) to += 1;
      const part = points.slice(from, Math.min(to + 1, points.length));
      shade = 1 - shade;
      area(pen, part, y(0), shade ? soft : other, line);
      const [left, right] = [Math.max(part[0][0], 0), part.at(-1)[0]];
      const room = right - left;
      if (room > 14 && left >= free && pen.measureText(name).width <= room + 12) {
        pen.fillStyle = text;
        pen.fillText(name, left + 2, 1);
        free = left + 2 + pen.measureText(name).width + 4;
      }
      from = to;
    }
  });
}

function drawRule(canvas, rule, index, until) {
  const [pen, width, height] = context(canvas);
  const bar = 4;
  const x = (at) => width * (1 - (until - at) / SPAN);
  const y = (share) => 1 + (height - bar - 4) * (1 - share);
  const [line, soft, edge, on, muted] = ["chart", "chart-soft", "edge", "on", "muted"].map(colour);
  pen.strokeStyle = edge;
  pen.lineWidth = 1;
  pen.beginPath();
  pen.moveTo(0, y(0) + 0.5);
  pen.lineTo(width, y(0) + 0.5);
  pen.stroke();
  runs((sample) => sample.rules[index]?.[0], x, y, (points) => area(pen, points, y(0), soft, line));
  pen.strokeStyle = muted;
  pen.lineWidth = 1;
  pen.setLineDash([4, 3]);
  pen.beginPath();
  pen.moveTo(0, y(rule.threshold));
  pen.lineTo(width, y(rule.threshold));
  pen.stroke();
  pen.setLineDash([]);
  // When it was active.
  pen.fillStyle = on;
  runs((sample) => (sample.rules[index]?.[2] ? 1 : null), x, y, (points) => {
    pen.fillRect(points[0][0], height - bar, Math.max(2, points.at(-1)[0] - points[0][0]), bar);
  });
}

let described = 0;
function draw() {
  if (!state || $("main").hidden) return;
  const until = now();
  drawHistory(until);
  const describe = performance.now() - described > 3000;
  if (describe) described = performance.now();
  shownRules().forEach((rule, index) => {
    const canvas = $("rule-list").children[index].querySelector("canvas");
    drawRule(canvas, rule, index, until);
    if (!describe) return;
    const scores = samples().map((sample) => sample.rules[index]?.[0] ?? 0);
    const most = scores.reduce((a, b) => Math.max(a, b), 0);
    canvas.setAttribute("aria-label", `Score of ${rule.name} over the last minute, at most ${percent(most)}, threshold ${percent(rule.threshold)}`);
  });
  const best = samples().at(-1)?.top[0];
  if (describe && best) {
    $("history").setAttribute("aria-label", `Likeliest class over the last minute, now ${best[0]} with ${percent(best[1])}`);
  }
  // Time goes on without frames too.
  if (!live()) setTimeout(wish, 1000);
}

// ---- the picture

// The part of a frame that the network sees, in pixels: the region, and of that the centre.
function seen(view, width, height) {
  const [left, top, w, h] = view.region;
  const region = [left * width, top * height, w * width, h * height];
  // Height and width of the crop, on the frame before it is turned.
  // Only `crop`, the default, leaves anything of the region out.
  if (view.fit && view.fit !== "crop") return { region, inner: region };
  const [rows, columns] = view.crop;
  const scale = Math.min(region[2], region[3]) / view.resize_shorter;
  const sideways = view.rotate % 180 !== 0;
  const crop = [(sideways ? rows : columns) * scale, (sideways ? columns : rows) * scale];
  const inner = [region[0] + (region[2] - crop[0]) / 2, region[1] + (region[3] - crop[1]) / 2, ...crop];
  return { region, inner };
}

// Each part of a frame that the network sees: its name if there are several, and what of it.
function parts(view, width, height) {
  const areas = view.regions?.length ? view.regions : [{ area: view.region }];
  return areas.map(({ name, area }) => ({ name, inner: seen({ ...view, region: area }, width, height).inner }));
}

// How far each place is from what is typical, in thresholds: red where it is far, and a frame around the
// farthest if that is an anomaly.
function drawAnomalies(pen, image, unit) {
  const within = ([left, top, width, height]) => [left * image.width, top * image.height, width * image.width, height * image.height];
  for (const { map, size: [rows, columns], covers, area, probability } of (figures.length && own(figures.at(-1)).anomalies) || []) {
    const [left, top, width, height] = within(covers);
    const [wide, high] = [width / columns, height / rows];
    map.forEach((far, index) => {
      const strength = Math.min(1, Math.max(0, far - 0.7));
      if (!strength) return;
      pen.fillStyle = `rgb(255 40 0 / ${(strength * 0.6).toFixed(2)})`;
      pen.fillRect(left + (index % columns) * wide, top + Math.floor(index / columns) * high, wide, high);
    });
    if (probability < 0.5) continue;
    pen.lineWidth = 3 * unit;
    pen.strokeStyle = "#ff2800";
    pen.strokeRect(...within(area));
  }
}

function drawPicture() {
  if (!picture || !state) return;
  const { image, top, frame } = picture;
  const canvas = $("frame");
  const view = camera().view;
  const sideways = view.rotate % 180 !== 0;
  const [width, height] = sideways ? [image.height, image.width] : [image.width, image.height];
  if (canvas.width !== width) canvas.width = width;
  if (canvas.height !== height) canvas.height = height;
  const pen = canvas.getContext("2d");
  pen.setTransform(view.mirror ? -1 : 1, 0, 0, 1, width / 2, height / 2);
  pen.rotate((view.rotate * Math.PI) / 180);
  pen.translate(-image.width / 2, -image.height / 2);
  pen.drawImage(image, 0, 0);
  const seenParts = parts(view, image.width, image.height);
  // What the network does not see is darker, and there is a line between.
  pen.fillStyle = "rgb(0 0 0 / .45)";
  pen.beginPath();
  pen.rect(0, 0, image.width, image.height);
  for (const { inner } of seenParts) pen.rect(...inner);
  pen.fill("evenodd");
  const unit = width / 640;
  drawAnomalies(pen, image, unit);
  drawMasks(pen, image);
  const turned = pen.getTransform();
  for (const { name, inner } of seenParts) {
    pen.setTransform(turned);
    const edge = [inner[0] + unit, inner[1] + unit, inner[2] - 2 * unit, inner[3] - 2 * unit];
    pen.lineWidth = 2 * unit;
    pen.strokeStyle = "rgb(0 0 0 / .7)";
    pen.strokeRect(...edge);
    pen.setLineDash([8 * unit, 6 * unit]);
    pen.strokeStyle = "#fff";
    pen.strokeRect(...edge);
    pen.setLineDash([]);
    const corners = [[inner[0], inner[1]], [inner[0] + inner[2], inner[1] + inner[3]]].map(([x, y]) => turned.transformPoint({ x, y }));
    const [left, upper] = [Math.min(...corners.map(({ x }) => x)), Math.min(...corners.map(({ y }) => y))];
    pen.setTransform(1, 0, 0, 1, 0, 0);
    const region = name && figures.length && own(figures.at(-1)).regions?.find((other) => other.name === name);
    let label = null;
    if (name) label = region ? `${name}: ${region.label ?? region.class}  ${percent(region.probability)}` : name;
    else if (top.length) label = `${top[0][0]}  ${percent(top[0][1])}`;
    if (!label) continue;
    pen.font = `600 ${(name ? 16 : 22) * unit}px system-ui, sans-serif`;
    pen.textBaseline = "middle";
    const box = [left + 10 * unit, upper + 10 * unit, pen.measureText(label).width + 20 * unit, 36 * unit];
    pen.fillStyle = "rgb(0 0 0 / .78)";
    pen.fillRect(...box);
    pen.fillStyle = "#fff";
    pen.fillText(label, box[0] + 10 * unit, box[1] + 18.5 * unit);
  }
  drawPlaces(pen, turned, image, unit);
  const seen = samples().findLast((sample) => sample.frame <= frame) ?? {};
  drawBoxes(pen, turned, image, seen.boxes ?? [], unit);
  drawPoints(pen, turned, image, seen.points ?? [], seen.lines, unit);
}

// A mask as a picture of its own: each class in its colour, and what is black not at all.
function layerOf({ size: [rows, columns], classes, runs }) {
  const layer = new OffscreenCanvas(columns, rows);
  const pen = layer.getContext("2d");
  const pixels = pen.createImageData(columns, rows);
  let at = 0;
  for (const [index, length] of runs) {
    const [, red, green, blue] = classes[index];
    const strength = red || green || blue ? 130 : 0;
    for (const end = at + length; at < end; at += 1) pixels.data.set([red, green, blue, strength], 4 * at);
  }
  pen.putImageData(pixels, 0, 0);
  return layer;
}

// What each place belongs to, of a network that says so, with the names of its classes.
function drawMasks(pen, image) {
  const found = masks.get(camera().name ?? "");
  found?.masks.forEach(({ covers: [left, top, width, height] }, index) => {
    pen.drawImage(found.layers[index], left * image.width, top * image.height, width * image.width, height * image.height);
  });
}

// What was found in the frame, or in the last one before it: the likeliest box is drawn last.
function drawBoxes(pen, turned, image, boxes, unit) {
  pen.font = `600 ${14 * unit}px system-ui, sans-serif`;
  pen.textBaseline = "middle";
  for (const [name, score, left, top, right, bottom, track] of boxes.toReversed()) {
    const corners = [[left, top], [right, bottom]].map(([x, y]) => turned.transformPoint({ x: x * image.width, y: y * image.height }));
    const [xs, ys] = [corners.map(({ x }) => x), corners.map(({ y }) => y)];
    const [x, y] = [Math.min(...xs), Math.min(...ys)];
    const edge = [x, y, Math.max(...xs) - x, Math.max(...ys) - y];
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.lineWidth = 4 * unit;
    pen.strokeStyle = "rgb(0 0 0 / .7)";
    pen.strokeRect(...edge);
    pen.lineWidth = 2 * unit;
    pen.strokeStyle = "#ffd24a";
    pen.strokeRect(...edge);
    const label = `${track ? `#${track} ` : ""}${name}  ${percent(score)}`;
    const height = 22 * unit;
    const above = Math.max(0, y - height);
    pen.fillStyle = "rgb(0 0 0 / .78)";
    pen.fillRect(x, above, pen.measureText(label).width + 12 * unit, height);
    pen.fillStyle = "#fff";
    pen.fillText(label, x + 6 * unit, above + height / 2);
  }
}

// Where each point is, of a network that says so: the less sure of it, the fainter. A name stands at each that is likelier
// than not, or lines join those of one thing where the network tells things apart.
function drawPoints(pen, turned, image, points, lines, unit) {
  pen.setTransform(1, 0, 0, 1, 0, 0);
  pen.font = `600 ${13 * unit}px system-ui, sans-serif`;
  pen.textBaseline = "middle";
  const place = ([, , left, top]) => turned.transformPoint({ x: left * image.width, y: top * image.height });
  for (const [colour, width] of [["rgb(0 0 0 / .8)", 5], ["#ffd24a", 2.5]]) {
    pen.strokeStyle = colour;
    pen.lineWidth = width * unit;
    for (const [from, to] of lines ?? []) {
      const [a, b] = [points[from], points[to]].map(place);
      pen.beginPath();
      pen.moveTo(a.x, a.y);
      pen.lineTo(b.x, b.y);
      pen.stroke();
    }
  }
  for (const point of points) {
    const [name, score] = point;
    const { x, y } = place(point);
    pen.globalAlpha = Math.max(0.15, score);
    pen.beginPath();
    pen.arc(x, y, 5 * unit, 0, 2 * Math.PI);
    pen.fillStyle = "#ffd24a";
    pen.fill();
    pen.lineWidth = 2 * unit;
    pen.strokeStyle = "rgb(0 0 0 / .8)";
    pen.stroke();
    pen.globalAlpha = 1;
    if (lines || score < 0.5) continue;
    pen.lineWidth = 4 * unit;
    pen.strokeStyle = "rgb(0 0 0 / .78)";
    pen.strokeText(name, x + 9 * unit, y);
    pen.fillStyle = "#fff";
    pen.fillText(name, x + 9 * unit, y);
  }
}

let labelled = 0;
function showPicture() {
  const { image, top, frame } = picture;
  drawPicture();
  const { view } = camera();
  const [{ inner }, ...more] = parts(view, image.width, image.height);
  const size = (w, h) => `${Math.round(w)} × ${Math.round(h)}`;
  const what = more.length ? `${more.length + 1} regions, each` : `${size(inner[2], inner[3])}`;
  const cost = figures.length && own(figures.at(-1)).regions?.reduce((sum, { inference_ms }) => sum + inference_ms, 0);
  const tiles = view.tiles ? `, in ${view.tiles.join(" × ")} tiles` : "";
  const costs = cost ? ` All together cost ${cost.toFixed(1)} ms.` : "";
  show($("caption"), `Frame ${frame}, ${size(image.width, image.height)}. The network sees the ${what} within the dashed line${tiles}.${costs}`);
  // By rank: names of classes need not be unique.
  reconcile($("top"), top.map((_, rank) => rank), String, () =>
    element("li", {}, element("span"), element("div", { className: "bar", ariaHidden: "true" }, element("span")), element("span", { className: "percent" })));
  top.forEach(([name, share], index) => {
    const item = $("top").children[index];
    show(item.firstChild, name);
    item.querySelector(".bar span").style.width = `${share * 100}%`;
    show(item.querySelector(".percent"), percent(share));
  });
  if (performance.now() - labelled > 3000) {
    labelled = performance.now();
    $("frame").setAttribute("aria-label", `Frame ${frame}: ${top.slice(0, 2).map(([name, share]) => `${name} ${percent(share)}`).join(", ")}`);
  }
}

function showStage() {
  const source = state && camera().source;
  const since = lastFrame ? ` The picture is ${duration((performance.now() - lastFrame) / 1000)} old.` : "";
  const texts = {
    opening: "The source is being opened.",
    silent: `No frames come.${since}`,
    lost: `${source?.error ?? "The source is lost"}.${since} It is tried again and again.`,
    ended: `The frames are at their end.${since}`,
  };
  const text = !online || !source ? `No connection.${since}` : texts[source.state];
  $("stage-note").hidden = !text;
  show($("stage-note"), text ?? "");
}

async function look() {
  for (;;) {
    const begun = performance.now();
    let pause = calm.matches ? 1000 : FRAME_PERIOD;
    if (paused || gone() || !live()) {
      if (state) showStage();
      await wait(250);
      continue;
    }
    try {
      const name = camera().name;
      const response = await request(picturePath(name));
      // Another one may have been chosen meanwhile.
      if (response.ok && camera().name === name) {
        const { frame, top } = JSON.parse(response.headers.get("Resight-Frame"));
        const image = await createImageBitmap(await response.blob());
        picture?.image.close();
        picture = { image, frame, top };
        lastFrame = performance.now();
        if (name !== null) drawSmall(name, image);
        if (!paused) showPicture();
      } else if (!response.ok) pause = 1000;
    } catch {
      // The stream tells what is wrong.
      pause = 1000;
    }
    await wait(Math.max(20, pause - (performance.now() - begun)));
  }
}

$("pause").onclick = () => {
  paused = !paused;
  show($("pause"), paused ? "Resume" : "Pause");
  wish();
};

// ---- events

let freshList = true;             // what comes next begins the list anew

function eventText(event) {
  const thing = event.track ? `#${event.track} ` : "";
  const score = event.score === undefined ? "" : `${thing}${event.name ?? event.class} ${percent(event.score)}, frame ${event.frame}, ${milliseconds(event.latency_ms)} ms after it came`;
  switch (event.event) {
    case "active": return ["on", `${event.rule} active${event.dry_run ? " (dry run)" : ""}`, score];
    case "inactive": return ["", `${event.rule} inactive${event.dry_run ? " (dry run)" : ""}`, ""];
    case "stale": return ["bad", "No frames", "lines are at their safe levels"];
    case "recovered": return ["", "Frames come again", ""];
    case "dry_run": return ["off", "Dry run", "lines stay at their safe levels"];
    case "dry_run_over": return ["off", "Dry run is over", "rules drive their lines"];
    case "armed": return ["off", `${event.rule} armed`, ""];
    case "disarmed": return ["off", `${event.rule} disarmed`, "its lines let go"];
    case "missed": return ["bad", `${event.count} events were missed`, "this browser was too slow"];
    default: return ["", event.event, ""];
  }
}

const clockTime = new Intl.DateTimeFormat(undefined, { timeStyle: "medium", hourCycle: "h23" });

function takeEvent(event) {
  // A new stream begins with those that were kept.
  if (freshList) $("event-list").replaceChildren();
  freshList = false;
  $("no-events").hidden = true;
  const [kind, plain, detail] = eventText(event);
  const what = event.camera ? `${event.camera}: ${plain}` : plain;
  const time = new Date(event.wall_ms);
  const item = element(
    "li", {},
    element("time", { dateTime: time.toISOString() }, clockTime.format(time)),
    element("div", {}, element("span", { className: "what" }, what), detail ? " " : "", element("span", { className: "detail" }, detail)),
  );
  item.dataset.kind = kind;
  $("event-list").prepend(item);
  while ($("event-list").children.length > EVENTS) $("event-list").lastChild.remove();
  const fresh = Date.now() - event.wall_ms < 5000;
  if (event.event === "active" && fresh) announceRule(what);
}

// ---- start

matchMedia("(prefers-color-scheme: dark)").onchange = wish;
addEventListener("resize", wish);
document.onvisibilitychange = wish;
show($("host"), location.host);
document.title = `resight · ${location.host}`;
// When all scripts are there.
addEventListener("DOMContentLoaded", () => {
  follow();
  look();
  glance();
});
