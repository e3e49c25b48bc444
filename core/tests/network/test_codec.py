from __future__ import annotations

import gc
import json
import pickle
import sys
import threading
import types

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twister2.spec.errors import KeyHashError, NetworkError, SerializationError, UsageError, UserCodeError
from twister2.spec.hashing import stable_hash
from twister2.worker.network import codec
from twister2.worker.network.codec import ARRAY, ARROW, COLUMNS, PICKLE, decode, encode


def there_and_back(value):
    kind, head, buffers, size = encode(value)
    assert size == sum(memoryview(part).nbytes for part in buffers)
    return decode(kind, head, [memoryview(bytes(part)) for part in buffers])


DTYPES = ["?", "i1", "<i4", ">i8", "u2", "f2", "<f8", "c16", "S3", "U2", "M8[ns]", "m8[s]"]


@given(st.sampled_from(DTYPES), st.lists(st.integers(0, 4), max_size=3), st.booleans())
@settings(deadline=None, max_examples=60)
def test_arrays_keep_dtype_shape_and_values(dtype, shape, fortran):
    count = int(numpy.prod(shape)) if shape else 1
    array = numpy.arange(count).astype("i8").astype(dtype).reshape(shape)
    if fortran:
        array = numpy.asfortranarray(array)
    back = there_and_back(array)
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    assert back.tobytes() == array.tobytes()
    assert not back.flags.writeable
    assert encode(array)[0] == ARRAY


def test_arrays_are_not_copied():
    array = numpy.arange(1000.0)
    _, head, buffers, _ = encode(array)
    assert numpy.shares_memory(numpy.frombuffer(buffers[0], "f8"), array)
    frame = memoryview(bytes(buffers[0]))
    assert numpy.shares_memory(decode(ARRAY, head, [frame]), numpy.frombuffer(frame, "f8"))


def test_parts_of_arrays_send_what_is_seen():
    array = numpy.arange(100).reshape(10, 10)
    assert there_and_back(array[::2, 1:3]).tolist() == array[::2, 1:3].tolist()
    assert encode(array[:2])[3] == array[:2].nbytes


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
        lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner),
        max_leaves=10,
    )
)
@settings(deadline=None, max_examples=60)
def test_objects_come_back_equal(value):
    assert there_and_back(value) == value


def test_large_buffers_inside_objects_travel_beside_the_pickle():
    arrays = [numpy.arange(10_000), numpy.arange(3)]
    _, _, buffers, _ = encode([("key", array) for array in arrays])
    assert len(buffers) == 2, "the large array goes beside, the small one inside"
    assert numpy.shares_memory(numpy.frombuffer(buffers[1], "i8"), arrays[0])
    back = there_and_back([("key", array) for array in arrays])
    assert [pair[1].tolist() for pair in back] == [array.tolist() for array in arrays]
    assert not back[0][1].flags.writeable


def test_the_number_of_buffers_is_bounded():
    arrays = [numpy.zeros(codec.MIN_BUFFER, "u1") for _ in range(codec.MAX_BUFFERS + 50)]
    assert len(encode(arrays)[2]) == codec.MAX_BUFFERS + 1
    assert len(there_and_back(arrays)) == len(arrays)


def test_structured_object_and_masked_arrays():
    structured = numpy.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")])
    assert there_and_back(structured).dtype == structured.dtype
    objects = numpy.array(["x", None, (1,)], dtype=object)
    assert there_and_back(objects).tolist() == objects.tolist()
    masked = numpy.ma.masked_array([1, 2, 3], mask=[0, 1, 0])
    assert there_and_back(masked).tolist() == [1, None, 3]


def test_arrow_batches_share_buffers_and_slices_are_cut():
    pyarrow = pytest.importorskip("pyarrow")
    batch = pyarrow.RecordBatch.from_pydict({"a": list(range(100_000)), "b": ["x"] * 100_000})
    kind, _, buffers, size = encode(batch)
    assert kind == ARROW
    assert len(buffers) > 1, "the columns of a large batch lie apart, uncopied"
    assert there_and_back(batch).equals(batch)
    piece = batch.slice(5, 10)
    assert encode(piece)[3] < size // 100
    assert there_and_back(piece).to_pylist() == piece.to_pylist()
    table = pyarrow.Table.from_batches([batch])
    assert there_and_back(table.slice(7, 3)).to_pylist() == table.slice(7, 3).to_pylist()
    assert there_and_back(batch.slice(0, 0)).num_rows == 0


