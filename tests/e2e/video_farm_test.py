"""Videos on several workers: the same frames however they are cut and shared, and through kills."""
import os
import re
import unittest

from farm import LITE, SAMPLES, FarmTest, ffmpeg, read, wait_until
from videos import decoded_frames, numbered, numbers, packets, probe, psnr, run, tone


def natural(path, frames, rate, size=(160, 90), pixel_format="yuv420p"):
    """A moving crop of a photograph: no two frames alike, and content as cameras see it."""
    ffmpeg("-loop", "1", "-i", os.path.join(SAMPLES, "4-open.jpg"), "-frames:v", frames, "-vf",
           "fps=%s,crop=%d:%d:x='mod(13*n,iw-ow)':y='mod(5*n,ih-oh)',format=%s" % (rate, size[0], size[1], pixel_format), "-c:v", "ffv1", "-g", 1, path)
    return path


class VideoFarmTest(FarmTest):
    def start(self, workers, farm=None):
        farm = farm or self.farm
        farm.start_coordinator()
        self.assertEqual(farm.client("models", "import", self.identity_pack()).returncode, 0)
        for i in range(workers):
            farm.start_worker("worker%d" % i)
        return farm

    def test_cuts_and_workers_change_no_frame(self):
        """425 frames shown in 8.5 s, 25 s and 170 s: 1, 3 and 17 segments of the same pictures."""
        library = self.path("library")
        os.makedirs(library)
        for name, rate in [("one", "50"), ("three", "17"), ("seventeen", "5/2")]:
            natural(os.path.join(library, name + ".mkv"), 425, rate)
        source = decoded_frames(os.path.join(library, "one.mkv"))
        self.assertEqual(len(set(source)), 425)
        reference = None
        for workers in (1, 2, 5):
            farm = self.start(workers, self.new_farm("farm%d" % workers))
            for model in ("identity", LITE):
                out = self.path("out-%s-%d" % (model, workers))
                code, result = farm.submit(library, "--out", out, "--model", model, "--codec", "ffv1")
                self.assertEqual(code, 0, result)
                if workers == 1 and model == "identity":
                    parts = [job for job in farm.jobs()]
                    self.assertEqual(parts[0]["tasks_done"], 1 + 3 + 17, parts)
                for name in ("one", "three", "seventeen"):
                    frames = decoded_frames(os.path.join(out, name + ".mkv"))
                    with self.subTest(workers=workers, model=model, name=name):
                        if model == "identity":
                            self.assertEqual(frames, source)
                        else:
                            reference = reference or frames
                            self.assertEqual(frames, reference)
            farm.stop()
        self.assertNotEqual(reference, source)

    def test_every_colour_keeps_its_samples(self):
        """With an identity model: natural content above 50 dB, saturated test patterns above 35 dB."""
        library = self.path("library")
        os.makedirs(library)
        rows = []
        for pixel_format in ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv422p10le", "yuv444p10le", "gray"]:
            for matrix in ["bt709", "smpte170m", "bt2020nc"]:
                for full in ["tv", "pc"]:
                    name = "%s-%s-%s.mkv" % (pixel_format, matrix, full)
                    tags = ["-colorspace", matrix, "-color_primaries", "bt709", "-color_trc", "bt709", "-color_range", full]
                    for kind in ("natural", "pattern"):
                        path = os.path.join(library, kind + "-" + name)
                        made = self.path("made.mkv")
                        if kind == "natural":
                            natural(made, 6, 10)
                        else:
                            ffmpeg("-f", "lavfi", "-i", "testsrc2=size=160x90:rate=10", "-frames:v", 6, "-c:v", "ffv1", made)
                        ffmpeg("-i", made, "-vf", "scale=in_range=tv:out_range=%s,format=%s" % (full, pixel_format), "-c:v", "ffv1", *tags, path)
                        rows.append((kind + "-" + name, 50 if kind == "natural" else 35))
        self.start(2)
        out = self.path("out")
        code, result = self.farm.submit(library, "--out", out, "--model", "identity", "--codec", "ffv1")
        self.assertEqual(code, 0, [f for f in result["files"] if f["state"] != "done"])
        worst = {}
        entries = "stream=pix_fmt,color_range,color_space,color_transfer,color_primaries"
        for name, least in rows:
            with self.subTest(name=name):
                source, output = os.path.join(library, name), os.path.join(out, name)
                tags = lambda path: probe(path, "-select_streams", "v:0", "-show_entries", entries)["streams"][0]
                self.assertEqual(tags(output), tags(source))
                value = psnr(output, source)
                worst[least] = min(worst.get(least, float("inf")), value)
                self.assertGreater(value, least)
        print("identity, FFV1: natural at least %s dB, patterns at least %s dB" % (worst[50], worst[35]))

    def test_everything_else_is_carried(self):
        """Chapters, several languages, ASS with its font, an attached picture, rotation, sample aspect."""
        frames = self.path("frames.mkv")
        numbered(frames, 50)
        tone(self.path("a.wav"), 2)
        with open(self.path("s.ass"), "w") as out:
            out.write("[Script Info]\nScriptType: v4.00+\n\n[V4+ Styles]\nFormat: Name, Fontname, Fontsize\nStyle: Default,Arial,20\n\n"
                      "[Events]\nFormat: Layer, Start, End, Style, Text\nDialogue: 0,0:00:00.20,0:00:01.00,Default,{\\i1}one\n")
        with open(self.path("chapters.txt"), "w") as out:
            out.write(";FFMETADATA1\ntitle=A title\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=1000\ntitle=first\n"
                      "[CHAPTER]\nTIMEBASE=1/1000\nSTART=1000\nEND=2000\ntitle=second\n")
        with open(self.path("font.ttf"), "wb") as out:
            out.write(bytes(range(256)) * 20)
        library = self.path("library")
        os.makedirs(library)
        rich = os.path.join(library, "rich.mkv")
        ffmpeg("-i", frames, "-i", self.path("a.wav"), "-i", self.path("s.ass"), "-i", self.path("chapters.txt"), "-map", "0:v", "-map", "1:a",
               "-map", "1:a", "-map", "2:s", "-map_metadata", "3", "-c:v", "libx264", "-vf", "setsar=16/15", "-c:a:0", "aac", "-c:a:1", "flac",
               "-c:s", "ass", "-metadata:s:a:0", "language=eng", "-metadata:s:a:1", "language=zho", "-metadata:s:s:0", "language=jpn",
               "-disposition:a:1", "default", "-attach", self.path("font.ttf"), "-metadata:s:t", "mimetype=application/x-truetype-font", rich)
        turned = os.path.join(library, "turned.mp4")
        ffmpeg("-i", frames, "-i", self.path("a.wav"), "-c:v", "libx264", "-c:a", "aac", self.path("flat.mp4"))
        ffmpeg("-i", self.path("flat.mp4"), "-c", "copy", "-metadata:s:v", "rotate=90", turned)
        self.start(2)
        code, result = self.farm.submit(library, "--out", self.path("out"), "--model", "identity")
        self.assertEqual(code, 0, result)

        def facts(path):
            found = probe(path, "-show_streams", "-show_chapters", "-show_format")
            rows = []
            for stream in found["streams"]:
                tags = stream.get("tags", {})
                matrix = [d.get("rotation") for d in stream.get("side_data_list", []) if "rotation" in d]
                rows.append((stream["codec_type"], stream.get("codec_name") if stream["codec_type"] != "video" else None, tags.get("language"),
                             tags.get("filename"), stream["disposition"]["default"], stream.get("sample_aspect_ratio"), matrix))
            chapters = [(c["start_time"], c["end_time"], c.get("tags", {}).get("title")) for c in found["chapters"]]
            return rows, chapters, found["format"].get("tags", {}).get("title")

        for name in ("rich.mkv", "turned.mp4"):
            with self.subTest(name=name):
                source, output = os.path.join(library, name), self.path("out", name)
                self.assertEqual(facts(output), facts(source))
                self.assertEqual(numbers(output), numbers(source))
                for stream in [s for s in ("a:0", "a:1", "s:0") if name == "rich.mkv" or s == "a:0"]:
                    self.assertEqual(packets(output, stream), packets(source, stream))
        extract = lambda path: run("ffmpeg", "-v", "quiet", "-nostdin", "-y", "-dump_attachment:t:0", self.path("dumped"), "-i", path, "-map", "0:a",
                                   "-f", "null", "-") and None or read(self.path("dumped"))
        self.assertEqual(extract(self.path("out", "rich.mkv")), read(self.path("font.ttf")))

    def test_pictures_and_videos_through_kills(self):
        """A worker and the coordinator are killed in the middle, and so is the client; the frames are those of a calm run."""
        library = self.path("library")
        os.makedirs(library)
        natural(self.path("n.mkv"), 240, 12, (320, 180))
        tone(self.path("a.wav"), 20)
        ffmpeg("-i", self.path("n.mkv"), "-i", self.path("a.wav"), "-c:v", "libx264", "-crf", 30, "-c:a", "aac", os.path.join(library, "clip.mp4"))
        ffmpeg("-i", os.path.join(library, "clip.mp4"), "-frames:v", 1, os.path.join(library, "still.png"))
        calm = self.start(1, self.new_farm("calm"))
        code, result = calm.submit(library, "--out", self.path("calm-out"), "--model", LITE, "--codec", "ffv1", "--container", "mkv")
        self.assertEqual(code, 0, result)
        calm.stop()

        farm, out = self.start(3), self.path("out")
        arguments = ["submit", library, "--out", out, "--model", LITE, "--codec", "ffv1", "--container", "mkv", "--json"]
        client = farm.start_client(*arguments)
        done = lambda: sum(job["tasks_done"] for job in farm.jobs())
        wait_until(lambda: done() >= 1, "the first task is done")
        farm.workers["worker1"].kill()
        client.kill()
        client = farm.start_client(*arguments, name="client2")
        wait_until(lambda: done() >= 2 or not client.running(), "the second task is done")
        farm.coordinator.kill()
        farm.start_coordinator()
        self.assertEqual(client.process.wait(600), 0, client.text())
        self.assertEqual(decoded_frames(os.path.join(out, "clip.mkv")), decoded_frames(self.path("calm-out", "clip.mkv")))
        self.assertEqual(packets(os.path.join(out, "clip.mkv"), "a:0"), packets(os.path.join(library, "clip.mp4"), "a:0"))
        self.assertSamePixels(os.path.join(out, "still.png"), self.path("calm-out", "still.png"))
        self.assertEqual(len(farm.jobs()), 1, "the second client went on with the first one's job")

    def test_excerpt_and_preview(self):
        library = self.path("library")
        os.makedirs(library)
        clip = os.path.join(library, "clip.mkv")
        ffmpeg("-i", numbered(self.path("n.mkv"), 100), "-c:v", "libx264", clip)
        self.start(1)
        code, result = self.farm.submit(clip, "--out", self.path("part"), "--model", "identity", "--frames", "31-60")
        self.assertEqual(code, 0, result)
        self.assertEqual(numbers(self.path("part", "clip.mkv")), list(range(30, 60)))
        code, result = self.farm.submit(clip, "--out", self.path("look"), "--model", LITE, "--preview", "4")
        self.assertEqual(code, 0, result)
        self.assertEqual(len(result["files"]), 4, result)
        self.assertFalse(os.path.exists(self.path("look", "clip.mkv")))
        self.assertTrue(os.path.exists(result["report"]))

    def test_held_frames_are_computed_once(self):
        """Every frame doubled, losslessly: half of the frames repeat."""
        clip = self.path("held.mkv")
        natural(self.path("n.mkv"), 40, 10, (320, 180))
        ffmpeg("-i", self.path("n.mkv"), "-vf", "fps=20", "-c:v", "ffv1", clip)
        self.start(1)
        code, result = self.farm.submit(clip, "--out", self.path("out"), "--model", LITE, "--codec", "ffv1")
        self.assertEqual(code, 0, result)
        frames = decoded_frames(self.path("out", "held.mkv"))
        self.assertEqual(len(frames), 80)
        self.assertEqual(frames[0::2], frames[1::2])
        report = read(self.path("out", "nsic-report", "report.json")).decode()
        repeated = [int(n) for n in re.findall(r'"frames_repeated":\s*(\d+)', report)]
        self.assertEqual(repeated, [40], report[:2000])


if __name__ == "__main__":
    unittest.main()
