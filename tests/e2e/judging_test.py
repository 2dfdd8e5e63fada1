"""Files are scored before and after, `--model auto` takes a model for each, and `assess` judges pictures by themselves.

What a trained recommender sees is for the trainer's tests. Here its weights, and the scorer's, are made by hand, so that what they say can
be told beforehand: JPEG files are photographs with light damage; what is red is a drawing with heavy damage, what is blue a mosaic, and
the rest is clean. The scorer goes by brightness.
"""
import csv
import hashlib
import json
import math
import os
import shutil
import struct
import unittest
import urllib.parse

from browser import Browser
from farm import REPOSITORY, FarmTest, decoded, ffmpeg, tree, vips
from pictures import plain

PACKS = os.path.join(REPOSITORY, "models/packs")
LABELS = ["photograph-clean", "photograph-light", "photograph-heavy", "drawing-clean", "drawing-light", "drawing-heavy", "mosaic"]
RECOMMENDS = {"photograph-light": "kairitsu-lite", "photograph-heavy": "kairitsu-lite", "drawing-light": "kyouka-lite",
              "drawing-heavy": "kyouka-lite", "mosaic": "ritsuka-lite"}
FEATURES = 4


def write_pack(folder, card, tensors):
    """A pack with these fp32 tensors: name -> (shape, {flat index: value}); all other values are zero."""
    os.makedirs(folder)
    header, data = {}, b""
    for name, (shape, values) in sorted(tensors.items()):
        count = 1
        for side in shape:
            count *= side
        numbers = [0.0] * count
        for at, value in values.items():
            numbers[at] = value
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + 4 * count]}
        data += struct.pack("<%df" % count, *numbers)
    text = json.dumps(header).encode()
    weights = struct.pack("<Q", len(text)) + text + data
    with open(os.path.join(folder, "weights.safetensors"), "wb") as out:
        out.write(weights)
    tiling = {"tile": 256, "halo": 0, "overlap": 0, "multiple": 1, "blend": "none"}
    card = {"format": 1, "parameters": {"features": FEATURES}, "scale": 1, "tiling": tiling, "licence": "Apache-2.0", "description": "of a test",
            "weights_sha256": hashlib.sha256(weights).hexdigest(), **card}
    with open(os.path.join(folder, "model.json"), "w") as out:
        json.dump(card, out)


NOTHING = math.log(0.01)  # what is pooled of a channel that is 0 everywhere


def tile_net(hints, outputs, head, hidden, output, output_bias=None):
    """The tensors of a network for tiles (models/arch/tile_net.h) of which only these values are not zero. What is pooled of the head is
    the logarithm of the mean of its channels, less NOTHING here; then come the levels, the squares, and the hints."""
    pooled = sum(FEATURES * (level + 1) for level in range(4)) + FEATURES * 4 + hints
    tensors = {"head.weight": ([FEATURES, 24, 3, 3], head), "head.bias": ([FEATURES], {}),
               "hidden.weight": ([FEATURES * 4, pooled], {unit * pooled + (at if at >= 0 else pooled + at): value
                                                          for (unit, at), value in hidden.items()}),
               "hidden.bias": ([FEATURES * 4], {unit: -NOTHING * value for (unit, at), value in hidden.items() if at >= 0}),
               "output.weight": ([outputs, FEATURES * 4], {row * FEATURES * 4 + unit: value for (row, unit), value in output.items()}),
               "output.bias": ([outputs], output_bias or {})}
    for level in range(3):
        channels = FEATURES * (level + 2)
        tensors["down%d.weight" % level] = ([channels, 4 * FEATURES * (level + 1)], {})
        tensors["down%d.bias" % level] = ([channels], {})
        for conv in range(2):
            tensors["block%d.%d.weight" % (level, conv)] = ([channels, channels, 3, 3], {})
            tensors["block%d.%d.bias" % (level, conv)] = ([channels], {})
    return tensors


def head_channel(channel, red=0.0, green=0.0, blue=0.0):
    """Weights of one channel of the head: a mean over each cell's four pixels of each colour."""
    weights = {}
    for colour, weight in enumerate([red, green, blue]):
        for pixel in range(4):
            weights[((channel * 24 + colour * 4 + pixel) * 3 + 1) * 3 + 1] = weight / 4
    return weights