def arrow_batch(name):
    pyarrow = pytest.importorskip("pyarrow")
    n = 70_000 if name.startswith("large") else 5
    columns = {
        "empty": {},
        "no rows": {"a": pyarrow.array([], "int64"), "s": pyarrow.array([], "string")},
        "flat": {"a": range(n), "b": [None, *range(n - 1)], "s": ["x", None, "", "yy", "z"], "t": [True] * n},
        "large flat": {"a": range(n), "b": [None, *range(n - 1)], "s": [str(k) for k in range(n)]},
        "large bool": {"a": range(n), "b": [k % 3 == 0 for k in range(n)]},
        "nested": {"l": [[1], None, [], [2, 3], [4]], "m": [{"x": 1, "y": "a"}] * n},
        "large nested": {"l": [[k, k] for k in range(n)]},
        "dictionary": {"d": pyarrow.array(["u", "v", "u", None, "v"]).dictionary_encode()},
        "nulls": {"z": pyarrow.nulls(n)},
        "dates": {"d": pyarrow.array([1, 2, None, 4, 5], pyarrow.timestamp("us", "UTC"))},
    }[name]
    arrays = [
        column if isinstance(column, pyarrow.Array) else pyarrow.array(list(column)) for column in columns.values()
    ]
    fields = [pyarrow.field(key, one.type, metadata={"of": key}) for key, one in zip(columns, arrays, strict=True)]
    schema = pyarrow.schema(fields, metadata={"by": name})
    return pyarrow.RecordBatch.from_arrays(arrays, schema=schema)


ARROW_BATCHES = (
    "empty", "no rows", "flat", "large flat", "large bool", "nested", "large nested", "dictionary", "nulls", "dates"
)  # fmt: skip


@pytest.mark.parametrize("name", ARROW_BATCHES)
def test_record_batches_of_any_kind_come_back_with_their_schema(name):
    batch = arrow_batch(name)
    for one in (batch, batch.slice(1, 3), batch.slice(0, 2), batch.slice(2)):
        back = there_and_back(one)
        back.validate(full=True)
        assert back.equals(one)
        assert back.schema.equals(batch.schema, check_metadata=True)


@pytest.mark.parametrize("name", ["flat", "large flat", "nested"])
def test_a_damaged_record_batch_is_an_error(name):
    kind, head, buffers, _ = encode(arrow_batch(name))
    frames = [memoryview(bytes(part)) for part in buffers]
    for cut in ([], [frames[0][:3], *frames[1:]], [*frames[:-1], frames[-1][:2]], [memoryview(b""), *frames[1:]]):
        with pytest.raises(NetworkError):
            decode(kind, head, cut)
    with pytest.raises(NetworkError):
        decode(kind, head[:20], frames)


def test_structured_arrays_and_tuples_of_columns_travel_as_memory():
    structured = numpy.zeros(1000, [("key", "i8"), ("value", "f4"), ("name", "S5")])
    structured["value"] = numpy.arange(1000)
    kind, _, buffers, _ = encode(structured)
    assert (kind, len(buffers)) == (ARRAY, 1)
    back = there_and_back(structured)
    assert back.dtype == structured.dtype
    assert back.tobytes() == structured.tobytes()
    assert there_and_back(numpy.zeros((0, 2), structured.dtype)).shape == (0, 2)
    columns = (numpy.arange(10), numpy.arange(10.0).reshape(5, 2), numpy.array(["a", "bc"]))
    kind, head, buffers, _ = encode(columns)
    assert (kind, len(buffers)) == (COLUMNS, 3)
    back = there_and_back(columns)
    assert type(back) is tuple
    assert [(one.dtype, one.tolist()) for one in back] == [(one.dtype, one.tolist()) for one in columns]
    with pytest.raises(NetworkError):
        decode(kind, head, [memoryview(bytes(part)) for part in buffers[:2]])
    mixed = (numpy.arange(3), "text")
    assert there_and_back(mixed)[1] == "text"


class Celsius(float):
    pass


def same(one, other):
    """Equal, of the same types, the same bits."""
    if type(one) is not type(other):
        return False
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return repr(one) == repr(other)


SCALARS = (
    st.integers()
    | st.floats()
    | st.booleans()
    | st.text(max_size=40)
    | st.binary(max_size=40)
    | st.none()
    | st.sampled_from([-0.0, 2**63, -(2**63), numpy.float64(1.5), numpy.int64(-3), Celsius(21), complex(0, -0.0)])
)


@given(st.lists(st.tuples(SCALARS, SCALARS), min_size=16, max_size=40))
@settings(deadline=None, max_examples=80)
def test_records_come_back_with_the_very_same_types(pairs):
    plain = [(number, float(number)) for number in range(20)]
    for batch in (pairs, plain + pairs + plain, [pair[0] for pair in plain + pairs + plain]):
        assert same(there_and_back(batch), batch)


