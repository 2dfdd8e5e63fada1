"""Debian's Prometheus with the shipped configuration watches a working farm: every expression of the dashboard returns data. And the
files below deploy/ fit each other and the programs."""
import glob
import json
import math
import os
import re
import subprocess
import tempfile
import time
import unittest
import urllib.error
import urllib.parse
import urllib.request

import yaml

from farm import BIN, LITE, REPOSITORY, FarmTest, Program, free_port, wait_until
from pictures import mixed_library, plain

DEPLOY = os.path.join(REPOSITORY, "deploy")
DASHBOARD = os.path.join(DEPLOY, "grafana/dashboards/farm.json")


def load_yaml(path):
    with open(path) as file:
        return yaml.safe_load(file)


def expressions():
    """(panel, expression) of everything that the dashboard asks."""
    with open(DASHBOARD) as file:
        board = json.load(file)
    return [(panel["title"], target["expr"]) for panel in board["panels"] for target in panel.get("targets", [])]


class PrometheusTest(FarmTest):
    def start_prometheus(self, coordinator, workers):
        config = load_yaml(os.path.join(DEPLOY, "prometheus/prometheus.yml"))
        config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        for scrape in config["scrape_configs"]:
            targets = {"nsic-coordinator": [coordinator], "nsic-worker": workers}[scrape["job_name"]]
            scrape.pop("dns_sd_configs", None)
            scrape["static_configs"] = [{"targets": targets}]
        path = self.path("prometheus.yml")
        with open(path, "w") as out:
            yaml.safe_dump(config, out)
        self.prometheus = "127.0.0.1:%d" % free_port()
        program = Program(["prometheus", "--config.file=" + path, "--storage.tsdb.path=" + self.path("tsdb"),
                           "--web.listen-address=" + self.prometheus, "--log.level=warn"],
                          os.path.join(self.farm.logs, "prometheus.log"), self.farm.environment)
        self.addCleanup(program.kill)

        def all_up():
            self.assertTrue(program.running(), program.text())
            try:
                active = self.ask("targets?state=active")["activeTargets"]
            except urllib.error.URLError:
                return False
            return len(active) == 1 + len(workers) and all(t["health"] == "up" for t in active)

        wait_until(all_up, "Prometheus reads every target")

    def ask(self, what):
        with urllib.request.urlopen("http://%s/api/v1/%s" % (self.prometheus, what), timeout=30) as reply:
            answer = json.load(reply)
        self.assertEqual(answer["status"], "success", answer)
        return answer["data"]

    def has_data(self, expression):
        expression = expression.replace("$__rate_interval", "15s").replace("$__range", "5m")
        result = self.ask("query?" + urllib.parse.urlencode({"query": expression}))["result"]
        return any(math.isfinite(float(series["value"][1])) for series in result)

    def test_every_panel_has_data(self):
        farm = self.farm
        coordinator, worker = ("127.0.0.1:%d" % free_port() for _ in range(2))
        farm.start_coordinator("--metrics", coordinator, "--quota", "1G")
        farm.start_worker("only", "--metrics", worker)
        self.start_prometheus(coordinator, [worker])

        library = mixed_library(self.path("library"), 6)
        cut = plain(os.path.join(library, "cut.jpg"), 300, 200)
        os.truncate(cut, os.path.getsize(cut) // 2)
        self.assertNotEqual(farm.client("status", "0" * 32).returncode, 0, "a request that fails, for the panel of those")

        waiting = expressions()
        self.assertGreater(len(waiting), 20)
        for attempt in range(12):
            # Another strength is another job with the same pictures.
            code, result = farm.submit(library, "--out", self.path("out %d" % attempt), "--model", LITE, "--strength", str(1 - attempt / 100))
            self.assertEqual(code, 1, result)
            farm.client("status", "0" * 32)
            for _ in range(4):
                waiting = [(panel, e) for panel, e in waiting if not self.has_data(e)]
                if not waiting:
                    return
                time.sleep(0.5)
        self.fail("no data for:\n" + "\n".join("%s: %s" % row for row in waiting))


class DeployTest(unittest.TestCase):
    """What can be checked of containers, provisioning and units without a container engine and without systemd as init."""

    def flags(self, program, command):
        text = subprocess.run([os.path.join(BIN, program), command, "--help"], check=True, stdout=subprocess.PIPE, text=True).stdout
        return set(re.findall(r"--[a-z-]+", text))

    def check_flags(self, program, arguments):
        known = self.flags(program, arguments[0])
        for argument in arguments[1:]:
            if argument.startswith("--"):
                self.assertIn(argument.split("=")[0], known, "%s %s" % (program, arguments[0]))

    def test_prometheus_configuration(self):
        subprocess.run(["promtool", "check", "config", os.path.join(DEPLOY, "prometheus/prometheus.yml")], check=True, stdout=subprocess.PIPE)

    def test_compose_file(self):
        folder = os.path.join(DEPLOY, "docker")
        compose = load_yaml(os.path.join(folder, "compose.yml"))
        services = compose["services"]
        with open(os.path.join(folder, "Dockerfile")) as file:
            dockerfile = file.read()
        stages = re.findall(r"^FROM \S+ AS (\S+)", dockerfile, re.M)
        for name, service in services.items():
            with self.subTest(service=name):
                self.assertTrue("build" in service or "image" in service)
                for volume in service.get("volumes", []):
                    source = volume.split(":")[0]
                    if source.startswith("."):
                        self.assertTrue(os.path.exists(os.path.join(folder, source)), source)
                    else:
                        self.assertIn(source, compose["volumes"])
                for secret in service.get("secrets", []):
                    self.assertIn(secret, compose["secrets"])
                for other in service.get("depends_on", []):
                    self.assertIn(other, services)
                if "build" in service:
                    build = service["build"]
                    context = os.path.join(folder, build["context"])
                    self.assertTrue(os.path.samefile(context, REPOSITORY))
                    self.assertTrue(os.path.isfile(os.path.join(context, build["dockerfile"])))
                    self.assertIn(build["target"], stages)
                    self.check_flags("nsic-" + name, service["command"])
        for source in re.findall(r"^COPY (?!--from)(\S+) ", dockerfile, re.M):
            self.assertTrue(os.path.exists(os.path.join(REPOSITORY, source)), source)
        for script in re.findall(r"\bdeploy/\S+\.sh", dockerfile):
            self.assertTrue(os.access(os.path.join(REPOSITORY, script), os.X_OK), script)

    def test_prometheus_asks_where_compose_exports(self):
        services = load_yaml(os.path.join(DEPLOY, "docker/compose.yml"))["services"]
        exported = {}
        for name in ["coordinator", "worker"]:
            address = next(a.split("=")[1] for a in services[name]["command"] if a.startswith("--metrics="))
            exported["nsic-" + name] = (name, int(address.split(":")[1]))
        asked = {}
        for scrape in load_yaml(os.path.join(DEPLOY, "prometheus/prometheus.yml"))["scrape_configs"]:
            for group in scrape.get("static_configs", []):
                host, port = group["targets"][0].split(":")
                asked[scrape["job_name"]] = (host, int(port))
            for group in scrape.get("dns_sd_configs", []):
                asked[scrape["job_name"]] = (group["names"][0], group["port"])
        self.assertEqual(asked, exported)

    def test_grafana_finds_its_source_and_its_dashboard(self):
        source = load_yaml(os.path.join(DEPLOY, "grafana/provisioning/datasources/prometheus.yml"))["datasources"][0]
        provider = load_yaml(os.path.join(DEPLOY, "grafana/provisioning/dashboards/nsic.yml"))["providers"][0]
        services = load_yaml(os.path.join(DEPLOY, "docker/compose.yml"))["services"]
        mounts = dict(reversed(v.split(":")[:2]) for v in services["grafana"]["volumes"])
        self.assertEqual(mounts[provider["options"]["path"]], "../grafana/dashboards")
        self.assertEqual(mounts["/etc/grafana/provisioning"], "../grafana/provisioning")
        self.assertIn(source["url"].split("/")[2].split(":")[0], services)
        for path in glob.glob(os.path.join(DEPLOY, "grafana/dashboards/*.json")):
            with open(path) as file:
                board = json.load(file)
            for panel in board["panels"]:
                for target in panel.get("targets", []):
                    self.assertEqual(target["datasource"]["uid"], source["uid"], panel["title"])
            cells = [tuple(panel["gridPos"][k] for k in "xywh") for panel in board["panels"]]
            for i, (x, y, w, h) in enumerate(cells):
                self.assertLessEqual(x + w, 24)
                for x2, y2, w2, h2 in cells[i + 1:]:
                    self.assertFalse(x < x2 + w2 and x2 < x + w and y < y2 + h2 and y2 < y + h, "panels overlap at %d, %d" % (x, y))

    def test_units(self):
        with tempfile.TemporaryDirectory(prefix="nsic-units-") as folder:
            for path in glob.glob(os.path.join(DEPLOY, "systemd/*.service")):
                with open(path) as file:
                    text = file.read()
                command = re.search(r"^ExecStart=(\S+) (.*)$", text, re.M)
                self.check_flags(os.path.basename(command.group(1)), command.group(2).split())
                with open(os.path.join(folder, os.path.basename(path)), "w") as out:
                    out.write(text.replace("/usr/local/bin", BIN))
            result = subprocess.run(["systemd-analyze", "verify"] + glob.glob(folder + "/*.service"), stdout=subprocess.PIPE,
                                    stderr=subprocess.STDOUT, text=True)
            self.assertEqual((result.returncode, result.stdout), (0, ""))

    def test_image_packages(self):
        for program, needs, without in [("nsic-coordinator", "libgrpc++", "libtorch"), ("nsic-worker", "libtorch", "libsqlitecpp")]:
            packages = subprocess.run([os.path.join(DEPLOY, "docker/runtime-packages.sh"), os.path.join(BIN, program)], check=True,
                                      stdout=subprocess.PIPE, text=True).stdout.split()
            self.assertTrue(any(p.startswith(needs) for p in packages), packages)
            self.assertFalse(any(p.startswith(without) for p in packages), packages)


if __name__ == "__main__":
    unittest.main()
