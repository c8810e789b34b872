"""The files that `setmatch explain` writes, checked before the model is loaded."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from setmatch.errors import ConfigError
from setmatch.explanation.explain import Explanation
from setmatch.files.writing import require_folder, require_page


@dataclass(frozen=True)
class ExplanationFiles:
    """An HTML page, a folder of figures, or both; None for what is not wanted.

    `points` (x, y in pixels of the image) are those whose encoder attention a figure shows.
    """

    page: Path | None
    figures: Path | None
    points: tuple[tuple[float, float], ...] = ()

    @classmethod
    def parse(
        cls, page: Path | None, figures: Path | None, points: Sequence[str]
    ) -> "ExplanationFiles":
        """Read the options --out, --png and --point ("x,y") of the command line.

        Raises ConfigError where they name no file, do not fit together, or name no point.
        """
        if page is None and figures is None:
            raise ConfigError("nothing to write: give --out why.html, --png DIR, or both")
        if points and figures is None:
            raise ConfigError("--point selects what a figure shows: give --png DIR too")
        return cls(page, figures, tuple(map(_parse_point, points)))

    def require_writable(self) -> None:
        """Raise ConfigError unless all files can be written."""
        if self.page is not None:
            require_page(self.page)
        if self.figures is not None:
            require_folder(self.figures)

    def write(self, explanation: Explanation) -> list[Path]:
        """Write the files and return their paths."""
        paths: list[Path] = []
        if self.figures is not None:
            paths += explanation.save_figures(self.figures, self.points)
        if self.page is not None:
            explanation.save(self.page)
            paths.append(self.page)
        return paths


def _parse_point(text: str) -> tuple[float, float]:
    try:
        x, y = (float(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(f"--point {text}: not a point; write x,y as in --point 320,200") from None
    return x, y
