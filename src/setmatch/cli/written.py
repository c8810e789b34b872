"""What a command says of the files that it wrote at the user's wish."""

from pathlib import Path


def say_written(*paths: Path | None) -> None:
    """Print where the files are, of those that were asked for, in one line."""
    given = [str(path) for path in paths if path is not None]
    if given:
        print(f"written to {', '.join(given)}")
