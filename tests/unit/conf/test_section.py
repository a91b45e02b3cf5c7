"""Live sections: assignment is checked, remembered and told; nothing changes when it is refused."""

from __future__ import annotations

import pickle

import pytest

from pynenc.conf.config_runner import ConfigRunner
from pynenc.conf.config_task import ConfigTask, check_options, exception_classes
from pynenc.core.options import ConcurrencyControlType, TaskOptions
from pynenc.exceptions import ConfigError, InvalidTaskOptionsError, RetryError

DEFAULTS = {
    "parallel_batch_size": 1000,
    "retry_for": (RetryError,),
    "max_retries": 0,
    "retry_delay": 0,
    "retry_backoff": 2.0,
    "retry_max_delay": 3600,
    "retry_jitter": "full",
    "running_concurrency": ConcurrencyControlType.DISABLED,
    "registration_concurrency": ConcurrencyControlType.DISABLED,
    "key_arguments": (),
    "running_limit": 1,
    "rate_limit": None,
    "on_diff_non_key_args_raise": False,
    "reroute_on_concurrency_control": True,
    "call_result_cache": False,
    "result_ttl": 7 * 24 * 3600,
    "disable_cache_args": (),
    "queue": "default",
    "priority": 0.0,
    "timeout": None,
    "max_crashes": 3,
    "on_crash": "retry",
    "expires": None,
    "inline": False,
    "aliases": (),
    "force_new_workflow": False,
    "triggers": None,
    "name": None,
    "tags": (),
    "redact": (),
}


def test_defaults_of_tasks():
    assert ConfigTask().values() == DEFAULTS


def test_options_of_decorators_are_the_fields():
    assert set(TaskOptions.__annotations__) == set(ConfigTask.settings)


def test_defaults_pass_their_own_parsers():
    for section in (ConfigTask, ConfigRunner):
        for name, declared in section.settings.items():
            assert section.parse(name, declared.default, "test") == declared.default


def test_assignment_parses_and_remembers():
    conf = ConfigTask()
    conf.retry_delay = "30s"
    assert conf.retry_delay == 30.0
    assert conf.origin("retry_delay") == "assigned"
    assert conf.origin("max_retries") == "default"
    assert conf.assigned() == {"retry_delay": 30.0}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("priority", 101),
        ("priority", -100.5),
        ("max_retries", -1),
        ("running_limit", 0),
        ("max_crashes", 0),
        ("timeout", 0),
        ("expires", -1),
        ("rate_limit", "fast"),
        ("on_crash", "explode"),
        ("retry_backoff", 0.5),
        ("retry_for", [3]),
        ("retry_for", KeyboardInterrupt),
        ("retry_for", "not a name"),
        ("queue", ""),
        ("running_concurrency", "SOMETIMES"),
        ("retry_jitter", "some"),
    ],
)
def test_a_bad_value_is_refused_and_changes_nothing(name, value):
    conf = ConfigTask()
    with pytest.raises(ConfigError, match=rf"'{name}' .*assigned to ConfigTask.*must be"):
        setattr(conf, name, value)
    assert conf.values() == DEFAULTS
    assert conf.origin(name) == "default"
    assert conf.version == 0


def test_keys_need_key_arguments():
    conf = ConfigTask()
    with pytest.raises(ConfigError, match=r"running_concurrency is KEYS .assigned. but 'key_arguments' is empty"):
        conf.running_concurrency = ConcurrencyControlType.KEYS
    assert conf.running_concurrency is ConcurrencyControlType.DISABLED
    conf.assign({"running_concurrency": "keys", "key_arguments": "a,b"})
    assert conf.running_concurrency is ConcurrencyControlType.KEYS
    assert conf.key_arguments == ("a", "b")


def test_several_are_assigned_together_or_not_at_all():
    conf = ConfigRunner()
    with pytest.raises(ConfigError, match=r"lease_seconds"):
        conf.assign({"threads": 3, "heartbeat_seconds": 20})
    assert (conf.threads, conf.heartbeat_seconds) == (8, 5.0)


