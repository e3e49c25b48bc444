"""What operators hold and what goes to disk when memory gets short.

* ``queues``: batches in line, results, the values of one key. ``source_order``: what came to a target, by source.
* ``tables``: groups and combined values by key; ``table_size``: what a table takes; ``key_order``: how keys are ranked.
* ``sorted_columns``: arrays and Arrow batches, sorted.
* ``runs``: sorted files and their merging, on which tables and sorted columns stand.
"""
