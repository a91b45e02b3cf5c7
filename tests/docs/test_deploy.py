"""The files of ``deploy/``: every command, setting, port, path, metric and file that they name is one that exists.

Nothing is built here, which takes Docker; the example app is run with the command and the environment of the image.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from pynenc.cli.main import cli
from pynenc.conf.app_conf import resolve_app_conf
from pynenc.conf.config_pynenc import ConfigPynenc
from pynenc.conf.location import SCHEMES
from pynenc.runner.exposition import METRICS
from pynenc.runner.supervisor import PATIENCE
from tests.docs.pages import ROOT

DEPLOY = ROOT / "deploy"
COMPOSE = sorted(DEPLOY.glob("compose.*.yaml"))
PROBED = {"/livez", "/readyz", "/metrics"}


# -- what the files say --------------------------------------------------------------------------------------------------
def instructions() -> list[tuple[str, str]]:
    """The instructions of the Dockerfile, with continued lines joined."""
    text = re.sub(r"^#.*\n", "", (DEPLOY / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [(word, rest.strip()) for line in text.splitlines() if line for word, _, rest in [line.partition(" ")]]


def instruction(word: str) -> str:
    """The last one of a kind."""
    return [rest for name, rest in instructions() if name == word][-1]


def image_environment() -> dict[str, str]:
    return dict(rest.split("=", 1) for name, rest in instructions() if name == "ENV")


def documents(name: str) -> dict[str, dict[str, Any]]:
    """The documents of a file of Kubernetes, by kind."""
    return {each["kind"]: each for each in yaml.safe_load_all((DEPLOY / name).read_text())}


@pytest.fixture(scope="module")
def pod() -> dict[str, Any]:
    return documents("kubernetes.yaml")["Deployment"]["spec"]["template"]["spec"]


def parse(arguments: list[str]) -> click.Context:
    """Parse a command of ours without carrying it out; raises for one that our command line does not know."""
    command: click.Command = cli
    rest = list(arguments)
    while isinstance(command, click.Group):
        command = command.commands[rest.pop(0)]
    return command.make_context("pynenc", rest)


def settings_of(environment: dict[str, str]) -> ConfigPynenc:
    """The settings that an environment makes; raises for a name or value that is not known."""
    return resolve_app_conf({"app_id": "shop"}, environ=environment | {"PYNENC__STORE": "memory://"})


# -- the image -----------------------------------------------------------------------------------------------------------
def test_what_the_image_copies_is_there() -> None:
    sources = [
        source
        for name, rest in instructions()
        if name == "COPY" and "--from" not in rest
        for source in rest.split()[:-1]
    ]
    assert sources
    assert all((ROOT / source).exists() for source in sources)
    kept = [line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")]
    assert sorted(source.removeprefix("./") for source in sources) == sorted(kept)


def test_the_image_has_all_that_a_build_of_the_package_reads() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    copied = {source for name, rest in instructions() if name == "COPY" for source in rest.split()[:-1]}
    needed = {
        project["project"]["readme"],
        *project["project"]["license-files"],
        *project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"],
    }
    assert needed <= copied
    (extras,) = re.findall(r'"\.\[([\w,]+)\]"', "\n".join(rest for name, rest in instructions() if name == "RUN"))
    assert set(extras.split(",")) <= project["project"]["optional-dependencies"].keys()


def test_the_image_runs_a_command_of_ours_with_settings_of_ours_and_not_as_root() -> None:
    assert json.loads(instruction("ENTRYPOINT")) == ["pynenc"]
    parse(json.loads(instruction("CMD")))
    conf = settings_of({name: value for name, value in image_environment().items() if name.startswith("PYNENC__")})
    assert (conf.runner.health_port, conf.runner.health_host) == (int(instruction("EXPOSE")), "0.0.0.0")
    assert instruction("USER") not in ("root", "0")
    (port, path) = re.findall(r"http://127\.0\.0\.1:(\d+)(/\w+)", instruction("HEALTHCHECK"))[0]
    assert int(port) == conf.runner.health_port
    assert path in PROBED


def test_the_example_app_runs_with_the_environment_of_the_image(tmp_path: Path) -> None:
    ours = {name: value for name, value in image_environment().items() if name.startswith("PYNENC")}
    store = {
        "PYNENC__STORE": f"sqlite:///{tmp_path / 'shop.db'}",
        "PYNENC__RUNNER__HEALTH_PORT": "0",
        "PYTHONPATH": str(ROOT),
    }
    environment = {**os.environ, **ours, **store, "PYNENC__RUNNER__PROCESSES": "1"}
    compose = yaml.safe_load(COMPOSE[0].read_text())

    def run(*arguments: str) -> str:
        command = [sys.executable, "-m", "pynenc", *arguments]
        return subprocess.run(
            command, cwd=DEPLOY / "app", env=environment, capture_output=True, text=True, check=True
        ).stdout

    call = [word for word in compose["services"]["client"]["command"] if word != "--wait"]
    run(*call)
    run(*json.loads(instruction("CMD")), "--burst")
    found = json.loads(run("invocations", "list", "--json"))
    assert {row["status"] for row in found} == {"success"}


# -- compose -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("path", COMPOSE, ids=lambda path: path.name)
def test_compose(path: Path) -> None:
    services = yaml.safe_load(path.read_text())["services"]
    for name in ("runner", "client"):
        service = services[name]
        built = (path.parent / service["build"]["context"] / service["build"]["dockerfile"]).resolve()
        assert built == DEPLOY / "Dockerfile"
        parse(service["command"])
        settings_of({key: value for key, value in service["environment"].items() if key != "PYNENC__STORE"})
        scheme, _, rest = service["environment"]["PYNENC__STORE"].partition("://")
        assert scheme in SCHEMES
        host = re.sub(r"\$\{[^}]*\}", "secret", rest).rpartition("@")[2].partition(":")[0]
        assert host in services
        assert set(service["depends_on"]) <= services.keys()
        assert services[host]["healthcheck"]["test"]
    timeout = parse(services["runner"]["command"]).params["shutdown_timeout"]
    assert int(services["runner"]["stop_grace_period"].removesuffix("s")) > timeout + PATIENCE


# -- Kubernetes ----------------------------------------------------------------------------------------------------------
def test_the_deployment_runs_a_command_of_ours(pod: dict[str, Any]) -> None:
    (container,) = pod["containers"]
    given = parse(container["args"]).params
    settings_of({variable["name"]: "" for variable in container["env"] if variable["name"] != "PYNENC__STORE"})
    assert given["health_host"] == "0.0.0.0", "probes come from outside of the pod"
    assert {port["name"]: port["containerPort"] for port in container["ports"]} == {"health": given["health_port"]}
    assert pod["terminationGracePeriodSeconds"] > given["shutdown_timeout"] + PATIENCE
    assert str(pod["securityContext"]["runAsUser"]) == instruction("USER")


def test_the_probes_ask_what_is_answered(pod: dict[str, Any]) -> None:
    (container,) = pod["containers"]
    probes = {name: container[name]["httpGet"] for name in ("startupProbe", "readinessProbe", "livenessProbe")}
    assert {name: probe["path"] for name, probe in probes.items()} == {
        "startupProbe": "/livez",
        "readinessProbe": "/readyz",
        "livenessProbe": "/livez",
    }
    assert {probe["port"] for probe in probes.values()} == {"health"}
    annotations = documents("kubernetes.yaml")["Deployment"]["spec"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/path"] == "/metrics"
    assert int(annotations["prometheus.io/port"]) == container["ports"][0]["containerPort"]


def test_the_parts_of_kubernetes_refer_to_one_another() -> None:
    found = documents("kubernetes.yaml")
    deployment = found["Deployment"]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"] == labels
    assert found["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    assert found["ScaledObject"]["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    assert found["ScaledObject"]["spec"]["minReplicaCount"] == deployment["spec"]["replicas"]


# -- metrics -------------------------------------------------------------------------------------------------------------
def expressions() -> Iterator[str]:
    """All that Prometheus is asked."""
    for trigger in documents("kubernetes.yaml")["ScaledObject"]["spec"]["triggers"]:
        yield trigger["metadata"]["query"]
    for group in yaml.safe_load((DEPLOY / "alerts.yaml").read_text())["groups"]:
        yield from (rule["expr"] for rule in group["rules"])


@pytest.mark.parametrize("expression", list(expressions()))
def test_metrics_that_are_asked_for_are_exported(expression: str) -> None:
    names = re.findall(r"pynenc_\w+", expression)
    assert names
    assert set(names) <= METRICS.keys()
    for name in names:
        is_counter = METRICS[name][0] == "counter"
        assert is_counter == bool(re.search(rf"(rate|increase)\({name}", expression))
    labels = set(re.findall(r"(\w+)=\"", expression)) | set(re.findall(r"by \((\w+)\)", expression))
    meanings = " ".join(METRICS[name][1] for name in names)
    assert all(label in meanings for label in labels)
