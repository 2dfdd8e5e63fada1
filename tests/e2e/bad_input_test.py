"""Every kind of bad input fails alone and says why: exit code 1, and every other file is done."""
import os
import subprocess
import sys
import unittest

from farm import LITE, FarmTest, free_port, picture_header, tree, wait_until, without_power
from pictures import noise, plain, png_that_claims

MEBI = 1 << 20


class BadFilesTest(FarmTest):
    def make(self):
        """The library, and (name, state, words of the message) for each file."""
        library = self.path("library")
        os.makedirs(os.path.join(library, "sub"))
        rows = []

        def add(name, state, *words):
            rows.append((name, state, words))
            return os.path.join(library, name) if isinstance(name, str) else os.path.join(os.fsencode(library), name)

        def put(path, data):
            with open(path, "wb") as out:
                out.write(data)

        def picture(name, *size):
            scratch = plain(self.path("scratch" + os.path.splitext(os.fsdecode(name))[1]), *size)
            os.rename(scratch, add(name, "done"))

        def cut(name, part):
            scratch = plain(self.path("scratch" + os.path.splitext(name)[1]), 300, 200)
            with open(scratch, "rb") as whole:
                data = whole.read()
            put(add(name, "failed", name, "truncated"), data[:int(len(data) * part)])

        picture("good.jpg", 120, 90)
        picture("good.png", 90, 120)
        picture("sub/deep.jpg", 64, 64)
        put(add("text.jpg", "failed", "text.jpg", "no picture"), b"this is not a picture at all\n" * 40)
        put(add("noise.png", "failed", "noise.png", "no picture"), bytes(range(256)) * 8)
        cut("cut-half.jpg", 0.5)
        cut("cut-end.jpg", 0.97)
        cut("cut-half.png", 0.5)
        cut("cut-end.png", 0.97)
        put(add("empty.jpg", "failed", "empty.jpg", "empty"), b"")
        put(add("empty.png", "failed", "empty.png", "empty"), b"")
        put(add("huge.png", "failed", "huge.png", "60000x60000"), png_that_claims(60000, 60000))
        picture("1x1.png", 1, 1)
        picture("3x2.jpg", 3, 2)
        long = add("20000x3.png", "done")
        plain(self.path("strip.png"), 20000, 3)
        os.rename(self.path("strip.png"), long)
        # Names.
        for name in ["寫真 café.jpg", "two words.png", "new\nline.jpg", "-dash.jpg", "--model.png", "semi;colon'quote\".jpg"]:
            picture(name, 40, 30)
        picture(b"not-utf8-\xff\xfe.jpg", 40, 30)
        # Loops: a link to itself, a link to the folder above, a link to nothing.
        os.symlink("loop.jpg", add("loop.jpg", "failed", "loop.jpg"))
        os.symlink("..", os.path.join(library, "sub/up"))
        os.symlink("nowhere.jpg", add("broken.jpg", "failed", "broken.jpg", "link"))
        unreadable = add("unreadable.jpg", "failed", "unreadable.jpg", "Permission denied")
        plain(unreadable, 50, 50)
        os.chmod(unreadable, 0)
        # Neither picture nor video.
        put(add("notes.txt", "skipped"), b"remember the milk\n")
        return library, rows

    def check(self, library, rows, code, result, out):
        self.assertEqual(code, 1)
        files = {os.path.relpath(f["input"], library): f for f in result["files"]}
        for name, state, words in rows:
            with self.subTest(name=name):
                if isinstance(name, bytes):
                    # JSON cannot hold such a name as it is; the output's name is what counts.
                    self.assertTrue(os.path.isfile(os.path.join(os.fsencode(out), name)), name)
                    continue
                self.assertIn(name, files)
                self.assertEqual(files[name]["state"], state, files[name])
                # Names are quoted for people in messages; line breaks are not shown as such.
                for word in words:
                    self.assertIn(word, files[name]["error"])
                there = os.path.lexists(os.path.join(out, name))
                self.assertEqual(there, state == "done")
        self.assertFalse([f for f in files if f.startswith("sub/up")], "the loop was walked")
        for name, size in [("1x1.png", (1, 1)), ("3x2.jpg", (3, 2)), ("20000x3.png", (20000, 3))]:
            self.assertEqual(picture_header(os.path.join(out, name))[:2], size)

    def test_each_fails_alone_on_a_farm(self):
        library, rows = self.make()
        farm, out = self.farm, self.path("out")
        farm.start_coordinator()
        farm.start_worker("only", "--threads", "2")
        code, result = farm.submit(library, "--out", out, "--model", LITE, wrap=without_power([]))
        self.check(library, rows, code, result, out)

    def test_each_fails_alone_on_the_embedded_farm(self):
        library, rows = self.make()
        out = self.path("out")
        code, result = self.farm.submit(library, "--out", out, "--model", LITE, "--local", local=True, wrap=without_power([]))
        self.check(library, rows, code, result, out)

    def test_a_name_with_a_leading_dash_on_the_command_line(self):
        plain(self.path("-x.jpg"), 40, 30)
        code, result = self.farm.submit("--local", "--", "-x.jpg", local=True, cwd=self.folder)
        self.assertEqual(code, 0, result)
        self.assertTrue(os.path.isfile(self.path("-x-enhanced.jpg")))


