"""What the documents name exists: every flag in a program's help, every file in the repository, the same commands in both languages."""
import os
import re
import subprocess
import unittest

from farm import BIN, REPOSITORY

COMMANDS = {"nsic-coordinator": ["serve"], "nsic-worker": ["run"],
            "nsic-client": ["submit", "jobs", "status", "watch", "fetch", "cancel", "pause", "resume", "retry", "workers", "assess", "bench", "models"]}
# Its help says more than the README, which shows the way to a model of one's own.
TRAINER = {"nsic-train": ["corpus", "fit", "fit-judge", "eval", "eval-judges", "export", "side-by-side"]}
# Flags of other programs and of our scripts.
FOREIGN = {"--preset", "--build", "--install", "--system", "--runtime", "--scale", "--output-on-failure", "--test-dir", "--help"}


def text(name):
    with open(os.path.join(REPOSITORY, name)) as file:
        return file.read()


def flags(of):
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]*[a-z]", of))


def program_flags(programs):
    known = set()
    for program, commands in programs.items():
        for command in [[]] + [[c] for c in commands]:
            known |= flags(subprocess.run([os.path.join(BIN, program)] + command + ["--help"], check=True, stdout=subprocess.PIPE,
                                          text=True).stdout)
    return known


class DocumentationTest(unittest.TestCase):
    def test_every_flag_exists(self):
        known = program_flags({**COMMANDS, **TRAINER}) | FOREIGN
        for name in ["README.md", "README.zh-Hant.md"]:
            docker_apart = re.sub(r"`?docker compose[^`\n]*", "", text(name))
            with self.subTest(document=name):
                self.assertEqual(flags(docker_apart) - known, set())

    def test_every_flag_of_the_programs_is_documented(self):
        documented = flags(text("README.md"))
        self.assertEqual(program_flags(COMMANDS) - documented - {"--version", "--config", "--log-level", "--verbose", "--all", "--limit"}, set())

    def test_both_languages_have_the_same_flags_and_blocks(self):
        english, chinese = text("README.md"), text("README.zh-Hant.md")
        self.assertEqual(flags(english), flags(chinese))
        self.assertEqual(english.count("\n## "), chinese.count("\n## "))
        self.assertEqual(english.count("\n    "), chinese.count("\n    "))

    def test_every_file_exists(self):
        for name in ["README.md", "README.zh-Hant.md", "CONTRIBUTING.md"]:
            content = text(name)
            paths = re.findall(r"\]\(([^)#]+)\)", content)
            paths += re.findall(r"`((?:core|models|coordinator|worker|client|deploy|tests|proto|\.ci)/[\w./-]+)`", content)
            for path in (p for p in paths if not re.search("MODULE|000N", p)):
                with self.subTest(document=name, path=path):
                    self.assertTrue(os.path.exists(os.path.join(REPOSITORY, path)), path)


if __name__ == "__main__":
    unittest.main()
