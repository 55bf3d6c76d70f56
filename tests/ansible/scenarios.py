#!/usr/bin/env python3
"""Rolls resightd out to two boards: containers with their own systemd, sshd and network.

Called by tests/ansible/run in namespaces of its own (mounts, network, processes), so that nothing
outlives it. Boards and the machine that collects (apt repository, MQTT broker, Prometheus) share
one bridge.
"""

import argparse
import functools
import hashlib
import http.server
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
import zlib
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from miscalculating import miscalculating  # noqa: E402

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PLAYBOOK = ROOT / "cross/deploy/ansible/boards.yml"
HUB = "10.99.0.1"
BOARDS = {"porch": "10.99.0.11", "gate": "10.99.0.12"}
TOKEN = "0123456789abcdef0123456789abcdef"

CONFIGURATION = """\
[model]
file = "model.resight.tar"
public_key = "site.pub"
[source]
kind = "images"
path = "/srv/pictures"
repeat = true
rate = 20.0
[safety]
stale_ms = 5000
[output]
http = "0.0.0.0:8600"
token_file = "/etc/resight/http_token"
[output.mqtt]
url = "mqtt://10.99.0.1:1883"
home_assistant = true
[[line]]
name = "lamp"
backend = "virtual"
[[rule]]
# {{ inventory_hostname }}
name = "thing"
classes = ["thing*"]
threshold = 0.5
lines = ["lamp"]
"""