def test_unknown_names_are_attribute_errors_with_the_nearest():
    conf = ConfigTask()
    with pytest.raises(AttributeError, match=r"no setting 'max_retry'; did you mean 'max_retries'"):
        _ = conf.max_retry
    with pytest.raises(ConfigError, match=r"unknown setting 'max_retry'.*did you mean 'max_retries'"):
        conf.max_retry = 3
    with pytest.raises(AttributeError):
        conf.max_retry = 3
    with pytest.raises(ConfigError, match=r"cannot be deleted"):
        del conf.max_retries
    assert not hasattr(conf, "zzz")


def test_a_list_of_names_when_nothing_is_near():
    with pytest.raises(ConfigError, match=r"valid names: .*aliases, .*timeout"):
        ConfigTask().xyzzy = 1


def test_watchers_and_version():
    conf, told = ConfigTask(), []
    conf.watch(told.append)
    conf.priority = 3
    conf.max_retries = 2
    assert told == ["priority", "max_retries"]
    assert conf.version == 2


def test_reading_is_a_plain_attribute():
    assert ConfigTask().__dict__["queue"] == "default"
    assert "queue" not in vars(ConfigTask)


def test_pickle_keeps_values_origins_and_assignments():
    conf = ConfigTask()
    conf.retry_for = (ValueError, "builtins.KeyError")
    conf.watch(print)
    again = pickle.loads(pickle.dumps(conf))
    assert again == conf
    assert again.origin("retry_for") == "assigned"
    assert again.assigned() == conf.assigned()
    again.priority = 1
    assert conf.priority == 0


def test_equality_is_by_class_and_values():
    assert ConfigTask() == ConfigTask()
    assert ConfigTask() != ConfigRunner()
    changed = ConfigTask()
    changed.priority = 1
    assert changed != ConfigTask()


def test_repr_shows_what_was_set():
    conf = ConfigTask()
    conf.priority = 2
    assert repr(conf) == "ConfigTask(priority=2.0)"


def test_rate_and_jitter():
    conf = ConfigTask()
    assert conf.rate is None
    assert conf.has_jitter
    conf.assign({"rate_limit": "10/5s", "retry_jitter": False})
    assert conf.rate == (10, 5.0)
    assert not conf.has_jitter
    assert conf.retry_jitter == "none"


def test_retry_for_one_class_and_dotted_names():
    conf = ConfigTask()
    conf.retry_for = KeyError
    assert conf.retry_for == (KeyError,)
    assert conf.retriable_exceptions() == (RetryError, KeyError)
    conf.retry_for = "ValueError, json.JSONDecodeError"
    import json

    assert conf.retriable_exceptions() == (RetryError, ValueError, json.JSONDecodeError)


@pytest.mark.parametrize("name", ["no_such_module_here.Error", "json.NoSuchError", "json.loads", "int"])
def test_a_dotted_name_must_lead_to_an_exception(name):
    with pytest.raises(ConfigError, match=rf"'retry_for' .file x. names '{name}'"):
        exception_classes((name,), "file x")


def test_check_options_lists_all_invalid_names():
    check_options(["max_retries", "queue"], "m.f")
    with pytest.raises(InvalidTaskOptionsError) as caught:
        check_options(["max_retry", "queue", "prioriti", "xyzzy"], "m.f")
    assert caught.value.invalid == ("max_retry", "prioriti", "xyzzy")
    assert caught.value.task_id == "m.f"
    for part in (
        "m.f",
        "'max_retry' (did you mean 'max_retries'?)",
        "(did you mean 'priority'?)",
        "'xyzzy'",
        "valid options",
    ):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    "values",
    [
        {"lease_seconds": 5},
        {"min_threads": 5, "max_threads": 2},
        {"queue_weights": [1, 2], "queues": "a"},
        {"queue_policy": "random"},
        {"threads": 0},
        {"max_memory_per_child": "much"},
    ],
)
def test_runner_settings_that_cannot_be(values):
    with pytest.raises(ConfigError):
        ConfigRunner().assign(values)


def test_runner_settings_as_people_write_them():
    conf = ConfigRunner()
    conf.max_memory_per_child = "512MB"
    conf.queues = "mail,default"
    conf.queue_weights = "3,1"
    conf.shutdown_timeout = "1m"
    assert conf.max_memory_per_child == 512 * 2**20
    assert (conf.queues, conf.queue_weights, conf.shutdown_timeout) == (("mail", "default"), (3.0, 1.0), 60.0)
