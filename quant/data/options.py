"""How data are to be read: one record for calibration and evaluation, so that both are prepared alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from profiler.errors import UsageError
from profiler.progress import Progress, silent
from profiler.sources.limits import DEFAULT, Limits
from quant.data.preprocess_options import NEEDED, as_preprocessing

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from quant.data.preprocessing import Preprocessing


@dataclass(frozen=True)
class Options:
    """What the user says about the data.

    Attributes:
        preprocessing: of pictures, and where it was found; None where nothing was said.
        model: the target, whose zoo may say how pictures are prepared where `preprocessing` does not: `timm:NAME`.
        classes: a file with the names of the classes.
        images: the folder that paths in a CSV or COCO file are relative to; that file's own where None.
        strict: a picture that cannot be read is an error.
        trust: paths and links may lead out of their folder.
        limits: how much a file may ask for.
        progress: called with the stage and the part of it that is done.
    """

    preprocessing: tuple[Preprocessing, str] | None = None
    model: object = None
    classes: str | Path | None = None
    images: str | Path | None = None
    strict: bool = False
    trust: bool = False
    limits: Limits = DEFAULT
    progress: Progress = silent

    def for_pictures(self, name: str) -> tuple[Preprocessing, str]:
        """What to do to pictures, and a note that says all of it.

        Raises:
            UsageError: nothing was said: sizes, scales and means differ from network to network.
            DataError: the zoo's configuration asks for what is not done here.
        """
        given = self.preprocessing
        if given is None and isinstance(self.model, str) and self.model.startswith("timm:"):
            given = as_preprocessing(self.model)
        if given is None:
            raise UsageError(f"{name}: holds pictures, and how the model wants them is not known:\n{NEEDED}")
        found, source = given
        return found, f"{name}: pictures prepared {source}: {found.described()}"


def data_options(
    preprocess: Any = None,  # noqa: ANN401  # every form that as_preprocessing takes
    *,
    classes: str | Path | None = None,
    images: str | Path | None = None,
    strict: bool = False,
) -> Options:
    """Options for `quantize`, `compare`, `evaluate` and `open_data`.

    Args:
        preprocess: how pictures are prepared: a `Preprocessing`, a mapping of its keys, or texts as `--preprocess`
            takes them. Where it is None, `quantize` asks the zoo of a target `timm:NAME`.
        classes: a file with the names of the classes, the first for 0, or a JSON object from name to number.
        images: the folder that paths in a CSV or COCO file are relative to; that file's own where None.
        strict: a picture that cannot be read is an error; otherwise it is skipped and named in the notes.

    Raises:
        UsageError: an unknown key of preprocessing, or a value that makes no sense.
        DataError: a configuration that cannot be read.
    """
    return Options(as_preprocessing(preprocess), None, classes, images, strict)
