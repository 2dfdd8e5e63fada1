"""A headless Chromium, driven over WebDriver with the standard library."""
import base64
import json
import shutil
import subprocess
import tempfile
import urllib.error
import urllib.request

from farm import free_port, wait_until

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]


class Browser:
    """`with Browser() as browser:` one window of 1280x900 with a profile of its own."""

    def __enter__(self):
        self.profile = tempfile.mkdtemp(prefix="nsic-chromium-")
        port = free_port()
        self.url = "http://127.0.0.1:%d" % port
        self.driver = subprocess.Popen(["chromedriver", "--port=%d" % port], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                       stderr=subprocess.DEVNULL)
        try:
            wait_until(self._ready, "chromedriver answers")
            options = {"binary": "/usr/bin/chromium", "args": FLAGS + ["--window-size=1280,900", "--user-data-dir=" + self.profile]}
            answer = self._call("POST", "/session", {"capabilities": {"alwaysMatch": {"browserName": "chrome", "goog:chromeOptions": options}}})
            self.session = "/session/" + answer["sessionId"]
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_):
        try:
            self._call("DELETE", self.session)
        finally:
            self._end()

    def _end(self):
        self.driver.kill()
        self.driver.wait()
        shutil.rmtree(self.profile, ignore_errors=True)

    def _ready(self):
        try:
            return self._call("GET", "/status")["ready"]
        except OSError:
            return False

    def _call(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=120) as reply:
                return json.load(reply)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError("WebDriver: " + error.read().decode()) from error

    def open(self, url):
        self._call("POST", self.session + "/url", {"url": url})

    def run(self, script, *arguments):
        """What the script returns; elements are not supported."""
        return self._call("POST", self.session + "/execute/sync", {"script": script, "args": list(arguments)})

    def drag(self, start, end):
        """Presses the mouse at `start`, moves to `end` and lets go; points in the window."""
        def move(point, duration):
            return {"type": "pointerMove", "duration": duration, "x": int(point[0]), "y": int(point[1])}
        actions = [move(start, 0), {"type": "pointerDown", "button": 0}, move(end, 200), {"type": "pointerUp", "button": 0}]
        self._call("POST", self.session + "/actions", {"actions": [{"type": "pointer", "id": "mouse", "actions": actions}]})

    def screenshot(self, path):
        with open(path, "wb") as out:
            out.write(base64.b64decode(self._call("GET", self.session + "/screenshot")))
