"""A documentation page as a reader follows it: files to write, commands to give, in their order."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))

BLOCK = re.compile(r"(?:^`([\w./-]+)`:\n\n)?^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
"""A fenced block; one that is a file has its path on a line of its own in front of it."""


@dataclass(frozen=True)
class Command:
    """A line to give to a shell."""

    words: tuple[str, ...]
    environment: dict[str, str]
    """Variables set in front of it."""

    @property
    def line(self) -> str:
        """As a reader would type it."""
        return shlex.join([*(f"{name}={value}" for name, value in self.environment.items()), *self.words])


@dataclass(frozen=True)
class File:
    """Text to put into a file."""

    path: Path
    text: str

    def write(self) -> None:
        """Relative to the working directory."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(self.text, encoding="utf-8")


def steps(page: Path) -> Iterator[File | Command]:
    """Files and commands in the order of the page; blocks of output and the like are left out."""
    for path, language, text in BLOCK.findall(page.read_text(encoding="utf-8")):
        if path:
            yield File(Path(path), text)
        elif language == "sh":
            for line in text.replace("\\\n", " ").splitlines():
                yield command(line)


def command(line: str) -> Command:
    """A line taken apart."""
    words = shlex.split(line, comments=True)
    given = 0
    while given < len(words) and re.match(r"[A-Z_]+=", words[given]):
        given += 1
    return Command(tuple(words[given:]), dict(word.split("=", 1) for word in words[:given]))


def commands(page: Path) -> list[Command]:
    """All commands of a page."""
    return [step for step in steps(page) if isinstance(step, Command) and step.words]
