"""Handlers for arrays and tables of NumPy, pandas and Arrow. They are imported when such a value is met, never before."""

from __future__ import annotations

from functools import partial
from typing import Any

from pynenc.exceptions import SerializationError
from pynenc.serializer.standard import pairs, unbase64
from pynenc.serializer.walk import Build, Handler, Walk


def _library(name: str) -> Any:
    """One of the three libraries; the name never comes from data."""
    from importlib import import_module

    try:
        return import_module(name)
    except ImportError as error:
        raise SerializationError(
            f"it holds a value of {name}, which is not installed here: install it where the task and its callers run"
        ) from error


# -- NumPy ---------------------------------------------------------------------------------------------------------------
def _encode_dtype(dtype: Any) -> Any:
    if dtype.names is not None:
        return dtype.descr if dtype == _library("numpy").dtype(dtype.descr) else _no_dtype(dtype)
    return dtype.str if dtype == _library("numpy").dtype(dtype.str) else _no_dtype(dtype)


def _no_dtype(dtype: Any) -> Any:
    raise SerializationError(f"NumPy type {dtype!r} does not travel: convert it with astype()")


def _decode_dtype(data: Any) -> Any:
    dtype = _library("numpy").dtype(data if isinstance(data, str) else [_descr_field(field) for field in data])
    if dtype.hasobject:
        raise SerializationError("it holds a NumPy type that points to objects")
    return dtype


def _descr_field(field: list[Any]) -> Any:
    name, kind, *shape = field
    kind = [_descr_field(part) for part in kind] if isinstance(kind, list) else kind
    return (tuple(name) if isinstance(name, list) else name, kind, *(tuple(part) for part in shape))


def _encode_array(value: Any, walk: Walk, depth: int) -> Any:
    """``[type, shape, order, bytes]``, or the items one by one when they are objects."""
    if value.dtype.hasobject:
        if value.dtype.names is not None:
            _no_dtype(value.dtype)
        return ["O", list(value.shape), "C", walk.items(value.ravel().tolist(), depth)]
    order = "F" if value.flags.f_contiguous and not value.flags.c_contiguous else "C"
    return [_encode_dtype(value.dtype), list(value.shape), order, value.tobytes(order)]


def _decode_array(data: Any, build: Build, depth: int) -> Any:
    np = _library("numpy")
    kind, shape, order, content = data
    if kind == "O":
        made = np.empty(len(content), object)
        made[:] = build.items(content, depth)
        return made.reshape(shape)
    dtype, raw = _decode_dtype(kind), unbase64(content)
    found = (
        np.ndarray(shape, dtype, raw or None, order=order)
        if raw or 0 in shape or not dtype.itemsize
        else np.frombuffer(raw, dtype).reshape(shape)
    )
    if found.nbytes != len(raw):
        raise SerializationError("it holds an array whose size and content do not agree")
    return found.copy(order)


def _encode_scalar(value: Any, _walk: Walk, _depth: int) -> Any:
    return [_encode_dtype(value.dtype), value.tobytes()]


def _decode_scalar(data: Any, _build: Build, _depth: int) -> Any:
    kind, content = data
    dtype, raw = _decode_dtype(kind), unbase64(content)
    np = _library("numpy")
    return np.frombuffer(raw, dtype)[0] if dtype.itemsize else np.zeros((), dtype)[()]


# -- pandas --------------------------------------------------------------------------------------------------------------
_MASKED = frozenset(
    {"Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64", "Float32", "Float64", "boolean"}
)


def _encode_values(values: Any, walk: Walk, depth: int) -> Any:
    """The values of a column or an index: ``[kind, …]``."""
    pd = _library("pandas")
    dtype = values.dtype
    if isinstance(dtype, _library("numpy").dtype):
        return ["numpy", {"~ndarray": _encode_array(values.to_numpy(), walk, depth)}]
    if isinstance(dtype, pd.CategoricalDtype):
        categorical = values.array
        codes = {"~ndarray": _encode_array(categorical.codes, walk, depth)}
        return ["category", codes, _encode_index(dtype.categories, walk, depth), bool(dtype.ordered)]
    if isinstance(dtype, pd.DatetimeTZDtype):
        return [
            "moment",
            {"~ndarray": _encode_array(values.array.asi8, walk, depth)},
            dtype.unit,
            walk.value(dtype.tz, depth),
        ]
    if isinstance(dtype, pd.StringDtype):
        is_nan = dtype.na_value is not pd.NA
        return [
            "text",
            dtype.storage,
            is_nan,
            walk.items([item if isinstance(item, str) else None for item in values], depth),
        ]
    if str(dtype) in _MASKED:
        return [
            "masked",
            str(dtype),
            walk.items([None if item is pd.NA else item.item() for item in values.array], depth),
        ]
    raise SerializationError(f"pandas type {dtype} does not travel: convert the column with astype()")