def make_packs(folder):
    os.makedirs(folder)
    shutil.copytree(os.path.join(PACKS, "kairitsu-lite"), os.path.join(folder, "kairitsu-lite"))
    with open(os.path.join(PACKS, "kairitsu-lite/model.json")) as card_file:
        original = json.load(card_file)
    for number, name in enumerate(["kyouka-lite", "ritsuka-lite"], 1):
        shutil.copytree(os.path.join(PACKS, "kairitsu-lite"), os.path.join(folder, name))
        card = json.loads(json.dumps(original))
        card["name"] = name
        card["tiling"]["tile"] += 64 * number  # another pack: the name is no part of its identity
        with open(os.path.join(folder, name, "model.json"), "w") as out:
            json.dump(card, out)
    # Channel 0 rises with red over blue, channel 1 with blue over red; the hint that there are JPEG tables is the third from the end.
    write_pack(os.path.join(folder, "ns-c"),
               {"name": "ns-c", "task": "classify", "architecture": "tile-c", "labels": LABELS, "recommends": RECOMMENDS},
               tile_net(3, len(LABELS), {**head_channel(0, red=1, blue=-1), **head_channel(1, red=-1, blue=1)},
                        {(0, 0): 1.0, (1, 1): 1.0, (2, -3): 1.0},
                        {(LABELS.index("drawing-heavy"), 0): 12.0, (LABELS.index("mosaic"), 1): 12.0,
                         (LABELS.index("photograph-light"), 2): 60.0},
                        {LABELS.index("photograph-clean"): 10.0}))
    # Brighter is better: what is pooled is 0 up to the middle grey and 5.3 for white.
    write_pack(os.path.join(folder, "ns-iqa"), {"name": "ns-iqa", "task": "score", "architecture": "tile-iqa"},
               tile_net(0, 1, head_channel(0, red=1 / 3, green=1 / 3, blue=1 / 3), {(0, 0): 1.0}, {(0, 0): 0.25}))
    return folder


def flat(path, width, height, red, green, blue):
    vips("black", path + ".v", width, height, "--bands", "3")
    vips("linear", path + ".v", path + ".2.v", "1", "%d %d %d" % (red, green, blue), "--uchar")
    vips("copy", path + ".2.v", path, "--interpretation", "srgb")
    os.remove(path + ".v")
    os.remove(path + ".2.v")
    return path


