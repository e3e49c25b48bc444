"""How batches and marks move: the classes that operators begin with.

* ``lanes``: :class:`~twister2_net.exchange.lanes.LaneOperator`, the base of all (port, waiting for credit, end),
  and :class:`~twister2_net.exchange.lanes.GatedOperator`, for those that combine on the sending worker first.
* ``tasks``: :class:`~twister2_net.exchange.tasks.TaskOperator`, for those that pass batches on from task to task.
* ``aggregating``: :class:`~twister2_net.exchange.aggregating.AggregatingOperator`, for those whose targets hold what
  comes and emit it at marks.
* ``hops``: :class:`~twister2_net.exchange.hops.HopOperator`, for those that go from worker to worker along ``ways``
  (direct, tree, chain), which ``algorithms`` chooses.
* ``agreeing``: what all workers tell each other once, beside the records.
* ``alignment``: when a mark has come over all inputs. ``parts``: batches cut by target and put together
  again. ``placing``: inputs that lie by key already. ``frozen``: states at a barrier.
"""