def test_odd_records_among_plain_ones_arrive_too():
    plain = [("word", 1)] * 50
    knot = []
    knot.append(knot)
    back = there_and_back([*plain, (knot, 2), {"a": [1]}, *plain])
    assert back[50][0][0] is back[50][0]
    assert back[51] == {"a": [1]}
    assert back[:50] == back[-50:] == plain


class Point:
    def __init__(self, x):
        self.x = x

    def __reduce__(self):
        raise TypeError("points do not pickle")


class PointCodec:
    def encode(self, value):
        return [b"p", value.x.tobytes()]

    def decode(self, buffers):
        assert bytes(buffers[0]) == b"p"
        assert buffers[1].readonly
        return Point(numpy.frombuffer(buffers[1]))


@pytest.fixture
def _no_serialisers():
    yield
    for table in (codec._registered, codec._by_name, codec._reducers):
        table.clear()


@pytest.mark.usefixtures("_no_serialisers")
def test_registered_serialisers_work_at_any_depth():
    with pytest.raises(SerializationError):
        encode([Point(numpy.zeros(2))])
    codec.register_serializer(Point, PointCodec())
    back = there_and_back([("a", Point(numpy.arange(5000.0)))])
    assert back[0][1].x.tolist() == list(range(5000))
    assert there_and_back(Point(numpy.ones(1))).x.tolist() == [1.0]
    kind, head, buffers, _ = encode(Point(numpy.ones(1)))
    codec._by_name.clear()
    with pytest.raises(SerializationError, match="no serialiser"):
        decode(kind, head, [memoryview(part) for part in buffers])


def test_only_types_and_codecs_can_be_registered():
    with pytest.raises(UsageError):
        codec.register_serializer("Point", PointCodec())
    with pytest.raises(UsageError):
        codec.register_serializer(Point, object())
    with pytest.raises(UsageError, match=r"the class PointCodec") as caught:
        codec.register_serializer(Point, PointCodec)
    assert "PointCodec()" in caught.value.remedy


class Natural:
    """One bytes object there and back."""

    def encode(self, value):
        return json.dumps(value.x).encode()

    def decode(self, data):
        return Point(json.loads(data))


@pytest.mark.usefixtures("_no_serialisers")
@pytest.mark.parametrize("size", [3, 50_000])
def test_a_serialiser_may_give_one_bytes_and_gets_it_back(size):
    codec.register_serializer(Point, Natural())
    assert there_and_back(Point([1] * size)).x == [1] * size
    assert there_and_back([1, Point([2]), Point([3])])[2].x == [3]


@pytest.mark.usefixtures("_no_serialisers")
@pytest.mark.parametrize("doing", ["encode", "decode"])
def test_an_error_of_a_serialiser_is_told_as_its_own(doing):
    def wrong(_):
        raise KeyError("colour")

    broken = Natural()
    setattr(broken, doing, wrong)
    codec.register_serializer(Point, broken)
    with pytest.raises(UserCodeError, match=f"{doing} of Natural, .* of .*Point, raised KeyError") as caught:
        there_and_back([Point([1])])
    assert "in wrong" in caught.value.where
    assert "colour" in caught.value.details["traceback"]


@pytest.mark.usefixtures("_no_serialisers")
@pytest.mark.parametrize("made", ["text", 5, None, [1, 2], ["a"]])
def test_a_serialiser_that_gives_no_bytes_is_told_so(made):
    broken = Natural()
    broken.encode = lambda value: made
    codec.register_serializer(Point, broken)
    with pytest.raises(UserCodeError, match="gave no bytes"):
        encode(Point([1]))


def test_functions_of_a_notebook_travel_by_value():
    local = 5
    assert there_and_back([lambda x: x + local])[0](1) == 6


@pytest.mark.usefixtures("_no_serialisers")
def test_registered_serialisers_work_beside_functions_of_a_notebook():
    codec.register_serializer(Point, PointCodec())
    local = Point(numpy.ones(3))
    function, (name, point) = there_and_back([lambda: local, ("a", Point(numpy.arange(5000.0)))])
    assert (name, point.x.tolist()) == ("a", list(range(5000)))
    assert function().x.tolist() == [1.0] * 3, "and where a function keeps one"
    broken = PointCodec()
    broken.encode = lambda value: 5
    codec.register_serializer(Point, broken)
    with pytest.raises(UserCodeError, match="gave no bytes"):
        encode([lambda: 1, Point(None)])


