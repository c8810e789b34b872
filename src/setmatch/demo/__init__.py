"""The whole journey on generated pictures, and the page it ends with."""

from setmatch.demo.demo import demo as demo
