#!/usr/bin/env python3
"""Boots the emulated boards, collects what their scenarios report and prints a summary.

Called by tests/board/run, which says how. Talks to a guest over its console: lines that start
with `@board` are reports, and questions that only the machine outside can answer, such as the
level of a pin in QEMU's registers.
"""

import argparse
import base64
import gzip
import json
import os
import re
import resource
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent


@dataclass
class Board:
    """A machine, its kernel and the list of scenarios it runs."""

    name: str
    machine: list
    kernel: str
    scenarios: str
    arguments: str = ""
    init: str = ""
    # In which it must end. Scenarios that hang are ended inside; this is for a board that does,
    # and long, because this machine may be busy.
    seconds: int = 1800
    # Where QEMU keeps the levels of the GPIO lines.
    levels: int = 0
    # QEMU does not end with these machines' power off.
    ends_itself: bool = True
    smp: int = 2


BOARDS = [
    Board("a76", ["virt", "-cpu", "cortex-a76", "-m", "1024"], "kernel", "main"),
    Board("a76-faults", ["virt", "-cpu", "cortex-a76", "-m", "1024"], "kernel", "failures"),
    Board("a72", ["virt", "-cpu", "cortex-a72", "-m", "1024"], "kernel", "short"),
    Board("debian12", ["virt", "-cpu", "cortex-a72", "-m", "768"], "kernel-old", "debian12",
          init="/opt/board/init", seconds=600, levels=0x090303FC),
    Board("pi4", ["raspi4b", "-dtb", "{cache}/pi4.dtb"], "kernel", "pi", init="/opt/board/init",
          arguments="iomem=relaxed", seconds=600, levels=0xFE200034, ends_itself=False, smp=4),
    Board("pi3", ["raspi3b", "-dtb", "{cache}/pi3.dtb"], "kernel", "pi", init="/opt/board/init",
          arguments="iomem=relaxed", seconds=600, levels=0x3F200034, ends_itself=False, smp=4),
]


@dataclass
class Result:
    board: str
    scenario: str
    verdict: str
    seconds: float = 0.0
    detail: str = ""
    log: list = field(default_factory=list)


def machines():
    """The machines that this QEMU knows."""
    return {line.split()[0] for line in run("qemu-system-aarch64", "-M", "help").splitlines() if line.strip()}


def scenarios_of(scenarios):
    """The names that a list of scenarios has, in its order."""
    text = (HERE / "guest" / scenarios).read_text()
    return re.findall(r"^scenario (\S+)", text, re.M)


class Archive:
    """An initramfs in the format that cpio calls newc."""

    def __init__(self):
        self.bytes = bytearray()
        self.inode = 1
        self.folders = set()

    def entry(self, path, mode, data=b""):
        name = path.lstrip("/").encode() + b"\0"
        header = [self.inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name), 0]
        self.inode += 1
        self.bytes += b"070701" + b"".join(b"%08X" % number for number in header) + name
        self.bytes += b"\0" * (-len(self.bytes) % 4) + data
        self.bytes += b"\0" * (-len(self.bytes) % 4)

    def folder(self, path):
        parent = str(Path(path).parent)
        if path not in ("/", "") and path not in self.folders:
            self.folder(parent)
            self.folders.add(path)
            self.entry(path, stat.S_IFDIR | 0o755)

    def file(self, path, data, mode=0o644):
        self.folder(str(Path(path).parent))
        self.entry(path, stat.S_IFREG | mode, data)

    def link(self, path, target):
        self.folder(str(Path(path).parent))
        self.entry(path, stat.S_IFLNK | 0o777, target.encode())

    def finish(self):
        self.entry("TRAILER!!!", 0)
        return bytes(self.bytes) + b"\0" * (-len(self.bytes) % 512)


