#!/usr/bin/env python3
"""Measures the running service: cold start, memory, latency, decision to write.

    tests/measure_service.py RESIGHTD MODEL CLIP.mjpeg [SECONDS]
    tests/measure_service.py --still RESIGHTD MODEL [SECONDS]
    tests/measure_service.py --cameras RESIGHTD MODEL CLIP.mjpeg [SECONDS]

RESIGHTD may be a command with arguments, such as "qemu-aarch64 -cpu cortex-a76 resightd".
Starts it five times until it says READY=1, then lets it run on the repeated clip with a rule
that is always met in pulses, and reads /status and the process's memory. Loopback only.

`--still` measures what a still scene costs with `on_change`: the processor's seconds of the whole process
for a frame of 640 x 480 pixels with noise, with it and without, and what that is at 10 frames a second, of
which one in each 5 s is classified all the same. Each frame waits for the one before, so that nothing else
that the machine does counts. `--cameras` measures what
further cameras take: memory with one, two and three of them on the clip, and the share of inferences that
each of three gets.
"""
import json
import os
import pathlib
import re
import shlex
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

CONFIGURATION = """
[model]
file = "{model}"
threads = 1
[source]
kind = "mjpeg"
path = "{clip}"
repeat = true
[[line]]
name = "lamp"
backend = "virtual"
[[rule]]
name = "any"
classes = ["*"]
threshold = 0.01
mode = "pulse"
pulse_ms = 100
lines = ["lamp"]
[output]
events = false
http = "127.0.0.1:{port}"
"""


STILL = """
[model]
file = "{model}"
threads = 1
[source]
kind = "raw"
path = "{frames}"
format = "i420"
width = 640
height = 480
repeat = true
[pace]
on_change = {on_change}
[output]
events = false
http = "127.0.0.1:{port}"
"""

