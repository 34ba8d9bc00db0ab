"""Believable feeds of several switches, made from a seed: for the demo, the tests and the bench.

A day's curve, repeat callers, failed and forwarded calls, calls in pieces, repeats, conflicts and dirt; every number
is fictitious; and a `Truth` says exactly what must come out. Equal arguments give equal bytes.
"""

from callward.feeds.generate import SOURCES, Feeds, Source, asterisk_files, generate
from callward.feeds.truth import Count, Truth

__all__ = ["SOURCES", "Count", "Feeds", "Source", "Truth", "asterisk_files", "generate"]