def run(*words, **options):
    """Runs a program; gives its output, or ends with it."""
    done = subprocess.run([str(word) for word in words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, check=False, **options)
    if done.returncode:
        raise AssertionError(f"{' '.join(map(str, words))}: {done.returncode}\n{done.stdout}")
    return done.stdout


def wait(what, condition, seconds=30):
    """Waits until a condition gives something true, and gives that."""
    end = time.monotonic() + seconds
    what_else = ""
    while True:
        try:
            value = condition()
        except (OSError, AssertionError, ValueError) as error:
            value, what_else = None, f"; {error}"
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {seconds} s{what_else}")
        time.sleep(0.2)


def mounted(folder):
    """A root of its own that starts as that of all boards."""
    for part in ("root", "upper", "work"):
        (folder / part).mkdir(parents=True)
    run("mount", "-t", "overlay", "overlay", "-o",
        f"lowerdir={ARGUMENTS.base},upperdir={folder}/upper,workdir={folder}/work", folder / "root")
    return folder / "root"


class Board:
    """A container."""

    def __init__(self, name, address, site):
        self.name, self.address, self.folder = name, address, site.folder / name
        self.root = mounted(self.folder)
        (self.root / "etc/hostname").write_text(name + "\n")
        # There is nobody to ask for names.
        (self.root / "etc/hosts").write_text(f"127.0.0.1 localhost {name}\n")
        (self.root / "etc/resolv.conf").unlink(missing_ok=True)
        (self.root / "etc/nsswitch.conf").write_text("passwd: files\ngroup: files\nshadow: files\nhosts: files\n")
        shutil.copytree(site.folder / "pictures", self.root / "srv/pictures")
        keys = self.root / "home/pi/.ssh/authorized_keys"
        keys.parent.mkdir(mode=0o755)
        shutil.copy(site.folder / "id.pub", keys)
        run("ip", "netns", "add", name)
        run("ip", "link", "add", f"to-{name}", "type", "veth", "peer", "name", "host0", "netns", name)
        run("ip", "link", "set", f"to-{name}", "master", "hub", "up")
        for words in (f"addr add {address}/24 dev host0", "link set host0 up", "link set lo up"):
            run("ip", "-n", name, *words.split())
        self.log = (self.folder / "console").open("w")
        self.process = subprocess.Popen(
            ["systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--boot", f"--directory={self.root}",
             f"--machine={name}", f"--network-namespace-path=/run/netns/{name}", "--console=pipe",
             "--capability=all", "--resolv-conf=off", "--timezone=off"],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=subprocess.STDOUT)
        self.leader = wait(f"{name} starts", self.children)
        wait(f"{name} is up", lambda: self.sh("systemctl is-active ssh").strip() == "active", 20)

    def children(self):
        """The first process of the container."""
        if self.process.poll() is not None:
            raise SystemExit(f"{self.name}: systemd-nspawn ended:\n{(self.folder / 'console').read_text()}")
        # Others of its children only prepare.
        return run("pgrep", "-P", self.process.pid, "-x", "systemd").strip()

    def sh(self, script):
        """Runs a shell script on the board, from within; gives its output."""
        return run("nsenter", "--all", "--target", self.leader, "/bin/sh", "-ec", script)

    def unit(self, what):
        """A property of the service."""
        return self.sh(f"systemctl show -p {what} --value resightd").strip()

    def link(self, name):
        """The release that a link names."""
        path = self.root / "opt/resight" / name
        return path.readlink().name if path.is_symlink() else None

    def version(self):
        """The version of the package, or nothing."""
        words = "dpkg-query -W -f '${db:Status-Status} ${Version}' " + ARGUMENTS.package
        return self.sh(words + " 2>/dev/null || true").strip().removeprefix("installed ")

    def state(self):
        """Everything that must not change when nothing may."""
        releases = self.root / "opt/resight/releases"
        return {
            "version": self.version(),
            "current": self.link("current"),
            "good": self.link("good"),
            "releases": sorted(path.name for path in releases.iterdir()) if releases.is_dir() else [],
            "process": self.unit("MainPID"),
            "started": self.unit("ExecMainStartTimestampMonotonic"),
            "state": self.unit("ActiveState"),
            "etc": hashlib.sha256(self.sh("cd /etc && find apt resight systemd -type f -exec sha256sum {} + | sort; "
                                          "ls /tmp | grep ^resight || true").encode()).hexdigest(),
        }


class Play:
    """What a run of the playbook did."""

    def __init__(self, code, text):
        self.code, self.text = code, text
        self.recap = {}
        for line in text.partition("PLAY RECAP")[2].splitlines():
            found = re.match(r"(\S+)\s*: (.*)", line)
            if found:
                counts = dict(word.split("=") for word in found[2].split())
                self.recap[found[1]] = {key: int(value) for key, value in counts.items()}

    def expect(self, condition, words):
        assert condition, f"{words}\n{self.text}"

    def works(self):
        self.expect(self.code == 0, f"it ended with {self.code}")
        self.expect(set(self.recap) == set(BOARDS), f"boards: {self.recap}")
        return self

    def stops(self, board, words):
        """Failed on this board, for this reason, and never spoke to another."""
        self.expect(self.code != 0, "it did not fail")
        self.expect(re.search(words, re.sub(r"\s+", " ", self.text)), f"it does not say {words}")
        self.expect(list(self.recap) == [board], f"boards: {self.recap}")
        return self

    def unchanged(self):
        for board, counts in self.recap.items():
            self.expect(counts["changed"] == 0, f"{board} was changed")
        return self


class Site:
    """The machine that rolls out and collects, and the boards."""

    def __init__(self, folder):
        self.folder = folder
        self.environment = dict(
            os.environ, ANSIBLE_HOME=str(folder / "ansible"), ANSIBLE_CONFIG=str(ROOT / "cross/deploy/ansible/ansible.cfg"),
            ANSIBLE_NOCOLOR="1", ANSIBLE_NOCOWS="1", ANSIBLE_SSH_CONTROL_PATH_DIR=str(folder / "control"),
            GNUPGHOME=str(folder / "keys"), LC_ALL="C.UTF-8")
        self.repository = folder / "repository"
        self.old_version = run("dpkg-deb", "-f", ARGUMENTS.old, "Version").strip()
        self.make_models()
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "id")
        (folder / "keys").mkdir(mode=0o700)
        run("gpg", "--batch", "--quiet", "--passphrase", "", "--quick-generate-key", "site@example.org",
            "ed25519", "sign", "never", env=self.environment)
        self.publish(ARGUMENTS.old)
        self.serve()
        (folder / "resightd.toml").write_text(CONFIGURATION)
        (folder / "inventory.json").write_text(json.dumps({"boards": {
            "hosts": {name: {"ansible_host": address} for name, address in BOARDS.items()},
            "vars": {
                "ansible_user": "pi",
                "ansible_ssh_private_key_file": str(folder / "id"),
                "ansible_ssh_common_args": "-o StrictHostKeyChecking=accept-new -o ConnectTimeout=5 "
                                           f"-o UserKnownHostsFile={folder}/known_hosts",
                "ansible_python_interpreter": "/usr/bin/python3",
                "resightd_repository": f"http://{HUB}:8000",
                "resightd_repository_key": str(self.repository / "resight.asc"),
                "resightd_package": ARGUMENTS.package,
                "resightd_model": str(folder / "model.resight.tar"),
                "resightd_configuration": str(folder / "resightd.toml"),
                "resightd_public_key": str(folder / "site.pub"),
                "resightd_secrets": {"http_token": TOKEN},
                "resightd_allowed_addresses": ["10.99.0.0/24"],
                # The emulator that stands for the Arm processor writes code.
                "resightd_unit_extra": "[Service]\nMemoryDenyWriteExecute=no\n",
                "resightd_at_least": 1.0,
                "resightd_measure": 2,
                "resightd_ready_within": 30,
            }}}))

    def make_models(self):
        """A signed network, one that nobody signed, one that does not compute what it promises."""
        tool = ROOT / "target/debug/resight"
        pictures = self.folder / "pictures"
        pictures.mkdir()
        for index in range(4):
            data = bytes((x * 3 + y * index * 5 + channel * 60) % 256 for y in range(48) for x in range(64)
                         for channel in range(3))
            png(pictures / f"{index}.png", 64, 48, data)
        (self.folder / "labels.txt").write_text("".join(f"thing {index}\n" for index in range(10)))
        at = {"cwd": self.folder}
        run(tool, "synth", "tiny-basic", "-o", "net.onnx", **at)
        run(tool, "quantize", "net.onnx", "--calibration", "pictures", "--labels", "labels.txt",
            "-o", "unsigned.resight.tar", **at)
        run(tool, "keygen", "--output", "site", **at)
        signed = self.folder / "model.resight.tar"
        shutil.copy(self.folder / "unsigned.resight.tar", signed)
        run(tool, "sign", signed, "--key", "site.key", **at)
        (self.folder / "bad").mkdir()
        (self.folder / "bad/model.resight.tar").write_bytes(
            miscalculating(signed.read_bytes(), self.folder / "site.key"))
        (self.folder / "other").mkdir()
        run(tool, "keygen", "--output", "other/site", **at)
        shutil.copy(self.folder / "unsigned.resight.tar", self.folder / "other/model.resight.tar")
        run(tool, "sign", "other/model.resight.tar", "--key", "other/site.key", **at)
        (self.folder / "unsigned").mkdir()
        shutil.copy(self.folder / "unsigned.resight.tar", self.folder / "unsigned/model.resight.tar")

    def publish(self, package):
        """Adds a package to the repository."""
        run(ROOT / "cross/package/apt_repository", self.repository, "--key", "site@example.org", package,
            env=self.environment)

    def serve(self):
        handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=self.repository)
        http.server.SimpleHTTPRequestHandler.log_message = lambda *words: None
        server = http.server.ThreadingHTTPServer((HUB, 8000), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()

    def collect(self):
        """Starts a broker, and Prometheus with the example of its configuration, in a root of their own."""
        self.hub = mounted(self.folder / "hub")
        srv = self.hub / "srv"
        for path in sorted((ROOT / "cross/deploy/prometheus").iterdir()):
            text = path.read_text()
            for name, address in BOARDS.items():
                text = text.replace(f"{name}.example.org", address)
            (srv / path.name).write_text(text.replace("_interval: 15s", "_interval: 1s"))
        shutil.copy(HERE / "alerts.yml", srv)
        (srv / "http_token").write_text(TOKEN)
        (srv / "mosquitto.conf").write_text(f"listener 1883 {HUB}\nallow_anonymous true\nuser root\n")
        for words in ("check config /srv/prometheus.yml", "test rules /srv/alerts.yml"):
            run("chroot", self.hub, "promtool", *words.split())
        for words in ("mosquitto -c /srv/mosquitto.conf",
                      "prometheus --config.file=/srv/prometheus.yml --storage.tsdb.path=/srv/data "
                      f"--web.listen-address={HUB}:9090"):
            log = (self.folder / words.split()[0]).open("w")
            subprocess.Popen(["chroot", self.hub, *words.split()], stdout=log, stderr=subprocess.STDOUT)
        wait("Prometheus", lambda: self.query("vector(1)"))

    def query(self, expression):
        """What Prometheus answers to a query."""
        address = f"http://{HUB}:9090/api/v1/query?query={urllib.parse.quote(expression)}"
        with urllib.request.urlopen(address, timeout=5) as answer:
            return json.load(answer)["data"]["result"]

    def topics(self, wanted):
        """Retained messages by topic, if all of these are there."""
        words = ["mosquitto_sub", "-h", HUB, "-t", "#", "-F", "%t %p", "-W", "1", "--retained-only"]
        done = subprocess.run(["chroot", self.hub, *words], stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, text=True, check=False)
        found = dict(line.split(" ", 1) for line in done.stdout.splitlines())
        return found if wanted <= set(found) else None

    def play(self, *arguments, **variables):
        """Runs the playbook."""
        words = [ARGUMENTS.playbook, "-i", self.folder / "inventory.json", PLAYBOOK, *arguments,
                 "--extra-vars", json.dumps(variables)]
        done = subprocess.run([str(word) for word in words], env=self.environment, cwd=PLAYBOOK.parent, check=False,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        return Play(done.returncode, done.stdout)


def png(path, width, height, data):
    """Writes a picture of 8-bit RGB."""

    def chunk(kind, content):
        return (struct.pack(">I", len(content)) + kind + content
                + struct.pack(">I", zlib.crc32(kind + content)))

    rows = b"".join(b"\0" + data[row * width * 3:(row + 1) * width * 3] for row in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows))
                     + chunk(b"IEND", b""))


