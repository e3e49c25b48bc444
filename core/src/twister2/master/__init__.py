"""The job master: keeps a job alive. Attempts, joins, barriers, aborts, checkpoints' records, logs and the event log.

The state machine (:mod:`twister2.master.job`) knows nothing of sockets: it takes messages and ticks and posts messages.
"""
