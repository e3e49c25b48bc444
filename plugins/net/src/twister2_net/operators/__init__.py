"""The operators, one module per family; ``twister2_net.catalog`` lists them with their options.

* ``moving``: direct, pipe, union, broadcast, gather, allgather, alltoall, barrier; ``relaying``: broadcast, gather and
  allgather along trees and chains.
* ``partitioning``: partition and keyed_partition.
* ``reducing``: reduce and reduce_scatter; ``ringing``: allreduce and reduce_scatter round a ring; ``allreducing``:
  allreduce, which goes along ways or round a ring.
* ``keyed_reducing``: keyed_reduce and count_by_value.
* ``sorting``: sort; ``distinct``: distinct; ``numbering``: number; ``zipping``: zip; ``crossing``: cross;
  ``co_grouping``: co_group.
* ``aggregating``: aggregate; what is asked of it is in ``aggregating_options``, columns by pyarrow in
  ``aggregating_columns``, by keys close together in ``aggregating_dense``.
* ``keyed_gathering`` and ``joining``: keyed_gather and join; what they share is in ``keyed_holding``, joins of Arrow
  tables in ``joining_columns``, large ones cut into parts in ``joining_parts``, key columns of different types in
  ``joining_keys``.
"""
