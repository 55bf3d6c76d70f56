#!/usr/bin/env python3
"""`resight deploy` onto an emulated board over ssh, with every kind of trouble, and power cuts.

Called by tests/board/deploy/run; README.md says how it works.
"""

import argparse
import hashlib
import queue
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from fnmatch import fnmatch
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from harness import Network, Result, finish, run  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from miscalculating import miscalculating  # noqa: E402

HERE = Path(__file__).resolve().parent
GUIDE = HERE.parent.parent.parent / "docs" / "guides" / "raspberry-pi-usb.md"
CAMERA = "/dev/v4l/by-path/platform-vivid.0-video-index0"

# The real programs, with the way to the board.
SSH = """#!/bin/sh
exec /usr/bin/{program} -F {folder}/ssh "$@"
"""

SSH_CONFIGURATION = """Host board
    HostName 127.0.0.1
    Port {port}
    User pi
    IdentityFile {cache}/deploy/client
    IdentitiesOnly yes
    UserKnownHostsFile {folder}/known
    StrictHostKeyChecking yes
    LogLevel ERROR
    ControlMaster auto
    ControlPath {folder}/control{boot}
    ControlPersist 60
"""

# Does everything as the release that works does, but for running.
PROGRAM = """
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
int main(int count, char **words) {
    if (count > 1 && !strcmp(words[1], "run")) {
        WHEN_RUN;
    }
    OTHERWISE;
    return 1;
}
"""

# What runs on the board, asked of the board's own systemd and files; no step of an update.
STATE = r"""
PATH=/usr/sbin:/usr/bin
base=/opt/resight
for link in current good; do echo "$link $(readlink $base/$link | sed 's|releases/||')"; done
for word in ActiveState MainPID NRestarts; do echo "$word $(systemctl show -P $word resightd)"; done
pid=$(systemctl show -P MainPID resightd)
[ "$pid" = 0 ] || echo "runs $(sha256sum </proc/$pid/exe | cut -c 1-64)"
if [ -d $base/current ]; then
    (cd $base/current && sha256sum --quiet -c SHA256SUMS >/dev/null 2>&1) && echo "whole yes"
    echo "model $(sha256sum <$base/current/m.resight.tar | cut -c 1-64)"
fi
echo "unit $(readlink -f /etc/systemd/system/resightd.service)"
echo "releases $(ls $base/releases 2>/dev/null | wc -l)"
"""


class Failed(Exception):
    """What a scenario found wrong."""


def demand(condition, text):
    if not condition:
        raise Failed(text)