# Scenarios build on each other, in this order.


def a_check_changes_nothing(site, boards):
    """On boards that have nothing yet."""
    site.play("--check").works()
    for board in boards:
        assert board.version() == "" and not (board.root / "etc/apt/sources.list.d/resight.sources").exists()


def from_nothing(site, boards):
    """Both run the same release, the second one only after the first one was good."""
    site.play().works()
    first, second = boards
    for board in boards:
        assert board.version() == site.old_version, board.version()
        assert board.link("current") == board.link("good"), board.state()
        assert board.unit("ActiveState") == "active"
        assert board.sh("systemctl is-enabled resightd resight-settle; stat -c '%a %G' /etc/resight/http_token"
                        ).split()[-2:] == ["640", "gpio"]
        sums = (board.root / "opt/resight/current/SHA256SUMS").read_bytes()
        assert hashlib.sha256(sums).hexdigest()[:16] == board.link("good")
    site.first = {board.name: board.link("good") for board in boards}
    for board in boards:
        unit = board.sh("systemctl cat resightd")
        assert "\nIPAddressAllow=10.99.0.0/24\n" in unit and "\nMemoryDenyWriteExecute=no\n" in unit, unit
    configurations = [(board.root / "opt/resight/current/resightd.toml").read_text() for board in boards]
    assert "# porch" in configurations[0] and "# gate" in configurations[1]
    good = [(board.root / "opt/resight/good").lstat().st_mtime for board in boards]
    begun = (second.root / "opt/resight/releases").stat().st_mtime
    assert good[0] < begun < good[1], (good, begun)


