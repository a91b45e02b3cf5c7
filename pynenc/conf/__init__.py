"""Configuration: every setting has one declaration, and every value knows where it came from.

:func:`resolve_app_conf` gives an app its :class:`~pynenc.conf.config_pynenc.ConfigPynenc`, :func:`resolve_task_conf` a task its
:class:`~pynenc.conf.config_task.ConfigTask`. How sources are ranked stands in :mod:`pynenc.conf.resolver`.
"""

from pynenc.conf.app_conf import resolve_app_conf, resolve_task_conf

__all__ = ["resolve_app_conf", "resolve_task_conf"]
