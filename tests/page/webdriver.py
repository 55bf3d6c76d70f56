"""As much of the WebDriver protocol as the test of the page needs, on Python's standard library."""
import base64
import json
import pathlib
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"

# Headless, and nothing that talks to anybody but the page's own server.
FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage --force-color-profile=srgb"
).split()

KEYS = {"Tab": "\ue004", "Enter": "\ue007", "Space": "\ue00d", "Shift": "\ue008", "ArrowLeft": "\ue012", "ArrowUp": "\ue013", "Delete": "\ue017"}


class Error(Exception):
    pass


def wait_for(what, attempt, seconds=20):
    """Calls `attempt` until it gives something true; gives that."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            found, shown = attempt(), None
        except (Error, OSError, LookupError, ValueError) as error:
            found, shown = None, error
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds} s for {what}" + (f": {shown}" if shown else ""))
        time.sleep(0.05)


class Browser:
    """A Chromium with an empty profile, driven by chromedriver."""

    def __init__(self, chromedriver, chromium):
        self.profile = tempfile.TemporaryDirectory(prefix="resight-page-", ignore_cleanup_errors=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.base = f"http://127.0.0.1:{port}"
        self.driver = subprocess.Popen(
            [chromedriver, f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_for("chromedriver", lambda: self.call("GET", "/status")["ready"])
        options = {"binary": chromium, "args": [*FLAGS, f"--user-data-dir={self.profile.name}"]}
        always = {
            "browserName": "chrome",
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL"},
        }
        answer = self.call("POST", "/session", {"capabilities": {"alwaysMatch": always}})
        self.session = f"/session/{answer['sessionId']}"

    def close(self):
        try:
            self.call("DELETE", self.session)
        finally:
            self.driver.terminate()
            self.driver.wait(timeout=20)
            self.profile.cleanup()

    def call(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self.base + path, data=data, method=method, headers={"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            value = json.load(error)["value"]
            raise Error(f"{value['error']}: {value['message'].splitlines()[0]}") from None

    def ask(self, method, path, body=None):
        return self.call(method, self.session + path, body)

    def command(self, name, **parameters):
        """A command of Chromium's own protocol."""
        return self.ask("POST", "/goog/cdp/execute", {"cmd": name, "params": parameters})

    def open(self, url):
        self.ask("POST", "/url", {"url": url})

    def script(self, text, *arguments):
        return self.ask("POST", "/execute/sync", {"script": text, "args": list(arguments)})

    def wait_script(self, text, *arguments):
        """Runs a script whose last argument is the function that takes the result."""
        return self.ask("POST", "/execute/async", {"script": text, "args": list(arguments)})

    def find(self, selector):
        found = self.ask("POST", "/element", {"using": "css selector", "value": selector})
        return found[ELEMENT]

    def all(self, selector):
        found = self.ask("POST", "/elements", {"using": "css selector", "value": selector})
        return [element[ELEMENT] for element in found]

    def text(self, selector):
        return self.ask("GET", f"/element/{self.find(selector)}/text")

    def click(self, selector):
        self.ask("POST", f"/element/{self.find(selector)}/click", {})

    def type(self, selector, text):
        self.ask("POST", f"/element/{self.find(selector)}/value", {"text": text})

    def role_and_label(self, element):
        """As assistive technology is told."""
        return tuple(self.ask("GET", f"/element/{element}/computed{what}") for what in ("role", "label"))

    def press(self, *names):
        """Presses and releases one key after another; `Shift+Tab` holds the first."""
        actions = []
        for name in names:
            keys = [KEYS.get(key, key) for key in name.split("+")]
            actions += [{"type": "keyDown", "value": key} for key in keys]
            actions += [{"type": "keyUp", "value": key} for key in reversed(keys)]
        self.ask("POST", "/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": actions}]})

    def drag(self, element, right, down, kind="mouse"):
        """Presses a mouse or a finger on the middle of an element, moves it by so many pixels, lets go."""
        origin = {ELEMENT: element}
        actions = [
            {"type": "pointerMove", "duration": 0, "origin": origin, "x": 0, "y": 0},
            {"type": "pointerDown", "button": 0},
            {"type": "pointerMove", "duration": 100, "origin": "pointer", "x": right, "y": down},
            {"type": "pointerUp", "button": 0},
        ]
        source = {"type": "pointer", "id": kind, "parameters": {"pointerType": kind}, "actions": actions}
        self.ask("POST", "/actions", {"actions": [source]})

    def size(self, width, height, scale=1):
        self.command(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=scale, mobile=width < 600,
        )

    def media(self, **features):
        features = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self.command("Emulation.setEmulatedMedia", features=features)

    def screenshot(self, path):
        """What is in the window, as PNG or WebP by the path's ending."""
        form = pathlib.Path(path).suffix[1:]
        quality = {"quality": 88} if form == "webp" else {}
        answer = self.command("Page.captureScreenshot", format=form, **quality)
        pathlib.Path(path).write_bytes(base64.b64decode(answer["data"]))

    def log(self):
        """What the console has shown since the last time."""
        return [(entry["level"], entry["message"]) for entry in self.ask("POST", "/se/log", {"type": "browser"})]
