"""A farm of real processes for the end-to-end tests: coordinator, workers and client on loopback, their state in a temporary folder.

Programs are found in $NSIC_BIN (ctest sets it) or build/bin. Nothing here sleeps for a fixed time and hopes: wait_until polls a
condition, and fails with what was last seen. When a test fails, the end of every program's log is printed.
"""
import hashlib
import json
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.request

REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BIN = os.environ.get("NSIC_BIN", os.path.join(REPOSITORY, "build/bin"))
SAMPLES = os.path.join(REPOSITORY, "tests/data/samples")
LITE = "kairitsu-lite"


def free_port():
    """A port that nobody listens on now, outside the range from which the system takes ports for connections. Only for listeners that
    cannot tell which port they took."""
    while True:
        port = random.randrange(20000, 32000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


def read(path):
    with open(path, "rb") as file:
        return file.read()


def wait_until(condition, what, timeout=120, every=0.05):
    """Polls `condition` until it returns something true, and returns that."""
    end = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError("waited %g s in vain: %s" % (timeout, what))
        time.sleep(every)


def without_power(command):
    """`command` for a user whom file permissions bind, also when the tests run as root."""
    if os.geteuid() != 0:
        return command
    return ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"] + command


def vips(*arguments):
    subprocess.run(["vips"] + [str(a) for a in arguments], check=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def ffmpeg(*arguments):
    subprocess.run(["ffmpeg", "-v", "error", "-nostdin", "-y"] + [str(a) for a in arguments], check=True)


def decoded(path):
    """What a picture holds: its size, bands and sample format, and the SHA-256 of its pixels. Fails on a broken picture."""
    if path.lower().endswith(".bmp"):
        pixels = subprocess.run(["ffmpeg", "-v", "error", "-nostdin", "-i", path, "-f", "rawvideo", "-pix_fmt", "rgba", "-"],
                                check=True, stdout=subprocess.PIPE).stdout
        probe = subprocess.run(["ffprobe", "-v", "error", "-show_entries", "stream=width,height", "-of", "csv=p=0", path],
                               check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
        width, height = probe.split(",")[:2]
        return int(width), int(height), "rgba", hashlib.sha256(pixels).hexdigest()
    header = picture_header(path)
    with tempfile.TemporaryDirectory(prefix="nsic-decoded-") as folder:
        raw = os.path.join(folder, "pixels.raw")
        vips("rawsave", path, raw)
        with open(raw, "rb") as pixels:
            return header + (hashlib.sha256(pixels.read()).hexdigest(),)


def picture_header(path):
    """(width, height, sample format, bands) as libvips sees them."""
    line = subprocess.run(["vipsheader", path], check=True, stdout=subprocess.PIPE, text=True).stdout
    found = re.search(r": (\d+)x(\d+) (\w+), (\d+) bands?,", line)
    return int(found.group(1)), int(found.group(2)), found.group(3), int(found.group(4))


def vips_field(path, name):
    return subprocess.run(["vipsheader", "-f", name, path], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def tree(folder):
    """Every file below `folder`, as relative paths, without the report."""
    found = []
    for base, folders, names in os.walk(folder):
        folders[:] = [f for f in folders if f != "nsic-report"]
        found += [os.path.relpath(os.path.join(base, name), folder) for name in names]
    return sorted(found)


class Program:
    """A running process whose output goes to a log file."""

    def __init__(self, command, log, environment):
        self.log = log
        with open(log, "ab") as out:
            out.write(("\n$ %s\n" % " ".join(command)).encode())
            out.flush()
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=environment)

    @property
    def pid(self):
        return self.process.pid

    def running(self):
        return self.process.poll() is None

    def signal(self, number):
        self.process.send_signal(number)

    def kill(self):
        """SIGKILL, and waits."""
        if self.running():
            self.process.kill()
        self.process.wait()

    def stop(self, timeout=60):
        """SIGTERM, and waits; the exit code."""
        if self.running():
            self.process.terminate()
        return self.process.wait(timeout)

    def text(self):
        with open(self.log, errors="replace") as log:
            return log.read()

    def peak_memory(self):
        """VmHWM in bytes."""
        with open("/proc/%d/status" % self.pid) as status:
            return int(re.search(r"VmHWM:\s*(\d+) kB", status.read()).group(1)) * 1024


class Farm:
    """One coordinator, any number of workers, and a client, with state below `folder`."""

    def __init__(self, folder):
        self.folder = folder
        self.logs = os.path.join(folder, "logs")
        os.makedirs(self.logs)
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("NSIC_")}
        self.environment.update({"XDG_STATE_HOME": os.path.join(folder, "xdg-state"),
                                 "XDG_CONFIG_HOME": os.path.join(folder, "xdg-config"),
                                 "XDG_CACHE_HOME": os.path.join(folder, "xdg-cache"),
                                 "XDG_RUNTIME_DIR": folder, "LC_ALL": "C.UTF-8",
                                 # Tests compare workers bit for bit; what each would measure depends on what else the machine does.
                                 "NSIC_PRECISION": "fp32"})
        self.token_file = os.path.join(folder, "token")
        with open(self.token_file, "w") as out:
            out.write("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\n")
        os.chmod(self.token_file, 0o600)
        self.state = os.path.join(folder, "coordinator")
        self.address = None
        self.coordinator = None
        self.workers = {}
        self.clients = []

    # Coordinator

    def start_coordinator(self, *arguments, state=None):
        """Starts it on a free port, or again on the port it had."""
        self.state = state or self.state
        address_file = os.path.join(self.folder, "address")
        if os.path.exists(address_file):
            os.remove(address_file)
        command = [os.path.join(BIN, "nsic-coordinator"), "serve", "--listen", self.address or "127.0.0.1:0", "--state",
                                self.state, "--address-file", address_file, "--token-file", self.token_file] + list(arguments)
        self.coordinator = Program(command, os.path.join(self.logs, "coordinator.log"), self.environment)

        def address():
            if not self.coordinator.running():
                raise AssertionError("the coordinator ended:\n" + self.coordinator.text())
            return os.path.exists(address_file) and read(address_file).decode().strip()

        self.address = wait_until(address, "the coordinator writes its address")
        return self.coordinator

    # Workers

    def start_worker(self, name, *arguments, program="nsic-worker", wait=True):
        options = {"--coordinator": self.address, "--name": name, "--device": "cpu", "--threads": "1",
                   "--token-file": self.token_file, "--cache": os.path.join(self.folder, "cache-" + name)}
        options.update(zip(arguments[::2], arguments[1::2]))
        command = [os.path.join(BIN, program), "run"] + [word for option in options.items() for word in option]
        worker = Program(command, os.path.join(self.logs, name + ".log"), self.environment)
        self.workers[name] = worker
        if wait:
            wait_until(lambda: not worker.running() or self.connected(name), "worker %s is connected" % name)
            if not worker.running():
                raise AssertionError("worker %s ended:\n%s" % (name, worker.text()))
        return worker

    def connected(self, name):
        return any(w["name"] == name and w["connected"] for w in self.worker_list())

    def worker_list(self):
        return self.client_json("workers", "--json")["workers"]

    # Client

    def client_command(self, *arguments, local=False):
        command = [os.path.join(BIN, "nsic-client")] + [os.fsencode(a) if isinstance(a, bytes) else str(a) for a in arguments]
        if not local:
            command += ["--coordinator", self.address, "--token-file", self.token_file]
        # What stands after "--" is a path, so flags go before it.
        if "--" in command:
            at = command.index("--")
            tail = 0 if local else 4
            end = len(command) - tail
            command = command[:at] + command[end:] + command[at:end]
        return command

    def client(self, *arguments, local=False, wrap=(), timeout=600, cwd=None):
        """Runs the client to its end. stdout, stderr and returncode are in what comes back."""
        command = list(wrap) + self.client_command(*arguments, local=local)
        result = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=self.environment,
                                timeout=timeout, cwd=cwd)
        if arguments[0] not in ("workers", "status"):  # those are asked again and again
            with open(os.path.join(self.logs, "client.log"), "ab") as log:
                log.write(("\n$ %s\n" % " ".join(map(str, command))).encode(errors="surrogateescape"))
                log.write(result.stdout + result.stderr + b"exit code %d\n" % result.returncode)
        result.stdout = result.stdout.decode(errors="surrogateescape")
        result.stderr = result.stderr.decode(errors="surrogateescape")
        return result

    def client_json(self, *arguments, **options):
        result = self.client(*arguments, **options)
        if result.returncode not in (0, 1):
            raise AssertionError("nsic-client %s: exit code %d\n%s%s" %
                                 (" ".join(map(str, arguments)), result.returncode, result.stdout, result.stderr))
        return json.loads(result.stdout)

    def start_client(self, *arguments, local=False, name="client"):
        """A client in the background, to be killed or waited for."""
        client = Program(self.client_command(*arguments, local=local), os.path.join(self.logs, name + ".log"), self.environment)
        self.clients.append(client)
        return client

    def submit(self, *arguments, **options):
        """`submit ... --json`: (exit code, the final object)."""
        result = self.client("submit", "--json", *arguments, **options)
        if result.returncode not in (0, 1):
            raise AssertionError("submit: exit code %d\n%s%s" % (result.returncode, result.stdout, result.stderr))
        return result.returncode, json.loads(result.stdout)

    def job(self, job_id):
        return self.client_json("status", job_id, "--json")

    def jobs(self):
        return self.client_json("jobs", "--json")["jobs"]

    # The end

    def stop(self):
        for program in self.clients + list(self.workers.values()) + [self.coordinator]:
            if program is not None:
                program.kill()

    def print_logs(self):
        for name in sorted(os.listdir(self.logs)):
            with open(os.path.join(self.logs, name), errors="replace") as log:
                lines = log.read().splitlines()
            print("---- %s (last 60 lines)\n%s" % (name, "\n".join(lines[-60:])), file=sys.stderr)


def metrics(address):
    """What a program exports: {'name{label="x"}': value}."""
    with urllib.request.urlopen("http://%s/metrics" % address, timeout=10) as reply:
        text = reply.read().decode()
    values = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            key, value = line.rsplit(" ", 1)
            values[key] = float(value)
    return values


class FarmTest(unittest.TestCase):
    """A test with a temporary folder and a farm in it."""

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="nsic-e2e-")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.farm = self.new_farm("farm")

    def new_farm(self, name):
        farm = Farm(os.path.join(self.folder, name))
        self.addCleanup(self._end, farm)
        return farm

    def _end(self, farm):
        farm.stop()
        result = self._outcome.result
        if any(getattr(test, "test_case", test) is self for test, _ in result.failures + result.errors):
            farm.print_logs()

    def path(self, *parts):
        return os.path.join(self.folder, *parts)

    def write(self, path, data):
        """A file below the test's folder; its folders are made."""
        full = self.path(path)
        os.makedirs(os.path.dirname(full), exist_ok=True)
        with open(full, "wb") as out:
            out.write(data.encode() if isinstance(data, str) else data)
        return full

    def small_tmpfs(self, name, size):
        """A folder that holds `size` bytes and no more. For root, or in a user namespace."""
        folder = self.path(name)
        os.makedirs(folder)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=%d" % size, "none", folder], check=True)
        self.addCleanup(subprocess.run, ["umount", "-l", folder], check=True)
        return folder

    def identity_pack(self, name="identity"):
        """Writes a pack whose network gives back its input, and returns its folder."""
        weights = b"\x02\x00\x00\x00\x00\x00\x00\x00{}"
        card = {"format": 1, "name": name, "task": "enhance", "architecture": "identity", "parameters": {}, "scale": 1,
                "tiling": {"tile": 512, "halo": 0, "overlap": 0, "multiple": 1, "blend": "none"}, "weights_sha256": hashlib.sha256(weights).hexdigest(),
                "licence": "Apache-2.0", "description": "Gives back its input."}
        folder = self.path("packs", name)
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, "weights.safetensors"), "wb") as out:
            out.write(weights)
        with open(os.path.join(folder, "model.json"), "w") as out:
            json.dump(card, out)
        return folder

    def assertSamePixels(self, first, second, message=""):
        self.assertEqual(decoded(first), decoded(second), "%s and %s differ %s" % (first, second, message))
