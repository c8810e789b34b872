"""Findings of an audit: what is wrong or worth knowing, and where."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from setmatch.data.formats.missing_images import UNDECODED, UNREADABLE

Severity = Literal["error", "fixed", "note"]
SEVERITIES: Mapping[Severity, str] = {  # the most severe first
    "error": "must be fixed by hand",
    "fixed": "fixed automatically when the data is read",
    "note": "worth knowing",
}
UNREADABLE_KIND = "image that cannot be read"
# With the images that the data set was opened without.
UNREADABLE_KINDS = (UNREADABLE_KIND, *(done.partition(": ")[0] for done in (UNREADABLE, UNDECODED)))


@dataclass(frozen=True)
class Finding:
    """One problem or oddity of a data set.

    Findings of one `kind` are counted together. `action` is what is done about it, or what to do.
    `file` is the image's name, or "" if the finding concerns a split or a class; `annotation` is an
    id of the annotation file, `line` one of its lines.
    """

    severity: Severity
    kind: str
    action: str
    split: str = ""
    file: str = ""
    annotation: int | None = None
    line: int | None = None
    value: str = ""

    @property
    def details(self) -> str:
        """Return where the finding is, and its value, in one line."""
        where = "/".join(part for part in (self.split, self.file) if part)
        if self.annotation is not None:
            where += f", annotation {self.annotation}"
        if self.line is not None:
            where += f", line {self.line}"
        value = "" if self.value == self.file else self.value
        return ": ".join(part for part in (where, value) if part)


@dataclass(frozen=True)
class FindingGroup:
    """All findings of the same severity, kind and action; at least one."""

    findings: tuple[Finding, ...]

    @property
    def first(self) -> Finding:
        """Return the first finding, which gives severity, kind and action of all."""
        return self.findings[0]


def group_findings(findings: Sequence[Finding]) -> list[FindingGroup]:
    """Group findings by kind: the most severe kinds first, then the most frequent."""
    kinds: dict[tuple[str, str, str], list[Finding]] = {}
    for finding in findings:
        kinds.setdefault((finding.severity, finding.kind, finding.action), []).append(finding)
    rank = {severity: number for number, severity in enumerate(SEVERITIES)}
    groups = [FindingGroup(tuple(kind)) for kind in kinds.values()]
    return sorted(groups, key=lambda group: (rank[group.first.severity], -len(group.findings)))
