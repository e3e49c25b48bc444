"""The contracts of Twister2: hook specs, backend classes and value types, one module per kind of plugin.

This package and, for programming interfaces, :mod:`twister2.graph` are all that a plugin may import from the core.
Nothing is imported here: ``from twister2.spec.comm import Transport`` and so on.
"""