class BadRequestsTest(FarmTest):
    """What is refused before any work: exit codes 2 and 3, and what standard error says."""

    def refused(self, arguments, code, *words, **options):
        result = self.farm.client("submit", *arguments, **options)
        self.assertEqual(result.returncode, code, result.stdout + result.stderr)
        for word in words:
            self.assertIn(word, result.stderr)
        return result

    def test_two_inputs_one_output(self):
        library = self.path("library")
        os.mkdir(library)
        plain(os.path.join(library, "same.jpg"), 40, 30)
        plain(os.path.join(library, "same.png"), 40, 30)
        self.refused([library, "--format", "png", "--local"], 2, "same.jpg", "same.png", "both", local=True)
        self.assertFalse(os.path.exists(library + "-enhanced/same.png"))

    def test_output_inside_the_input(self):
        library = self.path("library")
        os.mkdir(library)
        plain(os.path.join(library, "a.jpg"), 40, 30)
        self.refused([library, "--out", os.path.join(library, "out"), "--local"], 2, "inside the input folder", "--out", local=True)
        self.assertEqual(tree(library), ["a.jpg"])

    def test_output_not_writable(self):
        picture, out = plain(self.path("a.jpg"), 40, 30), self.path("out")
        os.mkdir(out)
        os.chmod(out, 0o555)
        result = self.refused([picture, "--out", out, "--local"], 3, out, "Permission denied", local=True, wrap=without_power([]))
        self.assertNotIn("terminate", result.stderr)

    def test_input_that_is_not_there(self):
        self.refused([self.path("nothing.jpg"), "--local"], 2, "nothing.jpg", "No such file", local=True)

    def test_unknown_model(self):
        self.farm.start_coordinator()
        picture = plain(self.path("a.jpg"), 40, 30)
        self.refused([picture, "--model", "no-such-model"], 3, "no-such-model", LITE)

    def test_coordinator_down_at_submit(self):
        picture = plain(self.path("a.jpg"), 40, 30)
        address = "127.0.0.1:%d" % free_port()
        self.refused([picture, "--coordinator", address, "--token-file", self.farm.token_file], 3, address, local=True)

    def test_coordinator_goes_away_in_the_middle(self):
        """The client waits for it and goes on when it is back."""
        farm, library, out = self.farm, self.path("library"), self.path("out")
        os.mkdir(library)
        for index in range(12):
            plain(os.path.join(library, "%02d.jpg" % index), 400, 300, shift=20 * index)
        farm.start_coordinator()
        farm.start_worker("only")
        client = farm.start_client("submit", library, "--out", out, "--model", LITE)
        wait_until(lambda: os.path.isdir(out) and len(tree(out)) >= 2, "2 outputs")
        farm.coordinator.kill()
        try:
            client.process.wait(5)
            self.fail("the client gave up:\n" + client.text())
        except subprocess.TimeoutExpired:
            pass
        farm.start_coordinator()
        self.assertEqual(client.process.wait(300), 0, client.text())
        self.assertEqual(tree(out), tree(library))

    def test_pack_whose_hash_is_wrong(self):
        self.farm.start_coordinator()
        pack = self.identity_pack("spoiled")
        with open(os.path.join(pack, "weights.safetensors"), "ab") as weights:
            weights.write(b" ")
        result = self.farm.client("models", "import", pack)
        self.assertEqual(result.returncode, 3, result.stderr)
        self.assertIn("SHA-256", result.stderr)
        self.assertIn("weights.safetensors", result.stderr)
        self.assertNotIn("spoiled", self.farm.client("models", "list").stdout)

    def test_shipped_pack_whose_hash_is_wrong(self):
        self.identity_pack("whole")
        pack = self.identity_pack("spoiled")
        with open(os.path.join(pack, "weights.safetensors"), "ab") as weights:
            weights.write(b" ")
        with self.assertRaises(AssertionError) as failure:
            self.farm.start_coordinator("--models", self.path("packs"))
            # Either it does not start, or it starts without the pack and says so.
            self.assertNotIn("spoiled", self.farm.client("models", "list").stdout)
            raise AssertionError(self.farm.coordinator.text())
        self.assertIn("SHA-256", str(failure.exception))
        self.assertIn("spoiled", str(failure.exception))