class JudgingTest(FarmTest):
    def start(self):
        self.farm.start_coordinator("--models", make_packs(self.path("packs")))
        self.farm.start_worker("desk")

    def make_library(self):
        os.makedirs(self.path("library"))
        plain(self.path("library/photograph.jpg"), 400, 300)
        flat(self.path("library/drawing.png"), 300, 200, 250, 40, 30)
        flat(self.path("library/mosaic.png"), 200, 200, 20, 60, 240)
        flat(self.path("library/clean.png"), 321, 123, 200, 200, 200)
        return self.path("library")

    def test_each_file_gets_its_model_and_its_scores(self):
        self.start()
        library, out = self.make_library(), self.path("out")
        code, result = self.farm.submit(library, "--out", out)
        self.assertEqual(code, 0, result)
        expected = {"photograph.jpg": ("kairitsu-lite", "photograph-light"), "drawing.png": ("kyouka-lite", "drawing-heavy"),
                    "mosaic.png": ("ritsuka-lite", "mosaic"), "clean.png": ("", "photograph-clean")}
        files = {os.path.basename(file["input"]): file for file in result["files"]}
        for name, (model, label) in expected.items():
            with self.subTest(file=name):
                self.assertEqual(files[name]["model"], model)
                self.assertEqual(files[name]["label"], label)
                self.assertEqual(files[name]["recommendation"], model or "none")
                self.assertGreater(files[name]["probability"], 0.9)
                for score in ["score_before", "score_after"]:
                    self.assertGreaterEqual(files[name][score], 50)
                    self.assertLessEqual(files[name][score], 100)
        self.assertEqual(decoded(os.path.join(library, "clean.png")), decoded(os.path.join(out, "clean.png")))
        self.assertAlmostEqual(files["clean.png"]["score_before"], files["clean.png"]["score_after"], places=6)

        # The same numbers everywhere.
        change = sum(f["score_after"] - f["score_before"] for f in files.values()) / 4
        status = self.farm.job(result["job_id"])
        self.assertAlmostEqual(status["scores"]["change"], change, places=6)
        self.assertAlmostEqual(status["scores"]["files"], 4, places=6)
        self.assertRegex(self.farm.client("status", result["job_id"]).stdout, r"quality +\d+\.\d -> \d+\.\d \([+-]\d+\.\d NS-IQA\) over 4 files")
        with open(os.path.join(out, "nsic-report/report.csv"), newline="") as report:
            rows = {os.path.basename(row["input"]): row for row in csv.DictReader(report)}
        self.assertAlmostEqual(float(rows["photograph.jpg"]["score_after"]), files["photograph.jpg"]["score_after"], delta=0.006)
        self.assertEqual(rows["clean.png"]["recommendation"], "none")

        # Again: everything is there, and what is known of it, too. With a model of one's own the advice stays.
        code, again = self.farm.submit(library, "--out", out)
        self.assertEqual((code, again["job_id"]), (0, result["job_id"]))
        self.assertEqual(again["files"], result["files"])
        code, own = self.farm.submit(library, "--out", self.path("own"), "--model", "kairitsu-lite")
        self.assertEqual(code, 0, own)
        for file in own["files"]:
            name = os.path.basename(file["input"])
            self.assertEqual((file["model"], file["label"]), ("kairitsu-lite", expected[name][1]))

    def test_pictures_in_tiles_agree(self):
        self.start()
        os.makedirs(self.path("large"))
        plain(self.path("large/photograph.jpg"), 1400, 1000)
        flat(self.path("large/clean.png"), 1100, 900, 180, 180, 180)
        code, whole = self.farm.submit(self.path("large"), "--out", self.path("whole"))
        code_tiles, tiles = self.farm.submit(self.path("large"), "--out", self.path("tiles"), "--split-pixels", "300000")
        self.assertEqual((code, code_tiles), (0, 0), (whole, tiles))
        for name in tree(self.path("whole")):
            self.assertEqual(decoded(self.path("whole/" + name)), decoded(self.path("tiles/" + name)), name)
        for one, other in zip(whole["files"], tiles["files"]):
            self.assertEqual((one["model"], one["label"], one["probability"]), (other["model"], other["label"], other["probability"]))
            # Of a large picture samples are scored, and its tiles have others.
            self.assertAlmostEqual(one["score_before"], other["score_before"], delta=5)

    def test_a_video_has_a_series_of_scores(self):
        self.start()
        video = self.path("film.mkv")
        ffmpeg("-f", "lavfi", "-i", "testsrc2=size=160x120:rate=25:duration=6", "-f", "lavfi", "-i", "sine=duration=6", "-c:v", "libx264",
               "-g", "50", "-shortest", video)
        code, result = self.farm.submit(video, "--out", self.path("out"), "--score-every", "20", "--model", "kairitsu-lite")
        self.assertEqual(code, 0, result)
        with open(self.path("out/nsic-report/report.json")) as report:
            file = json.load(report)["files"][0]
        series = file["video"]["frame_scores"]
        self.assertEqual([row[0] for row in series], list(range(0, 150, 20)))
        self.assertAlmostEqual(file["score_before"], sum(row[1] for row in series) / len(series), places=6)
        self.assertAlmostEqual(self.farm.job(result["job_id"])["scores"]["after"], file["score_after"], places=6)
        self.assertIn(file["label"], LABELS)
        self.assertEqual(file["model"], "kairitsu-lite")

        code, chosen = self.farm.submit(video, "--out", self.path("auto"))
        self.assertEqual(code, 0, chosen)
        self.assertEqual(chosen["files"][0]["model"], RECOMMENDS.get(file["label"], ""))
        self.assertEqual(chosen["files"][0]["frames"], 150)

        with Browser() as browser:
            browser.open("file://" + urllib.parse.quote(result["report"]))
            points = browser.run("return [...document.querySelectorAll('#rows svg.graph polyline')].map(p => p.points.length)")
            self.assertEqual(points, [len(series)] * 2)
            self.assertIn("%.1f" % file["score_after"], browser.run("return document.querySelector('#rows').innerText"))
            self.keep(browser, "judged-video.png")

    def keep(self, browser, name):
        folder = os.environ.get("NSIC_KEEP_SCREENSHOTS")
        if folder:
            browser.screenshot(os.path.join(folder, name))

    def test_the_report_tells_what_was_seen(self):
        self.start()
        code, result = self.farm.submit(self.make_library(), "--out", self.path("out"))
        self.assertEqual(code, 0, result)
        with Browser() as browser:
            browser.open("file://" + urllib.parse.quote(result["report"]))
            text = browser.run("return document.body.innerText")
            for words in ["NS-IQA, mean change over 4 files", "recommended: drawing-heavy", "nothing to repair: photograph-clean"]:
                self.assertIn(words, text)
            self.keep(browser, "judged.png")
            browser.run("document.getElementById('language').click()")
            text = browser.run("return document.body.innerText")
            for words in ["NS-IQA 平均變化（4 個檔案）", "建議：drawing-heavy", "無需修復：photograph-clean"]:
                self.assertIn(words, text)
            self.keep(browser, "judged-zh.png")

    def test_a_farm_without_judges_restores_and_says_so(self):
        packs = self.path("packs")
        os.makedirs(packs)
        shutil.copytree(os.path.join(PACKS, "kairitsu-lite"), os.path.join(packs, "kairitsu-lite"))
        self.farm.start_coordinator("--models", packs)
        self.farm.start_worker("desk")
        result = self.farm.client("submit", self.make_library(), "--out", self.path("out"))
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("no recommender (a model named ns-c): --model auto takes kairitsu-lite", result.stderr)
        self.assertIn("not scored: no scorer is installed (a model named ns-iqa)", result.stdout)
        with open(self.path("out/nsic-report/report.json")) as report:
            told = json.load(report)
        self.assertEqual((told["no_scorer"], told["no_recommender"], told["scores"]), (True, True, None))
        self.assertEqual({file["model"] for file in told["files"]}, {"kairitsu-lite"})
        assessed = self.farm.client("assess", self.path("library/clean.png"))
        self.assertEqual(assessed.returncode, 3)
        self.assertIn("no scorer (a model named ns-iqa)", assessed.stderr)

    def test_assess_on_this_machine_alone(self):
        packs = make_packs(self.path("packs"))
        for pack in ["ns-iqa", "ns-c"]:
            imported = self.farm.client("models", "import", os.path.join(packs, pack), "--name", pack, "--local", local=True)
            self.assertIn(imported.returncode, (0, 3), imported.stderr)  # 3: it came with the programs, as another pack
        picture = plain(self.path("photograph.jpg"), 300, 200)
        result = self.farm.client_json("assess", picture, "--local", "--json", local=True)
        self.assertEqual(result["files"][0]["path"], picture)
        self.assertTrue(0 <= result["files"][0]["score"] <= 100, result)
        self.assertTrue(0 < result["files"][0]["probability"] <= 1, result)
        self.assertEqual(self.farm.client_json("jobs", "--local", "--json", local=True)["jobs"], [])

    def test_assess(self):
        self.start()
        library = self.make_library()
        one = self.farm.client_json("assess", os.path.join(library, "photograph.jpg"), "--json")
        self.assertEqual(set(one), {"files", "better"})
        self.assertIsNone(one["better"])
        self.assertEqual(one["files"][0]["path"], os.path.join(library, "photograph.jpg"))
        self.assertEqual((one["files"][0]["recommendation"], one["files"][0]["label"]), ("kairitsu-lite", "photograph-light"))

        dark = flat(self.path("dark.png"), 321, 123, 150, 150, 160)
        heatmap = self.path("differences.png")
        two = self.farm.client_json("assess", dark, os.path.join(library, "clean.png"), "--json", "--out", heatmap)
        self.assertEqual(two["better"], os.path.join(library, "clean.png"))
        self.assertAlmostEqual(two["mse"], (2 * 50 ** 2 + 40 ** 2) / 3, places=6)
        self.assertAlmostEqual(two["psnr"], 10 * math.log10(255 ** 2 / two["mse"]), places=6)
        self.assertLess(two["ssim"], 1)
        self.assertEqual(decoded(heatmap)[:2], (321, 123))
        same = self.farm.client_json("assess", dark, dark, "--json")
        self.assertEqual((same["better"], same["mse"], same["psnr"]), (None, 0, None))
        text = self.farm.client("assess", dark, os.path.join(library, "clean.png")).stdout
        self.assertRegex(text, r"better +\S+clean\.png")
        self.assertEqual(self.farm.jobs(), [], "nothing is left at the coordinator")

        self.write("text.png", "this is no picture")
        cut = plain(self.path("cut.jpg"), 400, 300)
        os.truncate(cut, os.path.getsize(cut) // 2)
        for arguments, code, words in [([self.path("gone.png")], 2, "gone.png"), ([self.path("text.png")], 2, "text.png"),
                                       ([cut], 1, "cut.jpg"), ([dark, os.path.join(library, "mosaic.png")], 2, "one size"),
                                       ([dark, "--out", heatmap], 2, "--out"), ([dark] * 3, 2, "one picture, or two")]:
            with self.subTest(arguments=arguments):
                failed = self.farm.client("assess", *arguments)
                self.assertEqual(failed.returncode, code, failed.stderr)
                self.assertIn(words, failed.stderr)
        self.assertEqual(self.farm.jobs(), [])


if __name__ == "__main__":
    unittest.main()
