"""Values to JSON and back: :class:`JsonSerializer` by default, :class:`PickleSerializer` on request and signed."""

from pynenc.serializer.base import BaseSerializer, JsonSerializable
from pynenc.serializer.gate import TypeGate
from pynenc.serializer.json_serializer import JsonSerializer
from pynenc.serializer.pickle_serializer import PickleSerializer

__all__ = ["BaseSerializer", "JsonSerializable", "JsonSerializer", "PickleSerializer", "TypeGate"]
