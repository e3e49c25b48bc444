"""Which arrays collectives take: with fields, aligned; and calls on several groups, which go on beside each other."""

from __future__ import annotations

import numpy as np
import pytest

from twister2.spec.collectives import Call
from twister2.spec.errors import OperatorError, StepMismatchError
from twister2.worker.network.collectives.checking import make_plan
from twister2_testkit.fakes import LocalCluster
from twister2_testkit.native_loopback import NativeLoopback

FIELDS = np.array([(1, 2.0, 3), (4, 5.0, 6)], dtype=[("a", "i8"), ("b", "f8"), ("c", "i8", (1,))])


@pytest.mark.parametrize(
    "layout",
    [
        FIELDS[["b", "a"]].dtype,
        np.dtype({"names": ["whole", "low"], "formats": ["i8", "i4"], "offsets": [0, 0], "itemsize": 8}),
        np.dtype([("pairs", [("x", "i4"), ("y", "i4")], (3,))]),
    ],
    ids=["another order", "overlapping", "nested"],
)
def test_fields_may_lie_in_any_order(layout):
    def main(env, other=None):
        dtype = layout if env.worker_id == 0 or other is None else other
        array = np.frombuffer(bytes([1 + env.worker_id]) * dtype.itemsize * 2, dtype).copy()
        env.network.collectives().run(Call("broadcast"), None, array)
        return [array[name].tobytes() for name in dtype.names]

    want = [bytes([1]) * layout.fields[name][0].itemsize * 2 for name in layout.names]
    assert LocalCluster(2, "loopback").run(main) == [want] * 2
    formats = [layout.fields[name][0] for name in layout.names]
    offsets = [layout.fields[name][1] for name in layout.names]
    other = np.dtype(
        {"names": [f"{name}2" for name in layout.names], "formats": formats, "offsets": offsets,
         "itemsize": layout.itemsize}
    )  # fmt: skip
    with pytest.raises(StepMismatchError, match="different things") as caught:
        LocalCluster(2, "loopback").run(main, other)
    shown = str(caught.value)
    assert f"dtype={{{layout.names[0]}:" in shown
    assert f"dtype={{{layout.names[0]}2:" in shown


@pytest.mark.parametrize("separator", [" ", "\0", "\x1f", "\ud800"], ids=ascii)
def test_fields_are_shown_as_one_short_word(separator):
    def shape(last):
        names = [f"a{separator}long{chr(9)}name~{number}" for number in range(20)]
        dtype = np.dtype([*((name, "i4", (2, 3)) for name in names), (last, "i8")])
        return make_plan(Call("broadcast"), None, np.zeros(2, dtype), 0, 2).shape

    root, form, *_ = shape("x").split()
    assert root == "root=0"
    assert form.startswith("dtype={a_long_name_0:<i4[2x3],a_long_name_1:<i")
    assert len(shape("x")) < 100, "what a board of steps has room for"
    assert shape("x") == shape("x") != shape("y")


@pytest.mark.parametrize("transport", ["loopback", NativeLoopback])
def test_an_array_is_aligned_in_every_call_of_a_form(transport):
    def main(env):
        collectives, call = env.network.collectives(), Call("allreduce")
        receive = np.empty(4)
        collectives.run(call, np.ones(4), receive)
        assert (receive == 2).all()
        collectives.run(call, np.frombuffer(bytes(33), "u1")[1:].view("f8"), receive)

    with pytest.raises(OperatorError, match="send is not aligned"):
        LocalCluster(2, transport).run(main)


@pytest.mark.parametrize("transport", ["loopback", NativeLoopback])
@pytest.mark.parametrize("second", ["started", "waited for at once"])
def test_calls_of_two_groups_may_be_waited_for_in_any_order(transport, second):
    def main(env):
        network = env.network
        groups = [network.collectives(), network.collectives(network.split(0))]
        for collectives in groups:
            collectives.run(Call("barrier"))
        network.spin_s = 600.0  # who polls for one call only would keep the others from theirs for so long
        by_messages, call = Call("allreduce", algorithm="ring"), Call("allreduce")
        results = [np.empty(1000), np.empty(1000)]
        send = np.full(1000, 1.0 + env.worker_id)
        if second == "started":
            requests = [groups[0].start(by_messages, send, results[0]), groups[1].start(call, send, results[1])]
            for request in requests if env.worker_id else reversed(requests):
                request.wait(60)
        elif env.worker_id:
            env.link.exchange("test", "started", None, 60)
            groups[0].run(by_messages, send, results[0])
            groups[1].run(call, send, results[1])
        else:
            request = groups[0].start(by_messages, send, results[0])
            env.link.exchange("test", "started", None, 60)  # it goes on when the other one sends, not before
            groups[1].run(call, send, results[1])
            request.wait(60)
        return [set(result.tolist()) for result in results]

    assert LocalCluster(2, transport, deadline_s=90).run(main) == [[{3.0}, {3.0}]] * 2
