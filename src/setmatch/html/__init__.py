"""The parts of pages that need nothing beside them: one look, charts and pictures inside."""