def again(site, boards):
    """Neither a second run nor a check has anything to change."""
    before = [board.state() for board in boards]
    site.play().works().unchanged()
    site.play("--check").works().unchanged()
    assert [board.state() for board in boards] == before


def collected(site, boards):
    """Both boards are distinguishable at one broker and in one Prometheus."""
    topics = wait("all topics", lambda: site.topics({
        f"{prefix}{board.name}/{rest}" for board in boards for prefix, rest in (
            ("resight/", "availability"), ("resight/", "rule/thing"), ("resight/", "line/lamp"),
            ("homeassistant/binary_sensor/resight-", "rule_thing/config"))}))
    for board in boards:
        assert topics[f"resight/{board.name}/availability"] == "online", topics
        sensor = json.loads(topics[f"homeassistant/binary_sensor/resight-{board.name}/rule_thing/config"])
        assert sensor["device"]["identifiers"] == [f"resight-{board.name}"], sensor
    for board in boards:
        wait(f"{board.name} in Prometheus",
             lambda board=board: site.query(f'rate(resight_inferences_total{{board="{board.name}"}}[1m]) > 0'), 60)
        assert site.query(f'resight_mqtt_connected{{board="{board.name}"}} == 1')


def wrong_configuration(site, boards):
    """Refused before anything changes, in a check too."""
    before = [board.state() for board in boards]
    path = site.folder / "wrong.toml"
    path.write_text(CONFIGURATION.replace("threshold = 0.5", "threshold = 5.0"))
    site.play(resightd_configuration=str(path)).stops("porch", "threshold")
    site.play("--check", resightd_configuration=str(path)).stops("porch", "threshold")
    path.write_text(CONFIGURATION.replace('file = "model', 'file = "/srv/model'))
    site.play(resightd_configuration=str(path)).stops("porch", "it must say file = ")
    assert [board.state() for board in boards] == before


