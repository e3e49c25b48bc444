"""A resource manager that is as unfriendly as Kubernetes, on this machine, for end-to-end tests.

Selected like any other (``twister2 submit hostile program.py``). What its copies get is what pods get:

* one environment for all, not that of the client; the slot comes from an index that does not begin at 0;
* no shared files: where the kernel allows it (mount namespaces), a copy sees an empty folder where the client's job
  folders are, an empty ``/dev/shm``, and its own home at a path that is the same for all;
* secrets that reach each copy late, each at a time of its own;
* copies that start late, in any order, and some of them twice;
* a master beside the workers, which the client reaches only through a forwarder; nothing can dial the client.

How late and how often twice is seeded, so that a failure can be had again.
"""

from __future__ import annotations
