"""What all HTML pages share: the template renderer, their look, charts, tables and images."""
