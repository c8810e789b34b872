"""The progress bar of everything that runs a model over many images."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_bar(task: str, total: int | None, visible: bool) -> Iterator[Callable[[int], None]]:
    """Show a progress bar on stderr: the images done, of a `total`, and the time left.

    A total of None is not known. Yields a function that takes the number done since its last call.
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = [*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn()]
    with Progress(*columns, console=Console(stderr=True), disable=not visible) as bar:
        task_id = bar.add_task(escape(task), total=total)
        yield lambda done: bar.advance(task_id, done)
