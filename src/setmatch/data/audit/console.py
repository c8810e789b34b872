"""An audit for the terminal: statistics, classes, findings by kind, and the recommended plan."""

from collections.abc import Iterator, Sequence

from rich.console import Group as Lines
from rich.console import RenderableType
from rich.markup import escape
from rich.padding import Padding
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from setmatch.data.audit.audit import DataAudit
from setmatch.data.audit.findings import SEVERITIES, FindingGroup, Severity, group_findings
from setmatch.data.audit.recommend.recommend import TrainingPlan
from setmatch.data.audit.statistics import ObjectSizes, Percentiles, SplitStatistics

_STYLES: dict[Severity, str] = {"error": "bold red", "fixed": "bold yellow", "note": "bold cyan"}
_MAX_EXAMPLES = 3
_MAX_CLASSES = 20
_BAR_WIDTH = 24  # characters


def render(audit: DataAudit) -> RenderableType:
    """Return the audit for a rich console, at least 80 columns wide.

    Its commands are not included: rich would wrap them, and they are meant to be copied.
    """
    parts: list[RenderableType] = [Text(str(audit.data), style="bold"), _statistics_table(audit)]
    if audit.statistics:
        parts += [Text(), _class_table(audit.statistics)]
    parts += [Text(), *_findings(audit)]
    if audit.unreadable:
        parts.append(Text(audit.unreadable, style="bold red"))
    if audit.plan is not None:
        parts += [Text(), *_plan(audit.plan)]
    return Lines(*parts)


def format_duration(plan: TrainingPlan) -> str:
    """Return the expected training time, or how to measure it."""
    if plan.hours is None:
        return "not measured; --time measures it with a few training steps"
    total = f"{plan.hours:.1f} hours" if plan.hours >= 1 else f"{60 * plan.hours:.0f} minutes"
    return (
        f"{total} on this machine without evaluations, at {plan.seconds_per_step:.2g} s per step "
        "(measured over a few steps)"
    )


def statistics_rows(splits: Sequence[SplitStatistics]) -> Iterator[tuple[str, list[str]]]:
    """Yield the rows of the table of statistics: a label, and a cell for each split."""
    yield "images", [f"{s.images:,}" for s in splits]
    yield "  without objects", [f"{s.images_without_objects:,}" for s in splits]
    yield "  width, px", [_format_range(s.width_px) for s in splits]
    yield "  height, px", [_format_range(s.height_px) for s in splits]
    yield "objects", [f"{s.objects:,}" for s in splits]
    yield "  per image, median", [f"{s.objects_per_image.median:g}" for s in splits]
    yield "  per image, max", [f"{s.objects_per_image.max:g}" for s in splits]
    yield "crowd regions", [f"{s.crowd:,}" for s in splits]
    yield "boxes left out of training", [f"{s.left_out:,}" for s in splits]
    yield "small/medium/large, %", [_format_sizes(s.original_sizes) for s in splits]
    yield "  after resizing", [_format_sizes(s.resized_sizes) for s in splits]


def _format_range(values: Percentiles) -> str:
    low, high = f"{values.min:g}", f"{values.max:g}"
    return low if low == high else f"{low}–{high}"


def _format_sizes(sizes: ObjectSizes) -> str:
    counts = (sizes.small, sizes.medium, sizes.large)
    return "/".join(f"{100 * count / max(sum(counts), 1):.0f}" for count in counts)


def _statistics_table(audit: DataAudit) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("")
    for each in audit.statistics:
        table.add_column(each.name, justify="right")
    for label, cells in statistics_rows(audit.statistics):
        if any(cell not in ("0", "") for cell in cells):
            table.add_row(label, *cells)
    return table


def _class_table(statistics: Sequence[SplitStatistics]) -> Table:
    counts = sorted(statistics[-1].objects_per_class.items(), key=lambda item: -item[1])
    most = max((count for _, count in counts), default=0) or 1
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column(f"{len(counts)} classes" if len(counts) > 1 else "1 class", max_width=24)
    table.add_column("objects", width=_BAR_WIDTH)
    for each in statistics:
        table.add_column(each.name, justify="right")
    listed = [item for item in counts[:_MAX_CLASSES] if item[1]]
    for name, count in listed:
        bar = Text("█" * max(round(_BAR_WIDTH * count / most), count > 0), style="cyan")
        cells = [_format_count(each.objects_per_class.get(name)) for each in statistics]
        table.add_row(Text(name, overflow="ellipsis", no_wrap=True), bar, *cells)
    if rest := counts[len(listed) :]:
        objects = sum(count for _, count in rest)
        text = f"{objects:,} objects" if objects else "without a box"
        table.add_row(Text(f"{len(rest)} more, {text}", style="dim"))
    return table


def _format_count(count: int | None) -> str:
    return "–" if count is None else f"{count:,}"


def _findings(audit: DataAudit) -> Iterator[RenderableType]:
    if not audit.findings:
        yield Text("No problems found", style="bold green")
    severity: Severity | None = None
    for group in group_findings(audit.findings):
        if group.first.severity != severity:
            severity = group.first.severity
            yield Text(SEVERITIES[severity].capitalize(), style=_STYLES[severity])
        yield from _finding_group(group)
    opened = ", ".join(
        f"{len(checks)} of {len(audit.splits[split])} in {split}"
        for split, checks in audit.image_checks.items()
    )
    if opened:
        yield Text(f"Images opened: {opened}", style="dim")


def _finding_group(group: FindingGroup) -> Iterator[RenderableType]:
    first, count = group.first, len(group.findings)
    action = f": {escape(first.action)}" if first.action else ""
    yield _indented(f"{count:,} × [bold]{escape(first.kind)}[/bold]{action}", 2)
    for finding in group.findings[:_MAX_EXAMPLES]:
        if details := finding.details:
            yield _indented(f"[dim]{escape(details)}[/dim]", 6)
    if count > _MAX_EXAMPLES:
        yield _indented(f"[dim]… {count - _MAX_EXAMPLES:,} more[/dim]", 6)


def _plan(plan: TrainingPlan) -> Iterator[RenderableType]:
    yield Text("Recommended training", style="bold")
    for reason in (*plan.reasons, f"time: {format_duration(plan)}"):
        yield _indented(escape(reason), 2, "[cyan]•[/] ")
    yield Padding(
        Syntax(plan.to_yaml().rstrip(), "yaml", background_color="default", word_wrap=True),
        (1, 0, 1, 4),
    )


def _indented(markup: str, columns: int, bullet: str = "") -> RenderableType:
    """Return text whose continuation lines are indented like its first line."""
    # Folding keeps the end of a long path, which is the file name.
    text = Text.from_markup(markup, overflow="fold")
    if not bullet:
        return Padding(text, (0, 0, 0, columns), expand=False)
    grid = Table.grid()
    grid.add_row(bullet, text)
    return Padding(grid, (0, 0, 0, columns), expand=False)
