"""A worker: the supervisor process, the user process it has forked, and what the user's function is given."""
