"""A survey for the terminal: tables that fit 80 columns, then findings by kind, then the plan."""

from collections.abc import Iterator, Sequence

from rich.console import Group as Lines
from rich.console import RenderableType
from rich.markup import escape
from rich.padding import Padding
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from setmatch.data.audit.audit import DataAudit
from setmatch.data.audit.checks import SEVERITIES, Finding, Group, Severity, grouped
from setmatch.data.audit.recommend import TrainingPlan
from setmatch.data.audit.statistics import Facts, Sizes, Spread

_STYLES: dict[Severity, str] = {"mend": "bold red", "repaired": "bold yellow", "note": "bold cyan"}
_EXAMPLES = 3
_CLASSES = 20
_BAR = 24  # letters


def shown(audit: DataAudit) -> RenderableType:
    """Return what rich prints about a survey; its commands are not among it.

    Those are to be copied, and rich would break them into lines.
    """
    parts: list[RenderableType] = [Text(str(audit.data), style="bold"), _facts(audit)]
    if audit.facts:
        parts += [Text(), _classes(audit.facts)]
    parts += [Text(), *_findings(audit)]
    if audit.plan is not None:
        parts += [Text(), *_plan(audit.plan)]
    return Lines(*parts)


def place(finding: Finding) -> str:
    """Say where something was found, and its value, in one line."""
    where = "/".join(part for part in (finding.split, finding.file) if part)
    if finding.annotation is not None:
        where += f", annotation {finding.annotation}"
    if finding.line is not None:
        where += f", line {finding.line}"
    value = "" if finding.value == finding.file else finding.value
    return ": ".join(part for part in (where, value) if part)


def expected_time(plan: TrainingPlan) -> str:
    """Say how long the plan takes, as far as that was measured."""
    if plan.hours is None:
        return "not measured; --time takes a few steps and tells"
    whole = f"{plan.hours:.1f} hours" if plan.hours >= 1 else f"{60 * plan.hours:.0f} minutes"
    return (
        f"{whole} on this machine, without evaluations, at {plan.seconds_per_step:.2g} s a step "
        "(measured over a few)"
    )


def _facts(audit: DataAudit) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("")
    for facts in audit.facts:
        table.add_column(facts.name, justify="right")
    for label, cells in fact_rows(audit.facts):
        if any(cell not in ("0", "") for cell in cells):
            table.add_row(label, *cells)
    return table


def fact_rows(splits: Sequence[Facts]) -> Iterator[tuple[str, list[str]]]:
    """Yield a label and a cell for each split, for every line of the table of facts."""
    yield "images", [f"{f.images:,}" for f in splits]
    yield "  without objects", [f"{f.empty_images:,}" for f in splits]
    yield "  width, px", [_range(f.width_px) for f in splits]
    yield "  height, px", [_range(f.height_px) for f in splits]
    yield "objects to learn", [f"{f.objects:,}" for f in splits]
    yield "  per image, median", [f"{f.objects_per_image.median:g}" for f in splits]
    yield "  per image, most", [f"{f.objects_per_image.most:g}" for f in splits]
    yield "crowd regions", [f"{f.crowd:,}" for f in splits]
    yield "left out of training", [f"{f.left_out:,}" for f in splits]
    yield "small/medium/large, %", [_shares(f.original) for f in splits]
    yield "  as the model sees them", [_shares(f.seen) for f in splits]


def _range(spread: Spread) -> str:
    least, most = f"{spread.least:g}", f"{spread.most:g}"
    return least if least == most else f"{least}–{most}"


def _shares(sizes: Sizes) -> str:
    counts = (sizes.small, sizes.medium, sizes.large)
    return "/".join(f"{100 * count / max(sum(counts), 1):.0f}" for count in counts)


def _classes(facts: Sequence[Facts]) -> Table:
    whole = facts[-1]
    counts = sorted(whole.class_objects.items(), key=lambda item: -item[1])
    most = max((count for _, count in counts), default=0) or 1
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column(f"{len(counts)} classes" if len(counts) > 1 else "1 class", max_width=24)
    table.add_column("objects", width=_BAR)
    for each in facts:
        table.add_column(each.name, justify="right")
    shown_first = [item for item in counts[:_CLASSES] if item[1]]
    for name, count in shown_first:
        bar = Text("█" * max(round(_BAR * count / most), count > 0), style="cyan")
        each_split = [_count(each.class_objects.get(name)) for each in facts]
        table.add_row(Text(name, overflow="ellipsis", no_wrap=True), bar, *each_split)
    if rest := counts[len(shown_first) :]:
        objects = sum(count for _, count in rest)
        words = f"{objects:,} objects" if objects else "without a box"
        table.add_row(Text(f"{len(rest)} more, {words}", style="dim"))
    return table


def _count(count: int | None) -> str:
    return "–" if count is None else f"{count:,}"


def _findings(audit: DataAudit) -> Iterator[RenderableType]:
    looked = ", ".join(
        f"{len(pictures)} of {len(audit.splits[split])} in {split}"
        for split, pictures in audit.opened.items()
    )
    if not audit.findings:
        yield Text("nothing is wrong that a survey can see", style="bold green")
    severity: Severity | None = None
    for group in grouped(audit.findings):
        if group.first.severity != severity:
            severity = group.first.severity
            yield Text(SEVERITIES[severity].capitalize(), style=_STYLES[severity])
        yield from _group(group)
    if looked:
        yield Text(f"Pictures opened: {looked}.", style="dim")


def _group(group: Group) -> Iterator[RenderableType]:
    first, count = group.first, len(group.findings)
    done = f": {escape(first.done)}" if first.done else ""
    yield _indented(f"{count:,} × [bold]{escape(first.what)}[/bold]{done}", 2)
    for finding in group.findings[:_EXAMPLES]:
        if line := place(finding):
            yield _indented(f"[dim]{escape(line)}[/dim]", 6)
    if count > _EXAMPLES:
        yield _indented(f"[dim]… {count - _EXAMPLES:,} more[/dim]", 6)


def _plan(plan: TrainingPlan) -> Iterator[RenderableType]:
    yield Text("Plan", style="bold")
    for reason in (*plan.reasons, f"time: {expected_time(plan)}"):
        yield _indented(escape(reason), 2, "[cyan]•[/] ")
    yield Padding(
        Syntax(plan.to_yaml().rstrip(), "yaml", background_color="default", word_wrap=True),
        (1, 0, 1, 4),
    )


def _indented(markup: str, columns: int, bullet: str = "") -> RenderableType:
    """Return a line whose continuation hangs as far in as its text begins."""
    hanging = Table.grid()
    hanging.add_column(width=columns)
    hanging.add_column()
    hanging.add_column(overflow="fold")  # a long path would lose its end, which is the file's name
    hanging.add_row("", bullet, markup)
    return hanging
