"""The files that an audit writes, checked before the work."""

from dataclasses import dataclass
from pathlib import Path

from setmatch.data.audit.audit import DataAudit
from setmatch.data.audit.fix import write_fixed
from setmatch.data.audit.html import write_page
from setmatch.files.writing import require_file, require_folder, require_page


@dataclass(frozen=True)
class AuditFiles:
    """The files to write, and the folder for fixed annotations; None for what is not wanted."""

    json: Path | None = None
    html: Path | None = None
    recipe: Path | None = None
    fixed: Path | None = None

    def require_writable(self) -> None:
        """Raise ConfigError now rather than after the last image."""
        for path in (self.json, self.recipe):
            if path is not None:
                require_file(path)
        if self.html is not None:
            require_page(self.html)
        if self.fixed is not None:
            require_folder(self.fixed)

    def write(self, audit: DataAudit) -> list[str]:
        """Write the files; return a line for the user about the fixed annotations."""
        if self.json is not None:
            audit.write_json(self.json)
        if self.html is not None:
            write_page(audit, self.html)
        if self.recipe is not None:
            audit.write_recipe(self.recipe)
        if self.fixed is None:
            return []
        changes = write_fixed(audit.data, audit.discovered, self.fixed)
        return [f"changes: {len(changes)}, listed in {self.fixed / 'changes.json'}"]
