"""NumPy, pandas and Arrow."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from pynenc.exceptions import SerializationError
from pynenc.serializer import JsonSerializer, TypeGate

S = JsonSerializer()
GATE = TypeGate()


def trip(value):
    return S.loads(S.dumps(value), GATE)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6).reshape(2, 3),
        np.asfortranarray(np.ones((2, 3))),
        np.arange(10)[::2],
        np.array([1, "a", None, (1,)], object),
        np.array([[1, None]], object),
        np.array([], object),
        np.array([], float),
        np.zeros((0, 3), "f4"),
        np.array(5),
        np.array([1.5, np.nan, np.inf]),
        np.array(["a", "bcd"]),
        np.array([b"x"]),
        np.array([True, False]),
        np.array([1 + 2j]),
        np.array([1, 2], ">i4"),
        np.array([(1, (2.0, 3.0))], dtype=[("x", "i4"), ("y", "f8", (2,))]),
        np.array(["2020-01-01", "NaT"], "M8[D]"),
        np.array([5], "m8[ms]"),
        np.array([b""], dtype="S0"),
    ],
    ids=lambda array: f"{array.dtype.str}{array.shape}",
)
def test_arrays(array):
    found = trip(array)
    assert (type(found), found.dtype, found.shape) == (np.ndarray, array.dtype, array.shape)
    np.testing.assert_array_equal(found, array)
    assert found.flags.writeable
    assert found.flags.owndata or found.base.flags.owndata
    assert found.flags.f_contiguous == (array.flags.f_contiguous or found.ndim < 2)


@pytest.mark.parametrize(
    "scalar",
    [
        np.float64(1.5),
        np.int8(3),
        np.str_("abc"),
        np.str_(""),
        np.bool_(True),
        np.complex64(1j),
        np.datetime64("2020-01-01", "s"),
        np.bytes_(b"x"),
    ],
    ids=repr,
)
def test_scalars(scalar):
    found = trip(scalar)
    assert type(found) is type(scalar)
    assert found.dtype == scalar.dtype
    assert found == scalar


FRAME = pd.DataFrame(
    {
        "int": [1, 2, 3],
        "text": ["x", None, "z"],
        "category": pd.Categorical(["u", "v", "u"], ordered=True),
        "moment": pd.date_range("2020", periods=3, tz="Europe/Madrid"),
        "naive": pd.date_range("2020", periods=3),
        "masked": pd.array([1, None, 3], dtype="Int64"),
        "flag": pd.array([True, None, False], dtype="boolean"),
        "float": [1.5, float("nan"), 2],
        "object": [{"k": 1}, (1,), None],
        "string": pd.array(["a", None, "c"], dtype="string"),
        "span": pd.to_timedelta([1, 2, 3], unit="s"),
    }
)


@pytest.mark.parametrize(
    "frame",
    [
        FRAME,
        FRAME.set_index("text"),
        FRAME.set_index(["int", "text"]),
        FRAME.set_index("category"),
        FRAME.set_index("moment"),
        FRAME.iloc[:0],
        pd.DataFrame(),
        pd.DataFrame([[1, 2], [3, 4]], columns=["same", "same"], index=pd.RangeIndex(5, 9, 2, name="r")),
        pd.DataFrame({"v": [1, 2]}, index=pd.date_range("2020", periods=2, freq="D")),
        pd.DataFrame({("a", 1): [1], ("b", 2): [2.5]}),
    ],
    ids=range(10),
)
def test_frames(frame):
    pd.testing.assert_frame_equal(trip(frame), frame, check_freq=True)


def test_series_and_indexes():
    for series in (
        pd.Series([1, 2], name=("a", 1)),
        pd.Series(["a", "b"], index=["x", "y"], dtype=object),
        pd.Series([], dtype="f4"),
        *(FRAME[name] for name in FRAME),
    ):
        pd.testing.assert_series_equal(trip(series), series)
    for index in (
        pd.Index([1, 2], name="i"),
        pd.RangeIndex(3),
        pd.MultiIndex.from_tuples([(1, "a"), (2, "b")], names=["n", None]),
        pd.Index(["a", 1], dtype=object),
    ):
        pd.testing.assert_index_equal(trip(index), index, exact=True)
    frame = pd.DataFrame({"a": [1]})
    frame.attrs["unit"] = ("m",)
    assert trip(frame).attrs == {"unit": ("m",)}


@pytest.mark.parametrize(
    "value",
    [pd.Timestamp("2020-01-01T10:00:00.123456789"), pd.Timestamp("2020-06-01", tz="Europe/Madrid"), pd.Timedelta("1s")],
    ids=repr,
)
def test_pandas_scalars(value):
    found = trip(value)
    assert (type(found), found, found.unit) == (type(value), value, value.unit)
    assert str(getattr(found, "tz", None)) == str(getattr(value, "tz", None))


def test_pandas_nothing():
    assert trip([pd.NaT, pd.NA])[0] is pd.NaT
    assert trip([pd.NaT, pd.NA])[1] is pd.NA


def test_arrow():
    table = pa.table({"a": [1, None], "b": ["x", "y"], "c": [[1], []]}).replace_schema_metadata({"k": "v"})
    assert trip(table).equals(table, check_metadata=True)
    batch = pa.record_batch({"a": [1, 2]})
    assert type(trip(batch)) is pa.RecordBatch
    assert trip(batch).equals(batch)


def test_what_does_not_travel():
    for value in (
        pd.Series(pd.period_range("2020", periods=2)),
        np.ma.array([1], mask=[True]),
        np.array([(1, None)], dtype=[("a", "i4"), ("b", "O")]),
        pa.array([1]),
    ):
        with pytest.raises(SerializationError, match=r"travel|cannot be sent"):
            S.dumps(value)


def test_the_libraries_are_not_imported_for_nothing():
    code = "import sys, pynenc.serializer as s; s.JsonSerializer().dumps((1, {2}, KeyError(3)));"
    code += "print({'numpy', 'pandas', 'pyarrow', 'pydantic', 'attrs'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
