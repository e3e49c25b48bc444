"""TSets: typed distributed data. A program builds a lazy set step by step; an action compiles it to one task graph::

from twister2_tset import TSetContext

def main(env):
    words = TSetContext(env).read_text("books/*.txt").flat_map(str.split)
    print(words.count_by_value().top(10, key=lambda pair: pair[1]))
"""

from __future__ import annotations

from twister2_tset.context import TSetContext
from twister2_tset.ends import LazyEnd
from twister2_tset.evaluation import Evaluation
from twister2_tset.functions import SetContext
from twister2_tset.grouping import Grouped
from twister2_tset.report import ReadReport
from twister2_tset.sets import TSet
from twister2_tset.stored_sets import StoredSet

__all__ = ["Evaluation", "Grouped", "LazyEnd", "ReadReport", "SetContext", "StoredSet", "TSet", "TSetContext"]
