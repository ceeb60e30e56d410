"""Whether the manifests hold what they say: the model is reached through checkgate only, and nothing is privileged.

Gets the folder of the manifests, the unit file, and a folder to write the configuration of the ConfigMap into.
"""

import pathlib
import re
import sys

import yaml

PROXY, MODEL = "checkgate", "model"


class Tally:
    """What held and what did not."""

    def __init__(self):
        self.passed = self.failed = 0

    def check(self, held, text):
        held = bool(held)
        self.passed += held
        self.failed += not held
        print(f"{'ok    ' if held else 'FAILED'} {text}")


def seconds(text):
    """A time of the configuration or of a unit, such as `20s` or `2m`."""
    number, unit = re.fullmatch(r"(\d+)(s|m|h)", text).groups()
    return int(number) * {"s": 1, "m": 60, "h": 3600}[unit]


def manifests(folder):
    """Kind to manifest."""
    documents = [yaml.safe_load(file.read_text()) for file in sorted(folder.glob("*.yaml"))]
    return {document["kind"]: document for document in documents}


def port_of(address):
    return int(address.rsplit(":", 1)[1])


def check_way_in(tally, parts, pod, proxy, model, config):
    """The model is on loopback and has no port; the Service and the policy lead to checkgate."""
    ports = {port["name"]: port["containerPort"] for port in proxy["ports"]}
    tally.check(proxy.get("restartPolicy") == "Always", "checkgate is a native sidecar")
    tally.check("ports" not in model, "the model declares no port")
    model_env = {entry["name"]: entry.get("value") for entry in model["env"]}
    tally.check(model_env["MLSERVER_HOST"] == "127.0.0.1", "the model listens on loopback")
    tally.check(
        config["upstream"] == f"http://127.0.0.1:{model_env['MLSERVER_HTTP_PORT']}", "checkgate asks the model there"
    )
    tally.check(ports["requests"] == port_of(config["listen"]), "the port for requests is where checkgate listens")
    tally.check(ports["admin"] == port_of(config["admin"]["listen"]), "so is the port for operators")
    service = parts["Service"]["spec"]
    tally.check([port["targetPort"] for port in service["ports"]] == ["requests"], "the Service leads to checkgate only")
    labels = parts["Deployment"]["spec"]["template"]["metadata"]["labels"]
    tally.check(service["selector"].items() <= labels.items(), "the Service finds the pods")
    policy = parts["NetworkPolicy"]["spec"]
    let_in = {port["port"] for rule in policy["ingress"] for port in rule["ports"]}
    tally.check(let_in == {"requests", "admin"}, "the policy lets nobody past checkgate")
    tally.check(policy["podSelector"]["matchLabels"].items() <= labels.items(), "the policy covers the pods")
    tally.check(not pod.get("hostNetwork"), "the pod has a network of its own")


def check_hardening(tally, pod, containers):
    tally.check(pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] > 0, "nobody is root")
    tally.check(pod["automountServiceAccountToken"] is False, "no token of the cluster lies in the pod")
    for container in containers:
        context = container["securityContext"]
        hard = (
            context["allowPrivilegeEscalation"] is False
            and context["readOnlyRootFilesystem"] is True
            and context["capabilities"] == {"drop": ["ALL"]}
        )
        tally.check(hard, f"{container['name']} runs without privileges on a read-only root")


def check_life(tally, pod, proxy, model, config, unit):
    paths = {name: proxy[name]["httpGet"]["path"] for name in ("startupProbe", "readinessProbe", "livenessProbe")}
    expected = {"startupProbe": "/readyz", "readinessProbe": "/readyz", "livenessProbe": "/healthz"}
    tally.check(paths == expected, "the probes ask what checkgate answers")
    drain = seconds(config["timeouts"]["drain"])
    grace = pod["terminationGracePeriodSeconds"]
    before = model["lifecycle"]["preStop"]["sleep"]["seconds"]
    tally.check(grace > before + drain, f"{grace} s to stop are more than {before} s and the drain of {drain} s")
    stop = seconds(re.search(r"^TimeoutStopSec=(\w+)$", unit, re.MULTILINE).group(1))
    tally.check(stop > drain, f"the unit's {stop} s to stop are more than the drain of {drain} s")


def main(folder, unit_file, out):
    tally = Tally()
    parts = manifests(pathlib.Path(folder))
    text = parts["ConfigMap"]["data"]["checkgate.yaml"]
    pathlib.Path(out, "config-map.yaml").write_text(text)
    config = yaml.safe_load(text)
    pod = parts["Deployment"]["spec"]["template"]["spec"]
    containers = {container["name"]: container for container in pod["initContainers"] + pod["containers"]}
    proxy, model = containers[PROXY], containers[MODEL]
    check_way_in(tally, parts, pod, proxy, model, config)
    check_hardening(tally, pod, containers.values())
    check_life(tally, pod, proxy, model, config, pathlib.Path(unit_file).read_text())
    print(f"manifests: {tally.passed} passed, {tally.failed} failed")
    return 1 if tally.failed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
