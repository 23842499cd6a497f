"""Runs a recipe with blocks of 32 examples, so that a small pool has several: small_blocks.py RECIPE [OPTION ...]."""

import runpy
import sys

from nlp_al import selection

selection.BLOCK = 32
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