CAMERA = """
[[camera]]
name = "camera-{number}"
[camera.source]
kind = "mjpeg"
path = "{clip}"
repeat = true
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(command, folder, model, clip):
    """The process, its port and the seconds until READY=1."""
    port = free_port()
    return run(command, folder, CONFIGURATION.format(model=model, clip=clip, port=port), port)


def run(command, folder, text, port):
    """The process with this configuration, its port and the seconds until READY=1."""
    configuration = folder / "c.toml"
    configuration.write_text(text)
    path = folder / "notify"
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(path))
        notify.settimeout(120)
        begin = time.perf_counter()
        process = subprocess.Popen(
            [*command, "run", str(configuration)],
            env={**os.environ, "NOTIFY_SOCKET": str(path)},
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        while "READY=1" not in notify.recv(4096).decode():
            pass
        return process, port, time.perf_counter() - begin


def stop(process):
    process.terminate()
    assert process.wait(timeout=60) == 0


def memory(process, key):
    text = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(rf"{key}:\s+(\d+) kB", text)[1]) * 1024 / 1e6


def processor(process):
    """Seconds that its threads have computed."""
    fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def ask(port):
    return json.load(urllib.request.urlopen(f"http://127.0.0.1:{port}/status"))


def write_still(path):
    """Frames of stripes on a gradient, each with other noise of a few grey levels, as a sensor's is."""
    scene = bytes(60 + x // 8 + (30 if (x // 40 + y // 40) % 2 else 0) for y in range(480) for x in range(640))
    with path.open("wb") as file:
        for _ in range(16):
            noise = os.urandom(2 * len(scene))
            pairs = zip(scene, noise[::2], noise[1::2])
            file.write(bytes(grey + (one & 3) + (other & 3) for grey, one, other in pairs))
            file.write(bytes([128]) * (len(scene) // 2))


def still(command, model, seconds):
    costs = {}
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        frames = folder / "frames"
        write_still(frames)
        for on_change in ("false", "true"):
            port = free_port()
            text = STILL.format(model=model, frames=frames, on_change=on_change, port=port)
            process, port, _ = run(command, folder, text, port)
            # It learns the noise first.
            time.sleep(3)
            before, spent = ask(port), processor(process)
            time.sleep(seconds)
            after, spent = ask(port), processor(process) - spent
            stop(process)
            count = lambda status: status["inferences"] + status.get("unchanged", 0)
            looked = count(after) - count(before)
            classified = after["inferences"] - before["inferences"]
            # Those that are classified all the same come by the clock, however many frames there are.
            unchanged = looked - classified
            costs[on_change] = (spent - classified * costs["false"]) / unchanged if costs else spent / looked
            print(
                f"on_change = {on_change:6} {spent / looked * 1e3:8.2f} ms of processor time for each of {looked} "
                f"frames, {classified} classified"
            )
    share = costs["true"] / costs["false"]
    print(f"one that shows nothing new costs {share:.1%} of that, a still scene {share + 1 / 50:.1%} at 10 frames a second")


def cameras(command, model, clip, seconds):
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        resident = []
        for count in (1, 2, 3):
            port = free_port()
            all_cameras = "".join(CAMERA.format(number=number, clip=clip) for number in range(1, count + 1))
            text = f'[model]\nfile = "{model}"\nthreads = 1\n{all_cameras}'
            text += f'[output]\nevents = false\nhttp = "127.0.0.1:{port}"\n'
            process, port, _ = run(command, folder, text, port)
            time.sleep(seconds)
            status = ask(port)
            resident.append(memory(process, "VmRSS"))
            stop(process)
    more = [after - before for before, after in zip(resident, resident[1:])]
    print(f"memory, MB               {resident[0]:8.1f} with one camera, {more[0]:.1f} more with a second, {more[1]:.1f} with a third")
    shares = [camera["inferences"] for camera in status["camera_figures"]]
    print(f"inferences of three      {', '.join(map(str, shares))}: {max(shares) / min(shares) - 1:.1%} apart")


def main():
    if len(sys.argv) in (4, 5) and sys.argv[1] == "--still":
        seconds = float(sys.argv[4]) if len(sys.argv) == 5 else 30
        return still(shlex.split(sys.argv[2]), os.path.abspath(sys.argv[3]), seconds)
    if len(sys.argv) in (5, 6) and sys.argv[1] == "--cameras":
        seconds = float(sys.argv[5]) if len(sys.argv) == 6 else 10
        return cameras(shlex.split(sys.argv[2]), *map(os.path.abspath, sys.argv[3:5]), seconds)
    if len(sys.argv) not in (4, 5):
        sys.exit(__doc__)
    command, model, clip = shlex.split(sys.argv[1]), *map(os.path.abspath, sys.argv[2:4])
    seconds = float(sys.argv[4]) if len(sys.argv) == 5 else 10
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        starts = []
        for _ in range(5):
            process, _, took = start(command, folder, model, clip)
            starts.append(took)
            stop(process)
        process, port, _ = start(command, folder, model, clip)
        time.sleep(seconds)
        status = json.load(urllib.request.urlopen(f"http://127.0.0.1:{port}/status"))
        resident, peak = memory(process, "VmRSS"), memory(process, "VmHWM")
        stop(process)
    starts.sort()
    print(f"cold start to READY      {starts[2] * 1e3:8.1f} ms median of 5, {starts[-1] * 1e3:.1f} ms longest")
    print(f"memory, MB               {resident:8.1f} resident, {peak:.1f} at most")
    for key, label in (
        ("inference", "preprocessing + network"),
        ("latency", "frame to lines"),
        ("line_write", "decision to write"),
    ):
        times = status[key]
        print(
            f"{label:24} {times['p50_ms']:8.3f} ms p50, {times['p95_ms']:.3f} p95, {times['p99_ms']:.3f} p99, "
            f"{times['max_ms']:.3f} max of {times['count']}"
        )
    print(f"inferences               {status['inferences']:8d} in {status['uptime_s']:.1f} s, {status['kernels']}")


if __name__ == "__main__":
    main()
