"""Selectors: which target a record goes to. ``names`` has the names of the option ``partitioner``.

* ``base``: :class:`~twister2_net.selectors.base.Selector`, what a new one begins with.
* ``hashing``: hash. ``skew``: hash, with heavy keys spread.
* ``row_hash``: hash of one key column or several, for operators whose records have no key of their own.
* ``ranges``: range; ``sampling`` finds its bounds. ``round_robin``.
* ``custom``: functions and objects of the user's.
* ``record_keys``: what the option ``key`` may be. ``key_columns``: the keys of arrays and Arrow batches.
"""
