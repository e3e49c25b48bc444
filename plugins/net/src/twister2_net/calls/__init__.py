"""What worker programs call.

``collectives`` (allreduce...); ``exchanges`` (partition, keyed_reduce, join...: a batch in, a batch out); ``sets``
(sort, distinct, aggregate...); ``driving`` (:func:`~twister2_net.calls.driving.operator`, one end of an operator that
runs on; what comes while it waits lies in ``taken_in``, what cannot leave yet in ``held_back``); ``alike`` (options as
text for fingerprints).
"""