def solid_png(colour, side=64):
    """A picture of one colour."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = (b"\0" + bytes(colour) * side) * side
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) +
            chunk(b"IEND", b""))


class Network:
    """A small residual network with random weights, and a class that tells white from black."""

    def __init__(self, folder, tool, service):
        self.folder, self.tool, self.service = folder, tool, service
        pictures = folder / "pictures"
        pictures.mkdir()
        for index in range(8):
            colour = [255 * (index >> bit & 1) for bit in range(3)]
            (pictures / f"{index}.png").write_bytes(solid_png(colour))
        (folder / "labels.txt").write_text("".join(f"class {index}\n" for index in range(10)))
        self.first = self.make(1)
        self.second = self.make(2)
        self.name, self.threshold = self.choose(pictures)

    def make(self, seed):
        onnx, model = self.folder / f"{seed}.onnx", self.folder / f"{seed}.resight.tar"
        run(self.tool, "synth", "tiny-basic", "--seed", seed, "-o", onnx)
        run(self.tool, "quantize", onnx, "--calibration", self.folder / "pictures", "--labels",
            self.folder / "labels.txt", "-o", model)
        return model

    def probabilities(self, picture):
        text = run(self.service, "--model", self.first, "--image", picture, "--top", 10)
        return {int(line.split()[2]): float(line.split()[0]) / 100 for line in text.splitlines()}

    def choose(self, pictures):
        black, white = self.probabilities(pictures / "0.png"), self.probabilities(pictures / "7.png")
        best = max(white, key=lambda index: white[index] - black[index])
        if white[best] - black[best] < 0.02:
            raise RuntimeError(f"no class tells white from black: {black}, {white}")
        return f"class {best}", (white[best] + black[best]) / 2


def run(*command, **options):
    command = [str(word) for word in command]
    done = subprocess.run(command, capture_output=True, text=True, **options)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def overlay(arguments, network):
    """Everything that is not Debian's: the service as packaged, and the scenarios."""
    archive = Archive()
    archive.file("/usr/bin/resightd", arguments.binary.read_bytes(), 0o755)
    units = ROOT / "cross/package/systemd"
    for source, target in [("resightd.service", "systemd/system/resightd.service"),
                           ("sysusers.conf", "sysusers.d/resight.conf"),
                           ("udev.rules", "udev/rules.d/60-resight.rules")]:
        archive.file(f"/usr/lib/{target}", (units / source).read_bytes())
    archive.file("/etc/resight/first.resight.tar", network.first.read_bytes())
    archive.file("/etc/resight/second.resight.tar", network.second.read_bytes())
    archive.file("/opt/board/values", f'class="{network.name}"\nthreshold={network.threshold:.6f}\n'.encode())
    for source in sorted((HERE / "guest").iterdir()):
        archive.file(f"/opt/board/{source.name}", source.read_bytes(), 0o755)
    archive.link("/etc/systemd/system/board.service", "/opt/board/board.service")
    archive.link("/etc/systemd/system/multi-user.target.wants/board.service", "/opt/board/board.service")
    return archive.finish()


def compare_classes(files, network, service, folder):
    """Classifies the frame that the board sent, and compares all scores to the last bit."""
    (folder / "frame").write_bytes(files["frame"])
    rules = "".join(f'[[rule]]\nname = "{index}"\nclasses = ["class {index}"]\nthreshold = 1e-30\n'
                    for index in range(10))
    (folder / "classes.toml").write_text(
        f'[model]\nfile = "{network.first}"\n[source]\nkind = "raw"\npath = "{folder}/frame"\n'
        f'format = "yuyv"\nwidth = 320\nheight = 180\n[output]\nevents = true\n{rules}')
    here = scores(run(service, "run", folder / "classes.toml"))
    board = scores(files["events"].decode())
    if len(here) != 10 or here != board:
        return False, f"the board has {board}, this machine {here}"
    return True, f"10 scores from {len(files['frame'])} bytes, the largest {max(here.values())}"


def scores(events):
    """The scores of a service's events, as written."""
    found = {}
    for line in events.splitlines():
        event = json.loads(line[line.index("{"):])
        if event.get("event") == "active":
            found[event["rule"]] = event["score"]
    return found


class Monitor:
    """QEMU's monitor."""

    def __init__(self, path):
        self.path = path

    def word(self, address):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(10)
            connection.connect(str(self.path))
            text = self.read(connection, 1)
            connection.sendall(b"xp /1wx %#x\n" % address)
            text = self.read(connection, 1)
        found = re.findall(r": (0x[0-9a-f]{8})", text)
        if not found:
            raise RuntimeError(f"the monitor said {text!r}")
        return int(found[-1], 16)

    @staticmethod
    def read(connection, prompts):
        text = ""
        while text.count("(qemu) ") < prompts:
            more = connection.recv(4096).decode(errors="replace")
            if not more:
                break
            text += more
        return text


