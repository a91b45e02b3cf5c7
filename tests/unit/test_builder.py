"""Each method of the builder says one thing, and what it says is a valid configuration."""

from __future__ import annotations

import pytest

from pynenc.builder import PynencBuilder
from pynenc.conf import resolve_app_conf
from pynenc.conf.config_pynenc import ArgumentPrintMode, LogFormat
from pynenc.conf.config_task import ConcurrencyControlType
from pynenc.exceptions import ConfigError


def conf_of(builder, tmp_path):
    return resolve_app_conf(builder.values(), None, str(tmp_path / "app.py"), environ={})


@pytest.mark.parametrize(
    ("builder", "wanted"),
    [
        (PynencBuilder().app_id("x"), {"app_id": "x"}),
        (PynencBuilder().store("memory://"), {"store": "memory://"}),
        (PynencBuilder().memory(), {"store": "memory://"}),
        (PynencBuilder().sqlite("/v/x.db"), {"store": "sqlite:////v/x.db"}),
        (PynencBuilder().sqlite(), {"store": "sqlite:///{root}/.pynenc/pynenc.db"}),
        (PynencBuilder().sqlite("x.db"), {"store": "sqlite:///{root}/x.db"}),
        (PynencBuilder().postgres("postgresql://h/d"), {"store": "postgresql://h/d"}),
        (PynencBuilder().redis("redis://h/0"), {"store": "redis://h/0"}),
        (PynencBuilder().dev_mode(), {"dev_mode_force_sync_tasks": True}),
        (PynencBuilder().dev_mode(force_sync_tasks=False), {"dev_mode_force_sync_tasks": False}),
        (PynencBuilder().thread_runner(), {"runner_cls": "ThreadRunner"}),
        (PynencBuilder().process_runner(), {"runner_cls": "ProcessRunner"}),
        (PynencBuilder().logging("debug", format="json"), {"logging_level": "DEBUG", "log_format": LogFormat.JSON}),
        (PynencBuilder().logging_level("warning"), {"logging_level": "WARNING"}),
        (PynencBuilder().logging_level(10), {"logging_level": "DEBUG"}),
        (PynencBuilder().logging_stream("stdout"), {"log_stream": "stdout"}),
        (PynencBuilder().logging_colors(colors=False), {"log_colors": False}),
        (PynencBuilder().logging_colors(None), {"log_colors": None}),
        (PynencBuilder().logging_format(LogFormat.JSON), {"log_format": LogFormat.JSON}),
        (PynencBuilder().serializer_json(), {"serializer": "json"}),
        (PynencBuilder().serializer_pickle("k"), {"serializer": "pickle", "signing_keys": (b"k",)}),
        (
            PynencBuilder().argument_print_mode("truncated", 10),
            {"argument_print_mode": ArgumentPrintMode.TRUNCATED, "truncate_arguments_length": 10},
        ),
        (PynencBuilder().argument_print_mode(ArgumentPrintMode.KEYS), {"argument_print_mode": ArgumentPrintMode.KEYS}),
        (PynencBuilder().max_pending_seconds(9), {"max_pending_seconds": 9.0}),
        (PynencBuilder().trigger_task_modules("a", "b"), {"trigger_task_modules": ("a", "b")}),
        (PynencBuilder().trigger_task_modules({"b", "a"}), {"trigger_task_modules": ("a", "b")}),
        (PynencBuilder().custom_config(redact=["token"]), {"redact": ("token",)}),
    ],
)
def test_settings_of_the_app(builder, wanted, tmp_path):
    conf = conf_of(builder, tmp_path)
    for name, value in wanted.items():
        expected = value.format(root=tmp_path) if isinstance(value, str) else value
        assert getattr(conf, name) == expected
        assert conf.origin(name) == "constructor"


@pytest.mark.parametrize(
    ("builder", "section", "wanted"),
    [
        (PynencBuilder().thread_runner(2, 6), "runner", {"min_threads": 2, "max_threads": 6}),
        (PynencBuilder().multi_thread_runner(processes=3, threads=4), "runner", {"processes": 3, "threads": 4}),
        (PynencBuilder().persistent_process_runner(num_processes=5), "runner", {"processes": 5}),
        (
            PynencBuilder().runner_tuning(lease_seconds="1m", queues="a,b"),
            "runner",
            {"lease_seconds": 60.0, "queues": ("a", "b")},
        ),
        (PynencBuilder().disable_client_data_store(), "client_data_store", {"disabled": True}),
        (
            PynencBuilder().disable_client_data_store().client_data_store(min_size_to_cache="1MB", local_cache_size=9),
            "client_data_store",
            {"disabled": False, "min_size_to_cache": 2**20, "local_cache_size": 9},
        ),
        (
            PynencBuilder().concurrency_control("task", running_limit=3),
            "task",
            {"running_concurrency": ConcurrencyControlType.TASK, "running_limit": 3},
        ),
        (
            PynencBuilder().thread_runner().custom_config(runner={"burst": True}),
            "runner",
            {"burst": True, "min_threads": 1},
        ),
    ],
)
def test_settings_of_sections(builder, section, wanted, tmp_path):
    found = getattr(conf_of(builder, tmp_path), section)
    assert {name: getattr(found, name) for name in wanted} == wanted
    assert {found.origin(name) for name in wanted} == {f"constructor [{section}]"}


def test_every_method_gives_the_builder_back():
    builder = PynencBuilder()
    assert builder.app_id("x").memory().thread_runner().dev_mode().logging_level("info").serializer_json() is builder


def test_the_later_word_counts():
    assert PynencBuilder().memory().sqlite("/x.db").values()["store"] == "sqlite:////x.db"


def test_values_are_a_copy():
    builder = PynencBuilder().thread_runner()
    builder.values()["runner"]["min_threads"] = 99
    assert builder.values()["runner"]["min_threads"] == 1


def test_bad_settings_are_reported_by_build():
    with pytest.raises(ConfigError, match="did you mean 'app_id'"):
        PynencBuilder().custom_config(app_idd="x").build()


def test_build_makes_the_app():
    from pynenc.app import Pynenc

    app = PynencBuilder().app_id("built").memory().thread_runner(2, 4).build()
    assert isinstance(app, Pynenc)
    assert (app.conf.app_id, app.conf.store, app.conf.runner.max_threads) == ("built", "memory://", 4)