def test_what_cannot_be_sent_is_named_beside_what_can_be_sent_by_value():
    with pytest.raises(SerializationError) as caught:
        encode([lambda: 1, "fine", threading.Lock()])
    assert "record 2 of a batch of 3" in str(caught.value)


def test_what_cannot_be_sent_is_named():
    with pytest.raises(SerializationError) as caught:
        encode(["fine", threading.Lock()])
    assert "record 1 of a batch of 2" in str(caught.value)
    assert caught.value.details["traceback"]


def test_damaged_values_are_errors_of_the_network():
    head = encode(numpy.arange(4))[1]
    for bad, data in ((head, b"123"), (b"<i8(5,)", bytes(32)), (b"nonsense", bytes(8)), (b"<i8(x)", bytes(8))):
        with pytest.raises(NetworkError):
            decode(ARRAY, bad, [memoryview(data)])
    with pytest.raises(NetworkError):
        decode(77, b"", [memoryview(b"")])
    with pytest.raises(SerializationError):
        decode(PICKLE, b"", [memoryview(pickle.dumps([1])[:-2])])


def test_the_collector_is_as_it_was_after_a_large_value():
    encoded = codec.encode([(str(number), number) for number in range(5000)])
    buffers = [memoryview(bytes(part)) for part in encoded[2]]
    for enabled in (True, False):
        try:
            (gc.enable if enabled else gc.disable)()
            assert len(codec.decode(encoded[0], encoded[1], buffers)) == 5000
            assert gc.isenabled() == enabled
            with pytest.raises(SerializationError):
                codec.decode(encoded[0], encoded[1], [buffers[0][:-10]])
            assert gc.isenabled() == enabled
        finally:
            gc.enable()


@pytest.fixture
def usual_collector():
    """What ran before in this process may have changed when the collector is due."""
    before = gc.get_threshold()
    gc.set_threshold(700, 10, 10)
    yield
    gc.set_threshold(*before)


@pytest.mark.usefixtures("usual_collector")
@pytest.mark.parametrize(
    ("value", "due"),
    [([(str(number), number) for number in range(9000)], True), ([str(number) for number in range(9000)], False)],
    ids=["many containers", "one"],
)
def test_the_collector_looks_at_a_large_value_at_once_where_it_is_due(value, due):
    encoded = codec.encode(value)
    buffers = [memoryview(bytes(part)) for part in encoded[2]]
    seen = []

    def look(phase, info):
        seen.append((phase, info["generation"]))

    gc.collect()
    gc.callbacks.append(look)
    try:
        assert codec.decode(encoded[0], encoded[1], buffers) == value
    finally:
        gc.callbacks.remove(look)
    assert seen == ([("start", 1), ("stop", 1)] if due else [])


class Circle:
    """A record that refers to itself."""

    died = 0

    def __init__(self):
        self.me = self

    def __del__(self):
        Circle.died += 1


@pytest.mark.usefixtures("usual_collector")
def test_cycles_of_large_values_that_were_dropped_are_found():
    encoded = codec.encode([Circle() for _ in range(4000)])
    buffers = [memoryview(bytes(part)) for part in encoded[2]]
    gc.collect()
    gc.freeze()
    gc.collect()  # so that how much else there is does not count
    before = Circle.died
    try:
        for _ in range(100):
            codec.decode(encoded[0], encoded[1], buffers)
            _ = [[number] for number in range(200)]  # the collector comes when a program makes something
    finally:
        gc.unfreeze()
    assert Circle.died - before >= 75 * 4000


def test_a_program_without_a_collector_gets_none():
    encoded = codec.encode([(str(number), number) for number in range(9000)])
    buffers = [memoryview(bytes(part)) for part in encoded[2]]
    before = gc.get_threshold()
    seen = []

    def look(phase, info):
        seen.append(phase)

    gc.set_threshold(0)
    gc.callbacks.append(look)
    try:
        assert len(codec.decode(encoded[0], encoded[1], buffers)) == 9000
    finally:
        gc.callbacks.remove(look)
        gc.set_threshold(*before)
    assert not seen


def test_values_travel_while_another_thread_is_importing_numpy(monkeypatch):
    for name in ("numpy", "pyarrow"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    value = [(1, "a"), (2.5, None)]
    encoding, head, buffers, _ = encode(value)
    assert decode(encoding, head, [memoryview(part) for part in buffers]) == value
    assert stable_hash("key") != stable_hash(("key", b"key"))
    with pytest.raises(KeyHashError, match="no stable hash"):
        stable_hash(object())
