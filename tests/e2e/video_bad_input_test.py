"""Every kind of bad video fails alone, with a message that names the file and the cure; what only looks bad is restored."""
import json
import os
import struct
import unittest

from farm import FarmTest, ffmpeg, read, tree, wait_until
from videos import frame_size, numbered, numbers, tone


def patch(path, offset, data):
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(data)


class VideoBadInputTest(FarmTest):
    def start(self):
        self.farm.start_coordinator()
        self.assertEqual(self.farm.client("models", "import", self.identity_pack()).returncode, 0)
        self.farm.start_worker("only")

    def make(self):
        """The library, and name -> (state, words of the message)."""
        library = self.path("library")
        os.makedirs(library)
        rows = {}

        def add(name, state, *words):
            rows[name] = (state, words)
            return os.path.join(library, name)

        base = numbered(self.path("base.mkv"), 75)
        sound = tone(self.path("sound.wav"), 3)
        plain = self.path("plain.mp4")
        ffmpeg("-i", base, "-i", sound, "-c:v", "libx264", "-g", 25, "-c:a", "aac", plain)
        whole = read(plain)

        def write(path, data):
            with open(path, "wb") as out:
                out.write(data)

        write(add("good.mp4", "done"), whole)
        write(add("cut.mp4", "failed", "cut.mp4", "cut off"), whole[:len(whole) // 2])
        ffmpeg("-i", plain, "-c", "copy", self.path("whole.mkv"))
        matroska = read(self.path("whole.mkv"))
        write(add("cut.mkv", "failed", "cut.mkv", "cut off"), matroska[:len(matroska) // 2])
        write(add("empty.mp4", "failed", "empty.mp4", "empty"), b"")
        write(add("text.mkv", "failed", "text.mkv", "is not a video"), b"this is not a video at all\n" * 50)
        ffmpeg("-i", sound, "-c:a", "aac", add("song.mp4", "failed", "song.mp4", "no video"))
        ffmpeg("-i", base, "-frames:v", 1, self.path("cover.jpg"))
        ffmpeg("-i", sound, "-i", self.path("cover.jpg"), "-map", 0, "-map", 1, "-c:a", "aac", "-c:v", "mjpeg", "-disposition:v", "attached_pic",
               add("cover.mp4", "failed", "cover.mp4", "cover picture"))
        ffmpeg("-i", base, "-c:v", "libx264", "-encryption_scheme", "cenc-aes-ctr", "-encryption_key", "00112233445566778899aabbccddeeff",
               "-encryption_kid", "00112233445566778899aabbccddeeff", add("locked.mp4", "failed", "locked.mp4", "encrypted"))
        with open(self.path("parts.txt"), "w") as parts:
            for size in ("128x96", "160x120"):
                ffmpeg("-i", base, "-vf", "scale=%s" % size.replace("x", ":"), "-c:v", "libx264", self.path(size + ".ts"))
                parts.write("file '%s'\n" % self.path(size + ".ts"))
        ffmpeg("-f", "concat", "-safe", 0, "-i", self.path("parts.txt"), "-c", "copy", add("changing.ts", "failed", "changing.ts", "changes to 160x120 pixels"))
        # Each frame has a cluster: the one at 1200 ms gets the time of the one before, or an earlier one.
        ffmpeg("-i", base, "-c:v", "mjpeg", self.path("intra.mkv"))
        cluster = lambda milliseconds: b"\xe7\x82" + struct.pack(">H", milliseconds)
        intra = read(self.path("intra.mkv"))
        self.assertEqual(intra.count(cluster(1200)), 1)
        write(add("repeated.mkv", "failed", "repeated.mkv", "time stamps", "1.16"), intra.replace(cluster(1200), cluster(1160)))
        write(add("back.mkv", "failed", "back.mkv", "time stamps"), intra.replace(cluster(1200), cluster(1001)))
        # A packet in the middle is overwritten: past its header, so that the container stays whole.
        ffmpeg("-i", base, "-c:v", "ffv1", "-level", 3, "-slicecrc", 1, "-g", 1, self.path("checked.mkv"))
        broken = bytearray(read(self.path("checked.mkv")))
        at = len(broken) // 2
        broken[at:at + 64] = bytes(64)
        write(add("corrupt.mkv", "failed", "corrupt.mkv", "--tolerate"), bytes(broken))

        # What only looks bad.
        lying = bytearray(whole)
        header = lying.index(b"mvhd")
        lying[header + 20:header + 24] = struct.pack(">I", 999999999)
        write(add("lying.mp4", "done"), bytes(lying))
        # AVI has no time stamps of presentation, only an order.
        ffmpeg("-i", plain, "-map", "0:v", "-c", "copy", add("unstamped.avi", "done"))
        ffmpeg("-i", base, "-frames:v", 1, "-c:v", "libx264", add("one-frame.mp4", "done"))
        ffmpeg("-i", base, "-frames:v", 10, "-vf", "scale=853:479", "-c:v", "libx264", "-pix_fmt", "yuv444p", add("odd.mkv", "done"))
        ffmpeg("-i", plain, "-i", self.path("cover.jpg"), "-map", 0, "-map", 1, "-c", "copy", "-disposition:v:1", "attached_pic",
               add("with-cover.mp4", "done"))
        return library, rows

    def test_each_fails_alone_and_says_why(self):
        library, rows = self.make()
        self.start()
        out = self.path("out")
        code, result = self.farm.submit(library, "--out", out, "--model", "identity")
        files = {os.path.relpath(f["input"], library): f for f in result["files"]}
        self.assertEqual(set(files), set(rows))
        for name, (state, words) in rows.items():
            with self.subTest(name=name):
                self.assertEqual(files[name]["state"], state, files[name])
                for word in words:
                    self.assertIn(word, files[name]["error"])
        self.assertEqual(code, 1)
        self.assertEqual(numbers(files["lying.mp4"]["output"]), list(range(75)))
        self.assertEqual(numbers(files["unstamped.avi"]["output"]), list(range(75)))
        self.assertEqual(numbers(files["with-cover.mp4"]["output"]), list(range(75)))
        self.assertEqual(numbers(files["one-frame.mp4"]["output"]), [0])
        self.assertEqual(frame_size(files["odd.mkv"]["output"]), (853, 479))
        self.assertEqual([name for name in tree(out) if name.startswith(".")], [])

        code, result = self.farm.submit(os.path.join(library, "corrupt.mkv"), "--out", self.path("tolerated"), "--model", "identity", "--tolerate")
        self.assertEqual(code, 0, result)
        shown = numbers(result["files"][0]["output"])
        self.assertEqual(len(shown), 75)
        wrong = [i for i, number in enumerate(shown) if number != i]
        self.assertLessEqual(len(wrong), 2)
        report = json.loads(read(self.path("tolerated", "nsic-report", "report.json")))
        self.assertGreaterEqual(report["files"][0]["video"]["frames_concealed"], 1, report)

    def test_a_container_that_cannot_hold_it_is_refused_before_the_job(self):
        self.start()
        clip = self.path("clip.mkv")
        with open(self.path("s.srt"), "w") as out:
            out.write("1\n00:00:00,100 --> 00:00:00,500\none\n")
        ffmpeg("-i", numbered(self.path("n.mkv"), 25), "-i", self.path("s.srt"), "-c:v", "libx264", "-c:s", "ass", clip)
        result = self.farm.client("submit", clip, "--out", self.path("out"), "--model", "identity", "--container", "mp4")
        self.assertEqual(result.returncode, 2, result.stderr)
        for word in ("clip.mkv", "ass", "mp4", "--drop-streams"):
            self.assertIn(word, result.stderr)
        self.assertEqual(self.farm.jobs(), [])
        code, result = self.farm.submit(clip, "--out", self.path("out"), "--model", "identity", "--container", "mp4", "--drop-streams")
        self.assertEqual(code, 0, result)
        self.assertEqual(os.path.basename(result["files"][0]["output"]), "clip.mp4")

    def test_a_source_that_changes_is_noticed(self):
        self.farm.start_coordinator()
        self.assertEqual(self.farm.client("models", "import", self.identity_pack()).returncode, 0)
        clip = self.path("clip.mp4")
        ffmpeg("-i", numbered(self.path("n.mkv"), 50), "-c:v", "libx264", clip)
        client = self.farm.start_client("submit", clip, "--out", self.path("out"), "--model", "identity", "--json")
        wait_until(lambda: any(job["tasks_queued"] == 1 for job in self.farm.jobs()), "the source has been sent")
        with open(clip, "ab") as out:
            out.write(b"more")
        self.farm.start_worker("only")
        self.assertEqual(client.process.wait(300), 1, client.text())
        self.assertIn("changed", client.text())
        self.assertEqual([name for name in tree(self.path("out")) if name.endswith(".mp4")], [])


if __name__ == "__main__":
    unittest.main()