class FullDiskTest(FarmTest):
    def make_library(self, count, width=900, height=480):
        folder = self.path("library")
        os.mkdir(folder)
        for index in range(count):
            noise(os.path.join(folder, "%02d.tif" % index), width, height)  # 1.3 MB each, source and output
        return folder

    def import_identity(self):
        result = self.farm.client("models", "import", self.identity_pack())
        self.assertEqual(result.returncode, 0, result.stderr)

    def test_at_the_coordinator(self):
        """What does not fit waits for room, outputs that are fetched make it, and a picture that never fits fails by name."""
        farm, library, out = self.farm, self.make_library(24), self.path("out")  # 31 MB, and as much again for the outputs
        state = self.small_tmpfs("small-disk", 32 * MEBI)
        farm.start_coordinator("--models", os.path.dirname(self.identity_pack()), state=state)  # the shipped packs take most of the disk
        farm.start_worker("only")
        noise(os.path.join(library, "giant.tif"), 3400, 3400)  # 35 MB
        code, result = farm.submit(library, "--out", out, "--model", "identity", timeout=400)
        self.assertEqual(code, 1, result)
        states = {os.path.basename(f["input"]): f for f in result["files"]}
        giant = states.pop("giant.tif")
        self.assertEqual(giant["state"], "failed")
        self.assertRegex(giant["error"], "No space left|disk|full|room")
        self.assertEqual({f["state"] for f in states.values()}, {"done"}, states)

    def test_at_the_worker(self):
        """A cache that holds some pictures but not one: the others are done, the job says what it waits for, and room lets it end."""
        farm, library, out = self.farm, self.make_library(3), self.path("out")
        farm.start_coordinator()
        cache = self.small_tmpfs("small-disk", 8 * MEBI)
        farm.start_worker("only", "--cache", cache)
        self.import_identity()
        noise(os.path.join(library, "giant.tif"), 2400, 1900)  # 13.7 MB
        client = farm.start_client("submit", library, "--out", out, "--model", "identity")
        wait_until(lambda: os.path.isdir(out) and len(tree(out)) == 3, "the other three are done")
        job = farm.jobs()[0]["job_id"]
        reason = wait_until(lambda: "giant.tif" in farm.job(job)["waiting_reason"] and farm.job(job)["waiting_reason"], "the job says why")
        self.assertIn("No space left on device", reason)
        self.assertTrue(client.running(), client.text())
        subprocess.run(["mount", "-o", "remount,size=%d" % (64 * MEBI), cache], check=True)
        self.assertEqual(client.process.wait(300), 0, client.text())
        self.assertSamePixels(os.path.join(library, "giant.tif"), os.path.join(out, "giant.tif"))

    def test_at_the_client(self):
        """The outputs do not fit: exit code 1 or 3, the reason, nothing half written; with room the same submit ends well."""
        farm, library = self.farm, self.make_library(8)
        farm.start_coordinator()
        farm.start_worker("only", "--threads", "2")
        self.import_identity()
        out = self.small_tmpfs("small-disk", 4 * MEBI)
        result = farm.client("submit", library, "--out", out, "--model", "identity", "--json", timeout=300)
        self.assertIn(result.returncode, (1, 3), result.stdout + result.stderr)
        self.assertRegex(result.stdout + result.stderr, "No space left|disk is full")
        for name in tree(out):
            self.assertSamePixels(os.path.join(library, name), os.path.join(out, name))
        subprocess.run(["mount", "-o", "remount,size=%d" % (64 * MEBI), out], check=True)
        code, result = farm.submit(library, "--out", out, "--model", "identity")
        self.assertEqual(code, 0, result)
        self.assertEqual(tree(out), tree(library))


if __name__ == "__main__":
    if os.geteuid() != 0:  # to mount a small tmpfs
        os.execvp("unshare", ["unshare", "--map-root-user", "--mount", sys.executable] + sys.argv)
    unittest.main()