class Run:
    """One boot of one board."""

    def __init__(self, board, arguments, folder, network, overlay_bytes):
        self.board, self.arguments, self.folder, self.network = board, arguments, folder, network
        self.results, self.files, self.current = [], {}, None
        self.console = open(folder / f"{board.name}.console", "wb")
        self.initramfs = folder / f"{board.name}.initramfs"
        base = (arguments.cache / "base.cpio").read_bytes()
        self.initramfs.write_bytes(base + b"\0" * (-len(base) % 512) + overlay_bytes)
        self.monitor = Monitor(folder / f"{board.name}.monitor")
        self.finished = False

    def command(self):
        board, cache = self.board, self.arguments.cache
        machine = [word.format(cache=cache) for word in board.machine]
        append = ["console=ttyAMA0,115200", "quiet", "cryptomgr.notests", "loglevel=1", "panic=-1", "systemd.show_status=false",
                  f"board.scenarios={board.scenarios}", f"board.name={board.name}",
                  f"board.faults={self.arguments.faults}", board.arguments]
        if board.init:
            append.append(f"rdinit={board.init}")
        if self.arguments.only:
            append.append(f"board.only={self.arguments.only}")
        # Time by instructions, and none lost in idling: what is measured inside does not depend on
        # how busy this machine is, and waiting costs nothing. Not where answers come from outside.
        clock = ["-accel", "tcg,thread=multi"] if board.levels else ["-icount", "shift=1,sleep=off"]
        return ["qemu-system-aarch64", "-M", *machine, "-smp", str(board.smp), *clock,
                "-display", "none", "-no-reboot", "-nic", "none", "-kernel", str(cache / board.kernel / "vmlinuz"),
                "-initrd", str(self.initramfs), "-append", " ".join(append), "-serial", "stdio",
                "-monitor", f"unix:{self.monitor.path},server,nowait"]

    def go(self):
        process = subprocess.Popen(self.command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT, bufsize=0)
        deadline = self.board.seconds + self.arguments.faults
        watch = threading.Timer(deadline, process.kill)
        watch.start()
        rest = b""
        try:
            while chunk := os.read(process.stdout.fileno(), 65536):
                self.console.write(chunk)
                self.console.flush()
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    self.line(line.decode(errors="replace").strip(), process)
                if self.finished and not self.board.ends_itself:
                    process.kill()
        finally:
            watch.cancel()
            process.kill()
            process.wait()
            self.initramfs.unlink()
        self.account()
        return self

    def line(self, line, process):
        marker = line.find("@board ")
        if marker < 0:
            return
        kind, _, rest = line[marker + len("@board "):].partition(" ")
        if kind == "start":
            self.current = rest
        elif kind == "result":
            verdict, name, took, *words = rest.split(" ")
            result = Result(self.board.name, name, verdict, int(took) / 1000, " ".join(words).strip())
            if name == "frames/classes" and verdict == "passed":
                self.judge(result)
            self.results.append(result)
            self.show(result)
        elif kind == "log" and self.results:
            self.results[-1].log.append(rest)
        elif kind == "file":
            self.files[rest] = b""
        elif kind == "data":
            self.files[list(self.files)[-1]] += rest.encode()
        elif kind == "ask":
            process.stdin.write((self.answer(rest.split()) + "\n").encode())
        elif kind == "done":
            self.finished = True

    def answer(self, question):
        """`level PIN` is all that is ever asked."""
        if question[0] != "level" or not self.board.levels:
            return "none"
        pin = int(question[1])
        # The PL061 masks by address bits, and has eight lines; a Raspberry Pi has one bit for each.
        try:
            return str(self.monitor.word(self.board.levels) >> pin & 1)
        except (OSError, RuntimeError) as error:
            return f"none: {error}"

    def judge(self, result):
        """The half of a scenario that takes place here."""
        try:
            files = {name: gzip.decompress(base64.b64decode(text)) for name, text in self.files.items()}
            with tempfile.TemporaryDirectory(prefix="resight-board-") as folder:
                same, result.detail = compare_classes(files, self.network, self.arguments.service, Path(folder))
        except (KeyError, OSError, RuntimeError, ValueError, EOFError) as error:
            same, result.detail = False, f"what the board sent cannot be used: {error!r}"
        result.verdict = "passed" if same else "failed"

    def show(self, result):
        line = f"  {result.verdict:7}  {result.board}/{result.scenario}  {result.seconds:.1f} s  {result.detail}"
        print(line.rstrip(), flush=True)

    def account(self):
        """A scenario without a result did not pass."""
        reported = {result.scenario for result in self.results}
        for name in scenarios_of(self.board.scenarios):
            if name in reported or not selected(name, self.arguments.only):
                continue
            cause = "the board stopped during it" if name == self.current else "the board stopped before it"
            result = Result(self.board.name, name, "failed", 0, f"{cause}; see {self.console.name}")
            self.results.append(result)
            self.show(result)