def _decode_values(data: Any, build: Build, depth: int) -> Any:
    pd = _library("pandas")
    kind, *rest = data
    if kind == "numpy":
        return build.value(rest[0], depth)
    if kind == "category":
        codes, categories, is_ordered = rest
        return pd.Categorical.from_codes(
            build.value(codes, depth), _decode_index(categories, build, depth), ordered=is_ordered
        )
    if kind == "moment":
        moments, unit, zone = rest
        naive = build.value(moments, depth).view(f"M8[{_unit(unit)}]")
        return pd.DatetimeIndex(naive).tz_localize("UTC").tz_convert(build.value(zone, depth)).array
    if kind == "text":
        storage, is_nan, items = rest
        dtype = pd.StringDtype(storage, float("nan")) if is_nan else pd.StringDtype(storage)
        return pd.array(build.items(items, depth), dtype=dtype)
    if kind == "masked" and rest[0] in _MASKED:
        return pd.array(build.items(rest[1], depth), dtype=rest[0])
    raise SerializationError("it holds a column of an unknown kind")


def _unit(unit: str) -> str:
    if unit not in ("s", "ms", "us", "ns"):
        raise SerializationError(f"{unit!r} is no unit of time")
    return unit


def _encode_index(index: Any, walk: Walk, depth: int) -> Any:
    """``[kind, names, …]``."""
    pd = _library("pandas")
    names = walk.items(list(index.names), depth)
    if isinstance(index, pd.RangeIndex):
        return ["range", names, index.start, index.stop, index.step]
    if isinstance(index, pd.MultiIndex):
        levels = [_encode_index(level, walk, depth) for level in index.levels]
        return [
            "multi",
            names,
            levels,
            [{"~ndarray": _encode_array(_library("numpy").asarray(codes), walk, depth)} for codes in index.codes],
        ]
    freq = index.freqstr if isinstance(index, (pd.DatetimeIndex, pd.TimedeltaIndex)) else None
    return ["plain", names, _encode_values(index, walk, depth), freq]


def _decode_index(data: Any, build: Build, depth: int) -> Any:
    pd = _library("pandas")
    kind, names, *rest = data
    names = build.items(names, depth)
    if kind == "range":
        return pd.RangeIndex(*rest, name=names[0])
    if kind == "multi":
        levels, codes = rest
        return pd.MultiIndex(
            [_decode_index(level, build, depth) for level in levels], build.items(codes, depth), names=names
        )
    values, freq = rest
    made = pd.Index(
        _decode_values(values, build, depth), name=names[0], **({"dtype": object} if _is_object(values) else {})
    )
    if freq is not None:
        made.freq = freq
    return made


def _is_object(values: Any) -> bool:
    return values[0] == "numpy" and str(getattr(values[1], "dtype", "")) == "object"


def _encode_series(value: Any, walk: Walk, depth: int) -> Any:
    return [
        _encode_index(value.index, walk, depth),
        walk.value(value.name, depth),
        _encode_values(value, walk, depth),
        walk.pairs(value.attrs, depth),
    ]


def _decode_series(data: Any, build: Build, depth: int) -> Any:
    index, name, values, attrs = data
    array = _decode_values(values, build, depth)
    made = _library("pandas").Series(
        array, index=_decode_index(index, build, depth), name=build.value(name, depth), dtype=array.dtype
    )
    made.attrs = dict(pairs(attrs, build, depth))
    return made


def _encode_frame(value: Any, walk: Walk, depth: int) -> Any:
    columns = [_encode_values(value.iloc[:, position], walk, depth) for position in range(value.shape[1])]
    return [
        _encode_index(value.index, walk, depth),
        _encode_index(value.columns, walk, depth),
        columns,
        walk.pairs(value.attrs, depth),
    ]