def wrong_model(site, boards):
    """One that miscalculates and one that nobody signed."""
    before = [board.state() for board in boards]
    site.play(resightd_model=str(site.folder / "bad/model.resight.tar")).stops("porch", "golden vector")
    site.play(resightd_model=str(site.folder / "unsigned/model.resight.tar")).stops("porch", "signature|not signed")
    assert [board.state() for board in boards] == before


def wrong_package(site, boards):
    """A package that was altered on its way."""
    before = [board.state() for board in boards]
    site.publish(ARGUMENTS.new)
    kept = site.folder / "kept"
    shutil.copytree(site.repository, kept)
    package = max((site.repository / "pool").iterdir(), key=lambda path: path.stat().st_mtime)
    content = bytearray(package.read_bytes())
    content[5000] ^= 1
    package.write_bytes(content)
    site.play().stops("porch", "Hash Sum mismatch|hash sum|unexpected")
    release = site.repository / "dists/stable/InRelease"
    release.write_text(release.read_text().replace("Label: resight", "Label: altered"))
    site.play().stops("porch", "signature|not signed")
    shutil.rmtree(site.repository)
    kept.rename(site.repository)
    assert [board.state() for board in boards] == before


def too_slow(site, boards):
    """A new release misses its rate: the first board goes back, the second keeps what it has."""
    before = [board.state() for board in boards]
    site.play(resightd_at_least=100000).stops("porch", "was taken back")
    first, second = boards
    assert first.link("current") == first.link("good") == before[0]["good"], first.state()
    wait("the old release runs again", lambda: first.unit("ActiveState") == "active")
    assert first.unit("NRestarts") == "0"
    first.sh("/opt/resight/current/resightd health /opt/resight/current/resightd.toml --seconds 1 --at-least 1")
    assert second.state() == before[1]


def upgrade(site, boards):
    """The new package, one board after the other; the old release stays beside it."""
    before = [board.state() for board in boards]
    site.play().works()
    for board, old in zip(boards, before):
        assert board.version().startswith("9.9.9"), board.version()
        assert board.link("current") == board.link("good") != old["good"], board.state()
        assert old["good"] in board.state()["releases"], board.state()
        assert board.unit("ActiveState") == "active"
    assert (boards[0].root / "opt/resight/good").lstat().st_mtime < (boards[1].root / "opt/resight/good").lstat().st_mtime


def unreachable(site, boards):
    """A board that does not answer ends the rollout; without it, the others go on."""
    before = [board.state() for board in boards]
    path = site.folder / "next.toml"
    path.write_text(CONFIGURATION.replace("threshold = 0.5", "threshold = 0.6"))
    # With the sessions that Ansible keeps open.
    boards[0].sh("systemctl kill ssh; systemctl stop ssh")
    site.play(resightd_configuration=str(path)).stops("porch", "timed out waiting for ping")
    assert [board.state() for board in boards] == before
    play = site.play("--limit", "!porch", resightd_configuration=str(path))
    play.expect(play.code == 0 and list(play.recap) == ["gate"], "the other board")
    assert boards[1].link("good") != before[1]["good"]
    boards[0].sh("systemctl start ssh")
    site.play(resightd_configuration=str(path)).works()
    assert boards[0].link("good") != before[0]["good"]


def way_back(site, boards):
    """A chosen version from the repository, and from a file: the release of the first rollout."""
    site.play(resightd_version=site.old_version).works()
    for board in boards:
        assert board.version() == site.old_version, board.version()
        assert board.link("good") == site.first[board.name], board.state()
    site.play(resightd_repository="", resightd_deb=str(ARGUMENTS.new)).works()
    for board in boards:
        assert board.version().startswith("9.9.9"), board.version()


