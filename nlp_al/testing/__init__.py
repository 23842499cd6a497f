"""A harness for query strategies: the ones here pass it, and so should anybody's own.

from nlp_al.testing import check_strategy
check_strategy(MyStrategy)
"""

from nlp_al.testing.promises import blocks_of, check_strategy
from nlp_al.testing.synthetic import synthetic_signals

__all__ = ["blocks_of", "check_strategy", "synthetic_signals"]
