"""The report in a real browser: every file has its row, the pictures load, and the slider cuts between before and after."""
import os
import shutil
import unittest
import urllib.parse

from browser import Browser
from farm import LITE, FarmTest, wait_until
from pictures import mixed_library, plain


class ReportTest(FarmTest):
    def test_rows_pictures_and_slider(self):
        library, out = mixed_library(self.path("library"), 8), self.path("out")
        plain(os.path.join(library, "photo of a 花.jpg"), 600, 400)
        cut = plain(os.path.join(library, "cut.jpg"), 300, 200)
        os.truncate(cut, os.path.getsize(cut) // 2)
        self.write("library/notes.txt", "not a picture")
        code, result = self.farm.submit(library, "--out", out, "--model", LITE, "--local", local=True)
        self.assertEqual(code, 1, result)
        files = result["files"]
        self.assertEqual(len(files), 11)
        self.assertEqual(result["report"], os.path.join(out, "nsic-report/index.html"))
        for name in ["report.json", "report.csv"]:
            self.assertTrue(os.path.getsize(os.path.join(out, "nsic-report", name)) > 0)

        with Browser() as browser:
            browser.open("file://" + urllib.parse.quote(result["report"]))
            rows = browser.run("return [...document.querySelectorAll('#rows tr')].map(row => row.innerText)")
            self.assertEqual(len(rows), len(files), rows)
            for file in files:
                with self.subTest(file=file["input"]):
                    row = [r for r in rows if os.path.basename(file["input"]) in r]
                    self.assertEqual(len(row), 1, rows)
                    self.assertIn(file["state"], row[0])
                    self.assertIn(file["error"].splitlines()[0] if file["error"] else file["model"], row[0])
            thumbnails = browser.run("return [...document.querySelectorAll('#rows img')].map(i => i.complete ? i.naturalWidth : 0)")
            self.assertEqual(len(thumbnails), 18)
            self.assertNotIn(0, thumbnails)

            # The comparison of one picture at full size.
            browser.run("""[...document.querySelectorAll('#rows tr')].find(row => row.innerText.includes('photo of a 花.jpg'))
                           .querySelector('button').click()""")
            loaded = wait_until(lambda: browser.run("""
                const images = [...document.querySelectorAll('dialog img')];
                return images.length === 2 && images.every(i => i.complete && i.naturalWidth > 0) && images.map(i => i.naturalWidth)"""),
                                "both pictures are loaded", timeout=30)
            self.assertEqual(loaded, [600, 600])

            def cut_at():
                return browser.run("return parseFloat(getComputedStyle(document.querySelector('dialog .compare')).getPropertyValue('--cut'))")

            def visible_before():
                return browser.run("return getComputedStyle(document.querySelector('dialog .before')).clipPath")

            self.assertEqual(cut_at(), 50)
            before = visible_before()
            x, y, width, height = browser.run("""const r = document.querySelector('dialog .compare').getBoundingClientRect();
                                                 return [r.x, r.y, r.width, r.height]""")
            browser.drag((x + width * 0.5, y + height * 0.5), (x + width * 0.8, y + height * 0.5))
            self.assertAlmostEqual(cut_at(), 80, delta=1)
            self.assertNotEqual(visible_before(), before)
            browser.screenshot(self.path("comparison.png"))
            browser.run("document.getElementById('close').click()")
            browser.screenshot(self.path("report.png"))
            self.assertEqual(browser.run("document.getElementById('language').click(); return document.documentElement.lang"), "zh-Hant")
        keep = os.environ.get("NSIC_KEEP_SCREENSHOTS")
        if keep:
            for name in ["comparison.png", "report.png"]:
                shutil.copy(self.path(name), keep)


if __name__ == "__main__":
    unittest.main()
