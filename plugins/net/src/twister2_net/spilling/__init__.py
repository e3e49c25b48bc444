"""What operators hold and what goes to disk when memory gets short.

* ``queues``: batches in line, results, the values of one key. ``source_order``: what came to a target, by source.
* ``tables``: groups and combined values by key; ``table_size``: what a table takes; ``key_order``: how keys are ranked.
* ``sorted_columns``: arrays and Arrow batches, sorted; ``named_columns``: such whose columns are not the same in all.
* ``sorted_rows``: batches sorted by a ``record_order``, by the ``row_columns`` of arrays and Arrow batches, whose keys
  are made integers by ``key_words``.
* ``runs``: sorted files and their merging, on which tables and sorted columns stand.
"""
