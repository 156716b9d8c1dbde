"""What a hostile file is, and where it is made."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

SECRET = b"SECRET" * 1024


@dataclass(frozen=True, slots=True)
class Scene:
    """The folders that a file is made in.

    Attributes:
        root: of it all.
    """

    root: Path

    @property
    def model(self) -> Path:
        """The folder of the model file: what lies here may be read."""
        return self.root / "model"

    @property
    def outside(self) -> Path:
        """A folder beside it: nothing in here may be opened."""
        return self.root / "outside"

    @property
    def secret(self) -> Path:
        """A file that an attacker would like to have."""
        return self.outside / "secret.bin"

    @property
    def here(self) -> Path:
        """The folder that the command is run in; it holds a secret of the same name, too."""
        return self.root / "here"

    @property
    def canary(self) -> Path:
        """What code in the file makes when it runs: a folder."""
        return self.root / "canary"

    def set_up(self) -> "Scene":
        """Make the folders and the secrets."""
        for folder in (self.model, self.outside, self.here):
            folder.mkdir(parents=True)
        self.secret.write_bytes(SECRET)
        (self.here / "secret.bin").write_bytes(SECRET)
        return self

    def put(self, name: str, data: bytes) -> Path:
        """Write a file beside the model."""
        path = self.model / name
        path.write_bytes(data)
        return path


Make = Callable[[Scene], Path]


@dataclass(frozen=True, slots=True)
class Case:
    """A file and what must come of it.

    Attributes:
        make: makes it and says which file is to be named on the command line.
        words: a regular expression that the one message has to match.
        codes: exit codes that are right.
        options: of the command, after the file.
        naive: a loader of `naive.py` that runs the code in the file, where it has some: this proves that it is live.
        seconds: of processor time that reading it may take.
        peak: most bytes of memory.
    """

    make: Make
    words: str
    codes: tuple[int, ...] = (3,)
    options: tuple[str, ...] = ()
    naive: str = ""
    seconds: int = 5
    peak: int = 1 << 30


@dataclass(frozen=True, slots=True)
class Harmless:
    """A file that looks like an attack and is none to us: it is opened, and nothing in it happens.

    Attributes:
        make: as above.
        printed: regular expressions that standard output and standard error together have to match.
        absent: what they must not contain.
        options: of the command, after the file.
        naive: as above.
        codes: 0, or what else is right.
    """

    make: Make
    printed: tuple[str, ...]
    absent: tuple[str, ...] = ()
    options: tuple[str, ...] = field(default=())
    naive: str = ""
    codes: tuple[int, ...] = (0,)
