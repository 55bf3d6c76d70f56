#!/usr/bin/env python3
"""Measures the running service: cold start, memory, latency, decision to write.

    tests/measure_service.py RESIGHTD MODEL CLIP.mjpeg [SECONDS]

RESIGHTD may be a command with arguments, such as "qemu-aarch64 -cpu cortex-a76 resightd".
Starts it five times until it says READY=1, then lets it run on the repeated clip with a rule
that is always met in pulses, and reads /status and the process's memory. Loopback only.
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


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(command, folder, model, clip):
    """The process, its port and the seconds until READY=1."""
    port = free_port()
    configuration = folder / "c.toml"
    configuration.write_text(CONFIGURATION.format(model=model, clip=clip, port=port))
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


def main():
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
