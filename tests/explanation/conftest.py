"""Lets the tests of explanations import the models whose attention is known."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