class Board:
    """One emulated board with a disk of its own."""

    def __init__(self, arguments, folder, disk):
        self.arguments, self.folder, self.disk = arguments, folder, disk
        folder.mkdir(exist_ok=True)
        with closing(socket.socket()) as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        key = (arguments.cache / "deploy" / "host.pub").read_text()
        (folder / "known").write_text(f"[127.0.0.1]:{self.port} {key}")
        (folder / "bin").mkdir(exist_ok=True)
        for program in ("ssh", "scp"):
            path = folder / "bin" / program
            path.write_text(SSH.format(program=program, folder=folder))
            path.chmod(0o755)
        self.process, self.boots = None, 0
        self.lines, self.changed = [], threading.Condition()

    def start(self, snapshot=None):
        """Boots, or goes on from a snapshot; returns when the board has its camera."""
        cache, monitor = self.arguments.cache, self.folder / "monitor"
        self.boots += 1
        (self.folder / "ssh").write_text(SSH_CONFIGURATION.format(
            port=self.port, cache=cache, folder=self.folder, boot=self.boots))
        command = ["qemu-system-aarch64", "-M", "virt", "-cpu", "cortex-a76", "-m", "512", "-smp", "1",
                   "-accel", "tcg", "-display", "none", "-no-reboot",
                   "-kernel", cache / "kernel" / "vmlinuz", "-initrd", cache / "deploy" / "boot.cpio",
                   "-append", "console=ttyAMA0 quiet cryptomgr.notests loglevel=1 panic=-1 net.ifnames=0 "
                              "systemd.show_status=false",
                   "-drive", f"if=none,id=disk,file={self.disk},format=qcow2,cache=writeback",
                   "-device", "virtio-blk-pci,drive=disk",
                   "-netdev", f"user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:{self.port}-10.0.2.15:22",
                   "-device", "virtio-net-pci,netdev=net,romfile=",
                   "-serial", "stdio", "-monitor", f"unix:{monitor},server,nowait"]
        if snapshot:
            command += ["-loadvm", snapshot]
        self.lines = []
        self.process = subprocess.Popen(list(map(str, command)), stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        threading.Thread(target=self.listen, args=(self.process,), daemon=True).start()
        if not snapshot:
            demand(self.console("up", 300), "the board did not come up")
        # What answers first is QEMU, not yet sshd.
        until = time.monotonic() + 180
        while self.ssh("true", check=False).returncode != 0:
            demand(time.monotonic() < until and self.process.poll() is None, "there is no sshd")
            time.sleep(0.2)

    def listen(self, process):
        with open(self.folder / "console", "ab") as log:
            for line in process.stdout:
                log.write(line)
                log.flush()
                marker = line.find(b"@board ")
                with self.changed:
                    if marker >= 0:
                        self.lines.append(line[marker + len(b"@board "):].decode(errors="replace").strip())
                    self.changed.notify_all()

    def console(self, word, seconds):
        """Waits for a report of the board that begins so."""
        def found():
            return next((line for line in self.lines if line.startswith(word)), None)

        with self.changed:
            self.changed.wait_for(found, seconds)
            return found()

    def reached(self, word, process):
        """Waits for a report of the board that begins so; false if an update ends before."""
        until = time.monotonic() + 300
        while not self.console(word, 0.5):
            if process.poll() is not None:
                return self.console(word, 1) is not None
            demand(time.monotonic() < until, f"there is no word of `{word}`")
        return True

    def cut(self):
        """The power fails. What the guest had not handed to its disk is gone."""
        if self.process:
            self.process.kill()
            self.process.wait()

    def snapshot(self, name):
        with closing(socket.socket(socket.AF_UNIX)) as connection:
            connection.settimeout(120)
            connection.connect(str(self.folder / "monitor"))
            for command in (b"", f"savevm {name}\n".encode()):
                connection.sendall(command)
                text = b""
                # Behind the echo of the command, a prompt on a line of its own.
                while b"\n(qemu) " not in text:
                    text += connection.recv(4096)
            demand(b"Error" not in text, f"savevm: {text.decode(errors='replace')}")

    def ssh(self, script, check=True):
        done = subprocess.run([str(self.folder / "bin" / "ssh"), "-o", "ConnectTimeout=30", "board", script],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True)
        demand(not check or done.returncode == 0, f"on the board: {script}: {done.stdout}{done.stderr}")
        return done

    def root(self, script):
        return self.ssh("sudo -n sh -c '" + script.replace("'", "'\\''") + "'").stdout

    def state(self):
        words = (line.split(" ", 1) for line in self.root(STATE).splitlines())
        return {word[0]: word[1] if len(word) > 1 else "" for word in words}

    def running(self, *releases):
        """Demands that one of `releases` runs, whole, settled and with frames."""
        health = "current=/opt/resight/current; $current/resightd health $current/resightd.toml --seconds 1 --at-least 1"
        until = time.monotonic() + 180
        while True:
            state = self.state()
            healthy = self.ssh(f"sudo -n sh -c '{health}'", check=False)
            if state["ActiveState"] == "active" and healthy.returncode == 0:
                break
            demand(time.monotonic() < until, f"nothing works after 180 s: {state} {healthy.stderr}")
            time.sleep(0.5)
        demand(state["current"] == state["good"] != "", f"not settled: {state}")
        demand(state.get("whole") == "yes", f"a damaged release is current: {state}")
        found = next((release for release in releases if release.runs(state)), None)
        demand(found, f"not {' or '.join(release.name for release in releases)}, but {state}")
        return state | {"name": found.name}

    def nothing(self):
        """Demands that no release is current and nothing runs."""
        state = self.state()
        demand(state["current"] == state["good"] == "" and state["MainPID"] == "0", f"something is there: {state}")
        demand("resight/" not in state["unit"], f"a unit is there: {state}")

    def deploy(self, release, *more, measure=2):
        """Starts an update."""
        environment = {"PATH": f"{self.folder}/bin:/usr/bin:/bin", "TMPDIR": str(self.folder)}
        command = [*guide_command(self.arguments.tool, release), "--measure", measure, *more]
        return subprocess.Popen(list(map(str, command)), env=environment, stdin=subprocess.DEVNULL, text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def deployed(self, release, *more):
        process = self.deploy(release, *more)
        text, _ = process.communicate()
        demand(process.returncode == 0, f"{release.name} was not deployed: {text}")
        return text

    def refused(self, release, words, *more):
        process = self.deploy(release, *more)
        text, _ = process.communicate()
        demand(process.returncode == 1, f"{release.name} was deployed: {text}")
        for word in words:
            demand(word in text, f"`{word}` is not in: {text}")

    def hang_up(self):
        """The connection is lost, with all that goes through it."""
        subprocess.run([str(self.folder / "bin" / "ssh"), "-O", "exit", "board"], capture_output=True)

    def count_steps(self, stop_at=0):
        self.root(f"rm -f /run/step/log; echo {stop_at} >/run/step/at")

    def steps(self):
        """The commands by which the board was changed since they are counted."""
        steps = self.root("/usr/bin/cat /run/step/log; /usr/bin/rm -f /run/step/at /run/step/log").splitlines()
        demand(steps, "no command was counted")
        return steps


def guide_command(tool, release):
    """The command of the guide, for this board and these files."""
    line = next(line for line in GUIDE.read_text().splitlines() if line.startswith("resight deploy "))
    for word, mine in (("resight deploy", f"{tool} deploy"), ("pi@camera.local", "board"),
                       ("model.resight.tar", release.model), (" resightd.toml", f" {release.configuration}"),
                       ("$(cross/build/resightd)", release.binary)):
        demand(word in line, f"{GUIDE}: `{word}` is not in `{line}`")
        line = line.replace(word, str(mine))
    return line.split()


class Version:
    """Files of one release: model and binary, both signed, and configuration."""

    def __init__(self, folder, name, tool, model, binary, class_name, threshold, key="team"):
        self.name, self.folder = name, folder / name
        self.folder.mkdir()
        self.model, self.binary = self.folder / "any.resight.tar", self.folder / "resightd"
        self.configuration = self.folder / "resightd.toml"
        self.model.write_bytes(model)
        self.binary.write_bytes(binary)
        self.binary.chmod(0o755)
        shutil.copy(folder / f"{key}.pub", self.folder / "team.pub")
        self.configuration.write_text(f"""[model]
file = "m.resight.tar"
public_key = "team.pub"
threads = 1
[source]
kind = "camera"
device = "{CAMERA}"
format = "yuyv"
width = 320
height = 180
rate = 10
[output]
http = "127.0.0.1:8600"
[[line]]
name = "lamp"
backend = "gpio"
line = "LAMP"
[[rule]]
name = "white"
classes = ["{class_name}"]
threshold = {threshold:.6f}
lines = ["lamp"]
""")
        for path in (self.model, self.binary):
            run(tool, "sign", path, "--key", folder / f"{key}.key")

    def runs(self, state):
        def sha256(path):
            return hashlib.sha256(path.read_bytes()).hexdigest()

        return state["runs"] == sha256(self.binary) and state["model"] == sha256(self.model)


class Test:
    """Everything that is made once."""

    def __init__(self, arguments, folder):
        self.arguments, self.folder = arguments, folder
        tool = arguments.tool
        network = Network(folder, tool, arguments.service)
        for key in ("team", "other"):
            run(tool, "keygen", "--output", folder / key)
        binary = arguments.binary.read_bytes()
        first, second = network.first.read_bytes(), network.second.read_bytes()

        def version(name, model, binary, class_name=network.name, key="team"):
            return Version(folder, name, tool, model, binary, class_name, network.threshold, key)

        self.old = version("old", first, binary)
        # The same program with another checksum.
        self.new = version("new", second, binary + b"\n")
        self.crashing = version("crashing", second, self.program("crashing", "usleep(300000); abort()"))
        self.silent = version("silent", second, self.program("silent", "pause()"))
        # The same without the help of a release that works.
        self.alone = version("alone", second, self.program("alone", "pause()", "return 0"))
        self.miscalculating = version("miscalculating", first, binary)
        signed = self.miscalculating.model.read_bytes()
        self.miscalculating.model.write_bytes(miscalculating(signed, folder / "team.key"))
        self.foreign_class = version("foreign-class", second, binary, class_name="a class that no model has")
        self.truncated = version("truncated", second, binary)
        self.truncated.model.write_bytes(self.truncated.model.read_bytes()[:-3000])
        self.unsigned = version("unsigned", second, binary)
        self.unsigned.model.write_bytes(second)
        self.unsigned_program = version("unsigned-program", second, binary)
        self.unsigned_program.binary.with_suffix(".sig").unlink()
        self.foreign_key = version("foreign-key", second, binary + b"\n", key="other")
        self.steps = {}
        self.results, self.timings = [], {}

    def program(self, name, when_run, otherwise='execv("/opt/resight/good/resightd", words)'):
        source, program = self.folder / f"{name}.c", self.folder / name
        source.write_text(PROGRAM.replace("WHEN_RUN", when_run).replace("OTHERWISE", otherwise))
        program = program.with_suffix(".aarch64")
        run("aarch64-linux-gnu-gcc", "-static", "-O", "-s", "-o", program, source)
        return program.read_bytes()

    def scenario(self, name, action):
        begin = time.monotonic()
        result = Result("deploy", name, "passed")
        try:
            result.detail = action() or ""
        except Failed as failed:
            result.verdict = "failed"
            result.detail, *result.log = str(failed).splitlines()
        except (OSError, RuntimeError, KeyError, ValueError) as error:
            result.verdict, result.detail = "failed", repr(error)
        result.seconds = round(time.monotonic() - begin, 1)
        self.results.append(result)
        print(f"  {result.verdict:7}  deploy/{name}  {result.seconds:.1f} s  {result.detail}".rstrip(), flush=True)
        return result.verdict == "passed"

    def timed(self, name, action):
        begin = time.monotonic()
        result = action()
        self.timings[name] = round(time.monotonic() - begin, 1)
        return result

    def on(self, board, snapshot, action):
        """Does something on a board that goes on from a snapshot."""
        board.cut()
        board.start(snapshot)
        return action(board)

    def first(self, board):
        """What the rest goes on from: nothing, then a release that works. False if that failed."""
        timings, steps = self.timings, self.steps

        def dry_run():
            text = board.deployed(self.old, "--dry-run")
            demand("nothing was changed" in text, text)
            board.nothing()
            demand(board.ssh("test -e /opt/resight", check=False).returncode == 1, "there is a folder")

        def from_nothing():
            board.count_steps()
            text = self.timed("deploy from nothing", lambda: board.deployed(self.old))
            steps["nothing"] = board.steps()
            for words in ("golden vectors", "network", "is good"):
                demand(words in text, f"`{words}` is not in: {text}")
            board.running(self.old)
            board.snapshot("good")
            return f"{timings['deploy from nothing']} s; " + line_with(text, "frames/s")

        def upgrade():
            board.count_steps()
            text = self.timed("upgrade", lambda: board.deployed(self.new))
            steps["upgrade"] = board.steps()
            demand(board.running(self.new)["releases"] == "2", "not two releases side by side")
            return f"{timings['upgrade']} s; " + line_with(text, "frames/s")

        def crashes():
            board.count_steps()
            self.taken_back(self.crashing, ["ends again and again"])(board)
            steps["return"] = board.steps()
            return f"{timings['back from crashing']} s"

        def boot():
            self.timed("boot", board.start)
            board.snapshot("nothing")

        return (self.scenario("boot", boot)
                and self.scenario("dry-run", dry_run)
                and self.scenario("from-nothing", from_nothing)
                and self.scenario("upgrade", upgrade)
                and self.scenario("bad-program/crashes", lambda: self.on(board, "good", lambda _: crashes())))

    def taken_back(self, release, words, *more):
        """That a release is tried and taken back."""
        def action(board):
            begin = time.monotonic()
            board.refused(release, [*words, "taken back"], *more)
            seconds = self.timings[f"back from {release.name}"] = round(time.monotonic() - begin, 1)
            demand(int(board.running(self.old)["releases"]) <= 2, "releases pile up")
            return f"{seconds} s"
        return action

    def kept(self, action):
        """That something leaves the running release alone: the same process."""
        def checked(board):
            before = board.running(self.old)
            action(board)
            after = board.running(self.old)
            demand(after["MainPID"] == before["MainPID"], "the running release was restarted")
            demand(after["releases"] == before["releases"], "something of the refused release is left")
        return checked

    def troubles(self):
        """Scenarios that each go on from the release that works, on any board."""
        old, new = self.old, self.new

        def unchanged(board):
            demand("already and good" in board.deployed(old), "it was not noticed")

        def crashes_first(board):
            # There is no good release whose self-test could be passed off as this one's.
            board.refused(self.crashing, ["this resightd does not run", "nothing was switched"])
            board.nothing()

        def silent_first(board):
            board.refused(self.alone, ["not ready within 5 s", "none is current"], "--ready-within", "5")
            board.nothing()

        def connection_lost(board):
            before = board.state()
            process = board.deploy(new, measure=4)
            demand(any("starting" in line for line in process.stdout), "it did not start")
            process.kill()
            board.hang_up()
            process.communicate()
            until = time.monotonic() + 180
            while board.state()["good"] == before["good"]:
                demand(time.monotonic() < until, "the trial has no verdict")
                time.sleep(0.5)
            board.running(new)

        def power(board):
            board.cut()
            begin = time.monotonic()
            board.start()
            board.running(old)
            seconds = self.timings["from power to running"] = round(time.monotonic() - begin, 1)
            return f"{seconds} s to classified frames"

        def key_replaced(board):
            board.deployed(self.foreign_key, "--replace-key")
            board.running(self.foreign_key)

        kept = self.kept
        return [
            ("unchanged", "good", kept(unchanged)),
            ("bad-model/truncated", "good", kept(lambda board: board.refused(self.truncated, ["truncated"]))),
            ("bad-model/unsigned", "good", kept(lambda board: board.refused(self.unsigned, ["not signed"]))),
            ("bad-model/miscalculates", "good", kept(lambda board: board.refused(
                self.miscalculating, ["golden vector 0", "nothing was switched"]))),
            ("bad-model/lacks-a-class", "good", kept(lambda board: board.refused(
                self.foreign_class, ["a class that no model has", "nothing was switched"]))),
            ("bad-program/unsigned", "good", kept(lambda board: board.refused(
                self.unsigned_program, ["resightd.sig", "resight sign"]))),
            ("bad-key", "good", kept(lambda board: board.refused(
                self.foreign_key, ["does not accept this one", "--replace-key"]))),
            ("key-replaced", "good", key_replaced),
            ("bad-program/silent", "good",
             self.taken_back(self.silent, ["not ready within 5 s"], "--ready-within", "5")),
            ("too-slow", "good", self.taken_back(new, ["1000 are demanded"], "--at-least", "1000")),
            ("connection-lost", "good", connection_lost),
            ("nothing/crashing-program", "nothing", crashes_first),
            ("nothing/silent-program", "nothing", silent_first),
            ("power-cut/while-idle", "good", power),
        ]

    def power_cut(self, release, point, allowed, again=False):
        """Cuts at a step (its number) or after a line that the update prints, boots, and looks."""
        def action(board):
            if isinstance(point, int):
                board.count_steps(point)
            process = board.deploy(release)
            cut = True
            if isinstance(point, int):
                # An update that ended has no such step.
                cut = board.reached("cut", process)
            else:
                text, delay = point
                demand(any(text in line for line in process.stdout), f"it did not print `{text}`")
                time.sleep(delay)
                demand(process.poll() is None, "it had ended already")
            if cut:
                board.cut()
            process.communicate()
            begin = time.monotonic()
            if cut:
                board.start()
            else:
                board.root("/usr/bin/rm -f /run/step/at")
            if allowed:
                what = board.running(*allowed)["name"]
            else:
                board.nothing()
                what = "nothing"
            took = time.monotonic() - begin
            if again:
                board.deployed(self.new)
                board.running(self.new)
            told = f"{what} runs after {took:.0f} s" + (", then the new one" if again else "")
            return told if cut else f"it took fewer steps this time; {told}"
        return action

    def power_cuts(self, every_step):
        """Scenarios with power cuts: at each step, or at those that matter most."""
        old, new, crashing = self.old, self.new, self.crashing
        upgrade, back, nothing = (self.steps[name] for name in ("upgrade", "return", "nothing"))
        verdict = index_of(upgrade, "mv -T /opt/resight/good.new")

        def allowed(number):
            # Within renaming and flushing either may be there; later only the new one.
            return [old] if number < verdict else [old, new] if number <= verdict + 1 else [new]

        # Until the switch the steps are those of any update.
        switched = index_of(back, "systemctl --no-block restart")
        returned = max(number for number, step in enumerate(back, 1) if "mv -T /opt/resight/current.new" in step)
        first_verdict = index_of(nothing, "mv -T /opt/resight/good.new")
        if every_step:
            at = range(1, len(upgrade) + 1), range(switched, len(back) + 1), range(1, first_verdict)
        else:
            at = ([index_of(upgrade, "cp ", "/incoming/resightd"), index_of(upgrade, "mv -T /opt/resight/current.new"),
                   verdict, verdict + 2],
                  [returned], [index_of(nothing, "systemctl --no-block restart")])
        found = [("power-cut/while-copying", "good", self.power_cut(new, ("copy", 1.5), [old])),
                 ("power-cut/while-measuring", "good", self.power_cut(new, ("ready after", 0.7), [old], True))]
        for name, steps, snapshot, release, numbers, may in (
                ("upgrade", upgrade, "good", new, at[0], allowed),
                ("return", back, "good", crashing, at[1], lambda _: [old]),
                ("first", nothing, "nothing", old, at[2], lambda _: [])):
            found += [(f"power-cut/{name}/{number:02}-{short(steps[number - 1])}", snapshot,
                       self.power_cut(release, number, may(number), every_step and number % 4 == 0)) for number in numbers]
        return found


def line_with(text, word):
    return next((line.strip() for line in text.splitlines() if word in line), "")


def index_of(steps, *words):
    """The number of the step, counted from 1, whose command has all these words."""
    return next(number for number, step in enumerate(steps, 1) if all(word in step for word in words))


def short(step):
    """A step as part of a scenario's name."""
    words = [word.rstrip("/").rsplit("/", 1)[-1] for word in step.split() if not word.startswith("-")]
    return "-".join(words[:3])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cache", type=Path, required=True, help="folder that the images are in")
    parser.add_argument("--binary", type=Path, required=True, help="resightd for aarch64")
    parser.add_argument("--service", type=Path, required=True, help="resightd for this machine")
    parser.add_argument("--tool", type=Path, required=True, help="resight for this machine")
    parser.add_argument("--every-step", action="store_true", help="cut the power at each step, not at some")
    parser.add_argument("--no-power-cuts", action="store_true", help="the other scenarios alone")
    parser.add_argument("--only", help="scenarios, by pattern, separated by commas; what they go on from is done first")
    parser.add_argument("--boards", type=int, default=2, help="how many boards run at once")
    parser.add_argument("--report", type=Path, help="where to write the results as JSON")
    parser.add_argument("--keep", type=Path, help="folder for the consoles' output")
    parser.add_argument("--skip", help="reason why nothing can run: reports that and ends")
    arguments = parser.parse_args()
    for name in ("cache", "binary", "service", "tool"):
        setattr(arguments, name, getattr(arguments, name).resolve())
    if arguments.skip:
        print(f"  skipped  deploy  {arguments.skip}")
        return finish([Result("deploy", "all", "skipped", 0, arguments.skip)], arguments)
    boards = []
    with tempfile.TemporaryDirectory(prefix="resight-deploy-") as folder:
        folder = Path(folder)
        try:
            test = Test(arguments, folder)
            disk = folder / "disk.qcow2"
            run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", arguments.cache / "deploy" / "disk", disk)
            board = Board(arguments, folder / "board", disk)
            boards.append(board)
            print("deploy: the releases are made", flush=True)
            if test.first(board):
                work = test.troubles() + ([] if arguments.no_power_cuts else test.power_cuts(arguments.every_step))
                if arguments.only:
                    patterns = arguments.only.split(",")
                    work = [item for item in work if any(fnmatch(item[0], pattern) for pattern in patterns)]
                board.cut()
                for number in range(1, arguments.boards):
                    copy = folder / f"disk{number}.qcow2"
                    run("cp", "--sparse=always", disk, copy)
                    boards.append(Board(arguments, folder / f"board{number}", copy))
                waiting = queue.SimpleQueue()
                for item in work:
                    waiting.put(item)

                def worker(board):
                    while True:
                        try:
                            name, snapshot, action = waiting.get_nowait()
                        except queue.Empty:
                            return board.cut()
                        test.scenario(name, lambda: test.on(board, snapshot, action))

                with ThreadPoolExecutor(arguments.boards) as pool:
                    list(pool.map(worker, boards))
        finally:
            for board in boards:
                board.cut()
            if arguments.keep:
                arguments.keep.mkdir(parents=True, exist_ok=True)
                for number, board in enumerate(boards):
                    shutil.copy(board.folder / "console", arguments.keep / f"deploy{number}.console")
    print("deploy: seconds: " + ", ".join(f"{name} {seconds}" for name, seconds in test.timings.items()))
    return finish(test.results, arguments)


if __name__ == "__main__":
    sys.exit(main())
