"""A killed client resumes, a finished submit does nothing again, and the embedded farm dies with its client."""
import hashlib
import os
import shutil
import signal
import unittest

from farm import LITE, FarmTest, free_port, metrics, read, tree, wait_until
from pictures import mixed_library, plain


def stamps(folder):
    """Which file is where: another run that writes a file again changes its inode or time."""
    return {name: (os.stat(os.path.join(folder, name)).st_ino, os.stat(os.path.join(folder, name)).st_mtime_ns) for name in tree(folder)}


def children_of(pid):
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open("/proc/%s/stat" % entry) as stat:
                    if int(stat.read().rsplit(")", 1)[1].split()[1]) == pid:
                        found.append(int(entry))
            except (FileNotFoundError, ProcessLookupError):
                pass
    return found


def program_of(pid):
    try:
        return os.path.basename(os.readlink("/proc/%d/exe" % pid))
    except (FileNotFoundError, ProcessLookupError):  # gone, or dead and not yet waited for
        return ""


def alive(pid):
    try:
        with open("/proc/%d/stat" % pid) as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


class ResumeTest(FarmTest):
    def kill_in_the_middle(self, client, out, enough):
        def some():
            self.assertTrue(client.running(), "the client ended early:\n" + client.text())
            return os.path.isdir(out) and len(tree(out)) >= enough

        wait_until(some, "%d outputs" % enough)
        client.kill()

    def test_same_submit_finishes_what_is_missing(self):
        farm, library, out = self.farm, mixed_library(self.path("library"), 24), self.path("out")
        metrics_address = "127.0.0.1:%d" % free_port()
        farm.start_coordinator("--metrics", metrics_address)
        farm.start_worker("only", "--threads", "2")
        client = farm.start_client("submit", library, "--out", out, "--model", LITE)
        self.kill_in_the_middle(client, out, 3)
        before = stamps(out)

        code, result = farm.submit(library, "--out", out, "--model", LITE)
        self.assertEqual(code, 0, result)
        self.assertEqual(len(result["files"]), 24)
        self.assertEqual({f["state"] for f in result["files"]}, {"done"}, result)
        after = stamps(out)
        self.assertEqual(len(after), 24)
        self.assertEqual({name: after[name] for name in before}, before, "what was there was written again")
        done = metrics(metrics_address)['nsic_tasks{state="done"}']
        self.assertEqual(done, 24, "each picture was computed once")

        with self.subTest("a second submit does nothing"):
            code, result = farm.submit(library, "--out", out, "--model", LITE)
            self.assertEqual(code, 0, result)
            self.assertEqual({f["state"] for f in result["files"]}, {"done"}, result)
            self.assertEqual(stamps(out), after)
            self.assertEqual(metrics(metrics_address)['nsic_tasks{state="done"}'], done)

        with self.subTest("one output that was deleted is made again, alone"):
            victim = tree(out)[5]
            digest = hashlib.sha256(read(os.path.join(out, victim))).hexdigest()
            os.remove(os.path.join(out, victim))
            code, result = farm.submit(library, "--out", out, "--model", LITE)
            self.assertEqual(code, 0, result)
            self.assertEqual(hashlib.sha256(read(os.path.join(out, victim))).hexdigest(), digest)
            again = stamps(out)
            self.assertEqual([name for name in after if again[name] != after[name]], [victim])

        with self.subTest("other parameters do everything again"):
            code, result = farm.submit(library, "--out", out, "--model", LITE, "--strength", "0.5")
            self.assertEqual(code, 0, result)
            again = stamps(out)
            self.assertEqual([name for name in after if again[name] == after[name]], [])

    def test_fetch_brings_what_a_killed_client_left(self):
        farm, library, out = self.farm, mixed_library(self.path("library"), 8), self.path("out")
        farm.start_coordinator()
        result = farm.client("submit", library, "--out", out, "--model", LITE, "--no-wait", "--json")
        self.assertEqual(result.returncode, 0, result.stderr)
        job = farm.jobs()[0]["job_id"]
        self.assertEqual(tree(out) if os.path.isdir(out) else [], [])
        farm.start_worker("only", "--threads", "2")
        elsewhere = self.path("elsewhere")
        result = farm.client("fetch", job, "--out", elsewhere)
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        self.assertEqual(tree(elsewhere), tree(library))

    def test_embedded_farm_dies_with_its_client_and_resumes(self):
        farm, library, out = self.farm, mixed_library(self.path("library"), 16), self.path("out")
        client = farm.start_client("submit", library, "--out", out, "--model", LITE, "--local", local=True)
        wait_until(lambda: os.path.isdir(out) and len(tree(out)) >= 2 or not client.running(), "2 outputs")
        children = children_of(client.pid)
        self.assertEqual(len(children), 2, "a coordinator and a worker\n" + client.text())
        client.kill()
        wait_until(lambda: not any(alive(pid) for pid in children), "the children die with the client", timeout=20)

        before = stamps(out)
        code, result = farm.submit(library, "--out", out, "--model", LITE, "--local", local=True)
        self.assertEqual(code, 0, result)
        after = stamps(out)
        self.assertEqual(tree(out), tree(library))
        self.assertEqual({name: after[name] for name in before}, before, "what was there was written again")

        with self.subTest("a crashed child is started again"):
            shutil.rmtree(out)
            client = farm.start_client("submit", library, "--out", out, "--model", LITE, "--local", local=True, name="second-client")
            for enough, program in [(1, "nsic-worker"), (4, "nsic-coordinator")]:
                wait_until(lambda: os.path.isdir(out) and len(tree(out)) >= enough or not client.running(), "%d outputs" % enough)
                self.assertTrue(client.running(), client.text())
                victim = wait_until(lambda: [pid for pid in children_of(client.pid) if program_of(pid) == program], "a %s runs" % program)
                os.kill(victim[0], signal.SIGKILL)
            self.assertEqual(client.process.wait(300), 0, client.text())
            self.assertEqual(tree(out), tree(library))

    def test_local_without_waiting_is_a_usage_error(self):
        picture = plain(self.path("a.jpg"), 100, 80)
        result = self.farm.client("submit", picture, "--local", "--no-wait", local=True)
        self.assertEqual(result.returncode, 2)
        self.assertIn("--no-wait", result.stderr)

    def test_single_file_lands_beside_it(self):
        picture = plain(self.path("holiday.jpg"), 100, 80)
        code, result = self.farm.submit(picture, "--local", local=True)
        self.assertEqual(code, 0, result)
        self.assertTrue(os.path.isfile(self.path("holiday-enhanced.jpg")))
        self.assertTrue(os.path.isfile(self.path("nsic-report/index.html")))
        # With the packs that are shipped: one recommends, another scores.
        file = result["files"][0]
        self.assertEqual(file["recommendation"], file["model"] or "none")
        self.assertGreater(file["probability"], 1 / 7)
        self.assertTrue(0 < file["score_before"] < 100 and 0 < file["score_after"] < 100, file)


if __name__ == "__main__":
    unittest.main()
