"""Between values and payloads: arguments, results and errors, with limits, sealing and the client data store.

An arguments payload is one JSON object with a fragment for each argument. A large fragment is kept once in the client data store
and the payload holds a reference to it. What is stored is *sealed*: compressed when it is large, and signed when the app has
signing keys, for the place where it belongs, so that nothing that was stored can be moved elsewhere. Arguments belong to their
task; a result or an error to its task and invocation; a value to its scope and key.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from pynenc.conf.classes import load_class
from pynenc.conf.config_pynenc import ConfigPynenc
from pynenc.core.ids import digest
from pynenc.core.reaction import CHANGE_HEAD, CHANGE_TAIL
from pynenc.core.records import Claimed, Final, Invocation, New
from pynenc.core.status import InvocationStatus
from pynenc.engine.blobs import BlobStore, ClientDataStore
from pynenc.engine.display import Display
from pynenc.engine.spec import TaskSpec
from pynenc.exceptions import SerializationError, TaskFailedError, WorkerLostError
from pynenc.serializer.base import (
    NO_BLOBS,
    BaseSerializer,
    join_after,
    join_prefix,
    referred_keys,
    split_fragments,
)
from pynenc.serializer.errors import ErrorInfo, decode_error, encode_error, read_error
from pynenc.serializer.gate import TypeGate, class_name
from pynenc.serializer.json_serializer import JsonSerializer
from pynenc.serializer.payload import COMPRESS_FROM, MAX_DECOMPRESSED, Sealer, without_headers
from pynenc.serializer.pickle_serializer import PickleSerializer

_decode = msgspec.json.Decoder().decode
_encode_sorted = msgspec.json.Encoder(order="sorted").encode
_LONG = frozenset({str, bytes})
#: The first byte of JSON is above those of the sealed forms that differ from it.
_JSON = b" "
#: What an error without a signature may be when there are keys: runners report a dead process without them.
_UNSIGNED = class_name(WorkerLostError).replace(":", ".")


class Encoded(msgspec.Struct, frozen=True, gc=False):
    """Encoded arguments of one call.

    ``payload`` is sealed, ``plain`` is what was sealed; ``blobs`` are the keys that it refers to.
    """

    payload: bytes
    plain: bytes
    blobs: tuple[str, ...] = ()


class Common(dict[str, bytes]):
    """The fragments of arguments that many calls share, by name; ``prefix`` is the start of a payload with all of them."""

    def __init__(self, fragments: Mapping[str, bytes]) -> None:
        super().__init__(fragments)
        self.prefix = join_prefix(fragments)
        self.blobs = referred_keys(fragments.values())


class Codec:
    """Encodes and decodes for one app. Limits are read when they are needed, so that assigning one takes effect at once.

    :param gate: the classes that data may bring back to life where no task is at hand.
    :param resolve: the spec of a task key, or None; to show invocations of any task.
    """

    def __init__(
        self,
        conf: ConfigPynenc,
        serializer: BaseSerializer,
        blobs: ClientDataStore,
        gate: TypeGate,
        resolve: Callable[[str], TaskSpec | None],
    ) -> None:
        self.serializer = serializer
        self.blobs = blobs
        self._conf = conf
        self._sealer = Sealer(conf.signing_keys, max(MAX_DECOMPRESSED, conf.max_arguments, conf.max_result))
        self._signs = bool(conf.signing_keys)
        self.gate = self._gate = gate
        self._resolve = resolve
        self._display = Display(conf)

    @classmethod
    def from_conf(
        cls, conf: ConfigPynenc, store: BlobStore, gate: TypeGate, resolve: Callable[[str], TaskSpec | None]
    ) -> Codec:
        """The codec that the settings of an app ask for.

        :raises ConfigError: the serializer cannot be made.
        """
        return cls(conf, make_serializer(conf), make_blobs(conf, store), gate, resolve)

    # -- arguments -----------------------------------------------------------------------------------------------------
    def encode(self, spec: TaskSpec, bound: Mapping[str, Any]) -> Encoded:
        """Encode the arguments of a call.

        :raises SerializationError: one cannot be encoded, or all are too large together; the message names it.
        """
        blobs = self.blobs
        for value in bound.values():  # here, not in a function: this is the hot path
            if type(value) in _LONG and len(value) >= blobs.min_size:
                plain, keys = blobs.encode_arguments(self.serializer, bound, spec.gate, inline=spec.no_cache)
                break
        else:
            plain, keys = self.serializer.dumps_arguments(bound, spec.gate), ()
            if len(plain) >= blobs.min_size:
                plain, keys = blobs.offload_in(plain, spec.no_cache)
        if len(plain) < COMPRESS_FROM and not self._signs and len(plain) <= self._conf.max_arguments:
            return Encoded(plain, plain, keys)
        return self._seal_arguments(spec, plain, keys)

    def encode_common(self, spec: TaskSpec, common: Mapping[str, Any]) -> Common:
        """Encode what many calls share. Names that are no parameters are left to the calls, as a part of their ``**kwargs``.

        :raises SerializationError: as :meth:`encode`. :raises TypeError: the function takes no such argument.
        """
        fragments: dict[str, bytes] = {}
        for name in spec.binder.bind_partial_names(common):
            if name in spec.no_cache:
                fragments[name] = self.serializer.dumps(common[name], spec.gate, where=name)
            else:
                fragments[name], _ = self.blobs.offload_value(common[name], self.serializer, spec.gate, where=name)
        return Common(fragments)

    def encode_with_common(self, spec: TaskSpec, common: Mapping[str, bytes], own: Mapping[str, Any]) -> Encoded:
        """Encode a call of which a part is encoded already; its own arguments win over common ones of the same name."""
        if not own.keys().isdisjoint(common):
            common = {name: fragment for name, fragment in common.items() if name not in own}
        shared = common if isinstance(common, Common) else Common(common)
        plain, keys = self.blobs.encode_arguments(self.serializer, own, spec.gate, inline=spec.no_cache)
        return self._seal_arguments(spec, join_after(shared.prefix, plain), (*shared.blobs, *keys))

    def _seal_arguments(self, spec: TaskSpec, plain: bytes, keys: tuple[str, ...]) -> Encoded:
        if len(plain) > self._conf.max_arguments:
            raise _too_large(spec, plain, self._conf.max_arguments, can_offload=self.blobs.enabled)
        return Encoded(self._sealer.seal(plain, _arguments_of(spec.key)), plain, keys)

    def decode(self, spec: TaskSpec, call: Claimed | Invocation | New) -> dict[str, Any]:
        """The arguments of an invocation: own copies, by name.

        :raises SerializationError: they are damaged, or need a class that the task may not rebuild.
        """
        plain = call.args
        if spec.is_firing and plain.startswith(CHANGE_HEAD):
            return {"kind": "change", "cause": plain[len(CHANGE_HEAD) : -len(CHANGE_TAIL)].decode()}
        if self._signs or plain[:1] < _JSON:
            plain = self._sealer.unseal(without_headers(plain), _arguments_of(call.task))
        blobs = self.blobs.fetch(call.blobs) if call.blobs else NO_BLOBS
        return self.serializer.loads_arguments(plain, spec.gate, blobs)

    # -- identity of calls -----------------------------------------------------------------------------------------------
    def digest(self, call: Encoded) -> str:
        """Equal for equal arguments, whatever their order in the call or inside a dict."""
        return _digest(call.plain)

    def digest_row(self, row: Invocation) -> str:
        """The same for a stored call."""
        return row.args_digest or _digest(self._plain_arguments(row))

    def canonical(self, call: Encoded, name: str) -> bytes:
        """The encoding of one argument, equal for equal values; empty for one that the call does not have."""
        fragment = split_fragments(call.plain).get(name)
        return b"" if fragment is None else _canonical(fragment)

    def canonicals(self, call: Encoded) -> dict[str, bytes]:
        """The same for all arguments, by name."""
        return {name: _canonical(fragment) for name, fragment in split_fragments(call.plain).items()}

    def _plain_arguments(self, row: Invocation) -> bytes:
        return self._sealer.unseal(without_headers(row.args), _arguments_of(row.task))

    # -- results -------------------------------------------------------------------------------------------------------
    def encode_result(self, spec: TaskSpec, claimed: Claimed, value: Any) -> bytes:
        """The payload of what a body returned.

        :raises SerializationError: it cannot be encoded, or is too large.
        """
        plain = self.serializer.dumps(value, spec.gate, where="the result")
        if len(plain) > self._conf.max_result:
            raise SerializationError(
                f"the result of {spec.key} has {len(plain)} bytes, more than the setting 'max_result' allows "
                f"({self._conf.max_result}): keep it somewhere else and return where it is, or raise the setting"
            )
        if len(plain) < COMPRESS_FROM and not self._signs:
            return plain
        return self._sealer.seal(plain, _outcome_of(claimed))

    def decode_result(self, spec: TaskSpec, final: Final | Invocation) -> Any:
        """The value of a success; an own copy at each call."""
        plain = final.payload
        if self._signs or plain[:1] < _JSON:
            plain = self._sealer.unseal(plain, _outcome_of(final))
        return self.serializer.loads(plain, spec.gate)

    # -- errors --------------------------------------------------------------------------------------------------------
    def encode_error(self, spec: TaskSpec | None, claimed: Claimed, error: BaseException) -> bytes:
        """The payload of an exception; never fails. Its texts do not show the values of secret arguments."""
        hide = self._display.hider(spec, lambda: self._secrets(spec, claimed))
        limit = self._conf.max_traceback
        gate = self._gate if spec is None else spec.gate
        return self._sealer.seal(encode_error(error, redact=hide, max_traceback=limit, gate=gate), _outcome_of(claimed))

    def _secrets(self, spec: TaskSpec | None, claimed: Claimed) -> Mapping[str, Any]:
        """The arguments, as far as they are known; nothing of those that cannot be decoded is in an error."""
        try:
            return self.decode(spec, claimed) if spec else {}
        except Exception:  # whatever the store gave
            return {}

    def decode_error(self, spec: TaskSpec, final: Final) -> Exception:
        """The exception of a failure: a new object at each call."""
        if not final.payload:  # a store has ended it, without an error to tell
            return TaskFailedError(f"{final.task} failed: {final.reason or 'nothing is known of it'}", final.task)
        try:
            return decode_error(self.open_error(final), spec.gate, final.task)
        except SerializationError as error:
            return error

    def open_error(self, final: Final | Invocation) -> bytes:
        """The stored form of an error, for those who only show it.

        :raises SerializationError: it is damaged, or not signed as it should be.
        """
        if self._signs and final.payload[:1] == b"{" and read_error(final.payload).type == _UNSIGNED:
            return final.payload
        return self._sealer.unseal(final.payload, _outcome_of(final))

    def read_error(self, claimed: Claimed, payload: bytes) -> ErrorInfo:
        """The texts of an error that was encoded here."""
        return read_error(self._sealer.unseal(payload, _outcome_of(claimed)))

    # -- values of workflows ---------------------------------------------------------------------------------------------
    def encode_value(self, value: Any, scope: str, key: str) -> bytes:
        """The payload of a value that a workflow keeps.

        :raises SerializationError: it cannot be encoded.
        """
        return self._sealer.seal(self.serializer.dumps(value, self._gate, where=key), f"{scope} {key}".encode())

    def decode_value(self, payload: bytes, scope: str, key: str) -> Any:
        """The value of a payload; an own copy at each call."""
        return self.serializer.loads(self._sealer.unseal(payload, f"{scope} {key}".encode()), self._gate)

    # -- showing -------------------------------------------------------------------------------------------------------
    def hidden_names(self, task: str) -> tuple[str, ...]:
        """The names whose values are never shown where this task is concerned."""
        return self._display.hidden_names(self._resolve(task))

    def describe(self, spec: TaskSpec, arguments: Mapping[str, Any]) -> dict[str, str]:
        """Arguments as people get to see them, by name."""
        return self._display.arguments(spec, arguments)

    def describe_row(self, row: Invocation) -> dict[str, Any]:
        """Arguments, result or error of an invocation as people get to see them; what cannot be decoded says why."""
        spec = self._resolve(row.task)
        shown: dict[str, Any] = {"arguments": self._describe_arguments(spec, row)}
        try:
            if row.status is InvocationStatus.SUCCESS:
                gate = self._gate if spec is None else spec.gate
                plain = self._sealer.unseal(row.payload, _outcome_of(row))
                shown["result"] = self._display.value(spec, self.serializer.loads(plain, gate))
            elif row.payload:
                info = read_error(self.open_error(row))
                shown |= {"error": f"{info.type}: {info.message}", "traceback": info.traceback}
        except SerializationError as error:
            shown["unreadable"] = str(error)
        return shown

    def _describe_arguments(self, spec: TaskSpec | None, row: Invocation) -> dict[str, str]:
        try:
            if spec is not None:
                return self._display.arguments(spec, self.decode(spec, row))
            plain = self._plain_arguments(row)
            return self._display.arguments(
                None, self.serializer.loads_arguments(plain, self._gate, self.blobs.fetch(row.blobs))
            )
        except SerializationError as error:
            return {"unreadable": str(error)}


# -- the parts ---------------------------------------------------------------------------------------------------------------
def make_serializer(conf: ConfigPynenc) -> BaseSerializer:
    """The serializer that the settings name.

    :raises ConfigError: it cannot be imported, or is none.
    """
    if conf.serializer == "json":
        return JsonSerializer(max_depth=conf.max_depth)
    if conf.serializer == "pickle":
        return PickleSerializer(conf.signing_keys)
    made: BaseSerializer = load_class(conf.serializer, BaseSerializer, "serializer")()
    return made


def make_blobs(conf: ConfigPynenc, store: BlobStore) -> ClientDataStore:
    """The client data store that the settings describe."""
    settings = conf.client_data_store
    min_size = settings.min_size_to_cache
    is_said = settings.origin("min_size_to_cache") != "default" and conf.origin("max_inline_argument") == "default"
    return ClientDataStore(
        store,
        enabled=not settings.disabled,
        min_size=min_size if is_said else min(min_size, conf.max_inline_argument),
        max_size=settings.max_size_to_cache,
        cache_entries=settings.local_cache_size,
    )


def _arguments_of(task: str) -> bytes:
    return f"arguments {task}".encode()


def _outcome_of(record: Claimed | Final | Invocation) -> bytes:
    return f"outcome {record.task} {record.id}".encode()


def _too_large(spec: TaskSpec, plain: bytes, limit: int, *, can_offload: bool) -> SerializationError:
    """The error about arguments that are too large together; names the largest."""
    sizes = {name: len(fragment) for name, fragment in split_fragments(plain).items()}
    largest = max(sizes, key=lambda name: sizes[name])
    if not can_offload:
        advice = "switch the client data store on"
    elif largest in spec.no_cache:
        advice = "take it out of disable_cache_args"
    else:
        advice = "let the client data store keep it (settings min_size_to_cache and max_size_to_cache)"
    return SerializationError(
        f"the arguments of {spec.key} have {len(plain)} bytes, more than the setting 'max_arguments' allows ({limit}); "
        f"the largest is {largest!r} with {sizes[largest]} bytes: {advice}, or pass a path or key to load it by"
    )


# -- canonical forms -----------------------------------------------------------------------------------------------------------
def _digest(plain: bytes) -> str:
    fragments = split_fragments(plain)
    return digest(*(part for name in sorted(fragments) for part in (name, _canonical(fragments[name]))))


def _canonical(fragment: bytes) -> bytes:
    """The fragment with everything in order whose order means nothing."""
    if b"{" not in fragment:
        return fragment
    tree = _decode(fragment)
    return _encode_sorted(_ordered(tree) if b'"~dict"' in fragment else tree)


def _ordered(tree: Any) -> Any:
    """Decoded JSON with the pairs of dicts in the order of their keys; text keys are left to the encoder."""
    if isinstance(tree, list):
        return [_ordered(item) for item in tree]
    if not isinstance(tree, dict):
        return tree
    ordered = {name: _ordered(item) for name, item in tree.items()}
    if len(ordered) == 1 and isinstance(pairs := ordered.get("~dict"), list):
        ordered["~dict"] = sorted(pairs, key=_encode_sorted)
    return ordered