def _decode_frame(data: Any, build: Build, depth: int) -> Any:
    pd = _library("pandas")
    index, labels, columns, attrs = data
    index = _decode_index(index, build, depth)
    arrays = [_decode_values(column, build, depth) for column in columns]
    made = pd.DataFrame(
        {position: pd.Series(array, index=index, dtype=array.dtype) for position, array in enumerate(arrays)},
        index=index,
    )
    made.columns = _decode_index(labels, build, depth)
    made.attrs = dict(pairs(attrs, build, depth))
    return made


def _encode_index_value(value: Any, walk: Walk, depth: int) -> Any:
    return _encode_index(value, walk, depth)


def _encode_timestamp(value: Any, walk: Walk, depth: int) -> Any:
    """Whole units since 1970, the unit, and the time zone."""
    return [value.asm8.view("i8").item(), value.unit, None if value.tz is None else walk.value(value.tz, depth)]


def _decode_timestamp(data: Any, build: Build, depth: int) -> Any:
    count, unit, zone = data
    moment = _library("pandas").Timestamp(_library("numpy").datetime64(count, _unit(unit)))
    return moment if zone is None else moment.tz_localize("UTC").tz_convert(build.value(zone, depth))


def _encode_span(value: Any, _walk: Walk, _depth: int) -> Any:
    return [value.asm8.view("i8").item(), value.unit]


def _decode_span(data: Any, _build: Build, _depth: int) -> Any:
    count, unit = data
    return _library("pandas").Timedelta(_library("numpy").timedelta64(count, _unit(unit)))


def _encode_nothing(value: Any, _walk: Walk, _depth: int) -> Any:
    return "NaT" if type(value).__name__ == "NaTType" else "NA"


def _decode_nothing(data: Any, _build: Build, _depth: int) -> Any:
    return getattr(_library("pandas"), {"NaT": "NaT", "NA": "NA"}[data])


# -- Arrow ---------------------------------------------------------------------------------------------------------------
def _encode_arrow(value: Any, _walk: Walk, _depth: int) -> Any:
    """The stream format of Arrow."""
    pa = _library("pyarrow")
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, value.schema) as writer:
        writer.write(value)
    return sink.getvalue().to_pybytes()


def _decode_arrow(is_batch: bool, data: Any, _build: Build, _depth: int) -> Any:  # noqa: FBT001  # bound in the table below
    pa = _library("pyarrow")
    with pa.ipc.open_stream(unbase64(data)) as reader:
        found = reader.read_next_batch() if is_batch else reader.read_all()
    found.validate(full=True)
    return found


# -- choosing ------------------------------------------------------------------------------------------------------------
_ARRAY = Handler("~ndarray", _encode_array, _decode_array)
_SCALAR = Handler("~npscalar", _encode_scalar, _decode_scalar)
_INDEX = Handler("~index", _encode_index_value, _decode_index)
_NOTHING = Handler("~nothing", _encode_nothing, _decode_nothing)
_PANDAS = {
    "DataFrame": Handler("~frame", _encode_frame, _decode_frame),
    "Series": Handler("~series", _encode_series, _decode_series),
    "Timestamp": Handler("~timestamp", _encode_timestamp, _decode_timestamp),
    "Timedelta": Handler("~span", _encode_span, _decode_span),
    "NaTType": _NOTHING,
    "NAType": _NOTHING,
    **dict.fromkeys(
        ("Index", "RangeIndex", "MultiIndex", "DatetimeIndex", "TimedeltaIndex", "CategoricalIndex"), _INDEX
    ),
}
_ARROW = {
    "Table": Handler("~table", _encode_arrow, partial(_decode_arrow, False)),
    "RecordBatch": Handler("~batch", _encode_arrow, partial(_decode_arrow, True)),
}

#: Handlers by tag.
DECODERS: dict[str, Handler] = {
    handler.tag: handler for handler in (_ARRAY, _SCALAR, *_PANDAS.values(), *_ARROW.values())
}


def classify(cls: type) -> Handler | None:
    """The handler of a type of one of the three libraries themselves; subclasses made by others are not theirs."""
    library = cls.__module__.partition(".")[0]
    if library == "numpy":
        np = _library("numpy")
        return _ARRAY if cls is np.ndarray else _SCALAR if issubclass(cls, np.generic) else None
    if library == "pandas":
        return _PANDAS.get(cls.__name__)
    return _ARROW.get(cls.__name__) if library == "pyarrow" else None