def selected(name, only):
    """The same patterns as the shell's, whose `*` also spans slashes."""
    return not only or any(fnmatchcase(name, pattern) for pattern in only.split(","))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cache", type=Path, required=True, help="folder that `image` filled")
    parser.add_argument("--binary", type=Path, required=True, help="resightd for aarch64")
    parser.add_argument("--service", type=Path, required=True, help="resightd for this machine")
    parser.add_argument("--tool", type=Path, required=True, help="resight for this machine")
    parser.add_argument("--boards", default=",".join(board.name for board in BOARDS))
    parser.add_argument("--only", help="patterns of scenarios, such as 'safe/*,rules/pulse'")
    parser.add_argument("--faults", type=int, default=60, help="seconds of random faults")
    parser.add_argument("--report", type=Path, help="where to write the results as JSON")
    parser.add_argument("--keep", type=Path, help="folder for the consoles' output")
    parser.add_argument("--skip", help="reason why nothing can run: reports that and ends")
    arguments = parser.parse_args()
    boards = [board for board in BOARDS if board.name in arguments.boards.split(",")
              and any(selected(name, arguments.only) for name in scenarios_of(board.scenarios))]
    known = set() if arguments.skip else machines()
    results = []
    for board in boards:
        if board.machine[0] not in known:
            reason = arguments.skip or f"this QEMU has no machine {board.machine[0]}"
            results += [Result(board.name, name, "skipped", 0, reason)
                        for name in scenarios_of(board.scenarios) if selected(name, arguments.only)]
    for result in results:
        print(f"  skipped  {result.board}/{result.scenario}  {result.detail}")
    boards = [board for board in boards if board.machine[0] in known]
    if not boards:
        return finish(results, arguments)
    with tempfile.TemporaryDirectory(prefix="resight-board-") as folder:
        folder = Path(folder)
        consoles = arguments.keep or folder
        consoles.mkdir(parents=True, exist_ok=True)
        begin = time.monotonic()
        network = Network(folder, arguments.tool, arguments.service)
        overlay_bytes = overlay(arguments, network)
        print(f"board: the network and the files are made ({time.monotonic() - begin:.0f} s)", flush=True)

        def boot(board):
            print(f"board: {board.name} starts ({time.monotonic() - begin:.0f} s)", flush=True)
            done = Run(board, arguments, consoles, network, overlay_bytes).go()
            print(f"board: {board.name} has stopped ({time.monotonic() - begin:.0f} s)", flush=True)
            return done.results

        # The two longest first, whose clocks do not mind company.
        with ThreadPoolExecutor(2) as pool:
            for more in pool.map(boot, boards):
                results += more
        busy = resource.getrusage(resource.RUSAGE_CHILDREN)
        print(f"board: all boards have stopped ({time.monotonic() - begin:.0f} s, "
              f"{busy.ru_utime + busy.ru_stime:.0f} s of processors)", flush=True)
    return finish(results, arguments)


def finish(results, arguments):
    for result in results:
        if result.verdict == "failed":
            print(f"\n{result.board}/{result.scenario} failed: {result.detail}")
            print("".join(f"    {line}\n" for line in result.log), end="")
    counts = {verdict: sum(result.verdict == verdict for result in results)
              for verdict in ("passed", "failed", "skipped")}
    print("\nboard: " + ", ".join(f"{count} {verdict}" for verdict, count in counts.items()))
    if arguments.report:
        report = [vars(result) for result in results]
        arguments.report.write_text(json.dumps({"counts": counts, "results": report}, indent=1) + "\n")
    return 1 if counts["failed"] or not results else 0


if __name__ == "__main__":
    sys.exit(main())