def secret(site, boards):
    """A new token is applied without a new release."""
    before = [board.link("good") for board in boards]
    token = TOKEN[::-1]
    site.play(resightd_repository="", resightd_deb=str(ARGUMENTS.new), resightd_secrets={"http_token": token}).works()
    assert [board.link("good") for board in boards] == before
    for board in boards:
        request = urllib.request.Request(f"http://{board.address}:8600/status",
                                         headers={"Authorization": f"Bearer {token}"})
        with urllib.request.urlopen(request, timeout=5) as answer:
            assert answer.status == 200


def another_key(site, boards):
    """The release that runs refuses one of another key, unless that is wanted."""
    before = [board.link("good") for board in boards]
    other = {"resightd_repository": "", "resightd_deb": str(ARGUMENTS.new),
             "resightd_secrets": {"http_token": TOKEN[::-1]},
             "resightd_public_key": str(site.folder / "other/site.pub"),
             "resightd_model": str(site.folder / "other/model.resight.tar")}
    site.play(**other).stops("porch", "does not accept this one")
    assert [board.link("good") for board in boards] == before
    site.play(**other, resightd_replace_key=True).works()
    assert all(board.link("good") != old for board, old in zip(boards, before))


def whole_releases(site, boards):
    """Once a list was signed, neither an older nor an unsigned one follows it."""
    signed = {"resightd_repository": "", "resightd_deb": str(ARGUMENTS.new),
              "resightd_secrets": {"http_token": TOKEN[::-1]},
              "resightd_public_key": str(site.folder / "other/site.pub"),
              "resightd_model": str(site.folder / "other/model.resight.tar"),
              "resightd_release_key": str(site.folder / "other/site.key"),
              "resightd_signer": str(ROOT / "target/debug/resight")}
    site.play(**signed).stops("porch", "resightd_release_number a number above 0")
    site.play(**signed, resightd_release_number=7).works()
    good = [board.link("good") for board in boards]
    for board in boards:
        assert (board.root / "opt/resight/current/release.number").read_text() == "7\n"
        assert (board.root / "opt/resight/current/SHA256SUMS.sig").exists()
    site.play(**signed, resightd_release_number=7).works()
    site.play(**signed, resightd_release_number=6).stops("porch", "its number 6 is lower than 7")
    unsigned = {**signed, "resightd_release_key": ""}
    site.play(**unsigned).stops("porch", "the list of its files is not signed")
    assert [board.link("good") for board in boards] == good
    site.play(**signed, resightd_release_number=6, resightd_older=True).works()
    assert all(board.link("good") != old for board, old in zip(boards, good))


SCENARIOS = [a_check_changes_nothing, from_nothing, again, collected, wrong_configuration, wrong_model,
             wrong_package, too_slow, upgrade, unreachable, way_back, secret,
             another_key, whole_releases]


def prepare():
    """A network of their own for everything that follows."""
    run("ip", "link", "set", "lo", "up")
    run("ip", "link", "add", "hub", "type", "bridge")
    run("ip", "addr", "add", f"{HUB}/24", "dev", "hub")
    run("ip", "link", "set", "hub", "up")


def main():
    prepare()
    site = Site(ARGUMENTS.folder)
    site.collect()
    boards = [Board(name, address, site) for name, address in BOARDS.items()]
    for scenario in SCENARIOS:
        begun = time.monotonic()
        try:
            scenario(site, boards)
        except Exception as error:  # noqa: BLE001
            print(f"ansible: FAILED  {scenario.__name__}: {type(error).__name__}: {error}")
            for board in boards:
                print(f"--- {board.name}: {board.state()}")
                print(board.sh("journalctl -u resightd --no-pager -n 30"))
            return 1
        print(f"ansible: passed  {scenario.__name__} ({time.monotonic() - begun:.0f} s): {scenario.__doc__.strip()}",
              flush=True)
    print(f"{len(SCENARIOS)} passed, 0 failed")
    return 0


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", type=Path, required=True, help="root of the boards")
    parser.add_argument("--old", type=Path, required=True, help="package")
    parser.add_argument("--new", type=Path, required=True, help="package 9.9.9 with another binary")
    parser.add_argument("--package", required=True, help="its name")
    parser.add_argument("--playbook", type=Path, required=True, help="ansible-playbook")
    parser.add_argument("--folder", type=Path, required=True, help="empty folder")
    return parser.parse_args()


if __name__ == "__main__":
    ARGUMENTS = arguments()
    sys.exit(main())
