"""The settings of the client data store: ``app.conf.client_data_store``."""

from __future__ import annotations

from pynenc.conf.section import Section, setting
from pynenc.conf.values import boolean, size, whole
from pynenc.exceptions import ConfigError

__all__ = ["ConfigClientDataStore"]


class ConfigClientDataStore(Section, section="client_data_store"):
    """Which arguments and results are kept once, by content, beside the invocations."""

    disabled: bool = setting(
        False, boolean, "Keep every value inline.", aliases=("disable_client_data_store",), flat=False
    )
    min_size_to_cache: int = setting(256 * 1024, size, "Bytes from which a value goes to the data store.")
    max_size_to_cache: int = setting(0, size, "Bytes above which it does not; 0 for no limit.")
    local_cache_size: int = setting(1024, whole(), "How many values each process remembers; 0 for none.")

    def check(self) -> None:
        """The limits must leave something between them."""
        if self.max_size_to_cache and self.max_size_to_cache < self.min_size_to_cache:
            raise ConfigError(
                f"'max_size_to_cache' ({self.max_size_to_cache}) is less than 'min_size_to_cache' "
                f"({self.min_size_to_cache}), so nothing could be kept: use 'disabled' to switch the data store off"
            )
