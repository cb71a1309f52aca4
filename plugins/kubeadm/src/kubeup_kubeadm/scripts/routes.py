"""Pod network of a Node in a flat network: a bridge for the Node's own pods, a route to every other Node's.

Runs on each Node as the service kubeup-routes, with the kubelet's own credentials: it watches the Nodes, writes the CNI configuration out
of this Node's podCIDR, keeps one route per other Node, and masquerades what pods send out of the cluster. Standard library only, from
Python 3.6 on. A route is only right where Nodes reach each other without a router in between.
"""

import argparse
import base64
import json
import os
import re
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.request

KUBELET_CONF = "/etc/kubernetes/kubelet.conf"
CONFLIST = "/etc/cni/net.d/10-kubeup.conflist"
PROTOCOL = "77"  # marks our routes in the kernel's table, so that only ours are ever taken away


def api(path):
    """Opens a path of the API with the kubelet's credentials, as the kubelet.conf says now: its certificate is renewed underneath."""
    with open(KUBELET_CONF) as file:
        text = file.read()

    def value(key):
        found = re.search(r"^\s*" + key + r":\s*(\S+)\s*$", text, re.MULTILINE)
        return found.group(1) if found else ""

    certificate = value("client-certificate")
    context = ssl.create_default_context(cadata=base64.b64decode(value("certificate-authority-data")).decode())
    context.load_cert_chain(certificate, value("client-key") or certificate)
    return urllib.request.urlopen(value("server") + path, timeout=90, context=context)


def of_node(node):
    """(name, podCIDR, internal address) of a Node object; None as long as one of them is missing."""
    cidr = node.get("spec", {}).get("podCIDR")
    addresses = [a["address"] for a in node.get("status", {}).get("addresses", ()) if a["type"] == "InternalIP"]
    return (node["metadata"]["name"], cidr, addresses[0]) if cidr and addresses else None


def conflist(cidr, mtu):
    """CNI configuration of this Node."""
    bridge = {
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": True,
        "ipMasq": False,
        "hairpinMode": True,
        "mtu": mtu,
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": cidr}]],
            "routes": [{"dst": "0.0.0.0/0"}],
            "dataDir": "/run/cni-ipam-state",
        },
    }
    plugins = [bridge, {"type": "portmap", "capabilities": {"portMappings": True}}]
    return json.dumps({"cniVersion": "0.4.0", "name": "kubeup", "plugins": plugins}, indent=1) + "\n"


def changes(nodes, me, routes):
    """What to do with the routes: ({cidr: address} to set, [cidr] to take away), from Nodes as of_node() and the routes there are."""
    wanted = {cidr: address for name, cidr, address in nodes if name != me}
    return (
        {cidr: address for cidr, address in wanted.items() if routes.get(cidr) != address},
        [cidr for cidr in routes if cidr not in wanted],
    )


def run(*command):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def our_routes():
    found = re.findall(r"^(\S+) via (\S+)", run("ip", "-4", "route", "show", "proto", PROTOCOL).stdout, re.MULTILINE)
    return dict(found)


def keep_rule(table, chain, *rule):
    if run("iptables", "-w", "-t", table, "-C", chain, *rule).returncode:
        done = run("iptables", "-w", "-t", table, "-A", chain, *rule)
        if done.returncode:
            print("iptables: " + done.stdout.strip())


def mtu(address):
    """Of the link that carries this Node's address."""
    found = re.search(r"^\d+: (\S+) .*\binet " + re.escape(address) + "/", run("ip", "-o", "-4", "addr").stdout, re.MULTILINE)
    try:
        with open("/sys/class/net/" + found.group(1).split("@")[0] + "/mtu") as file:
            return int(file.read())
    except (AttributeError, OSError, ValueError):
        return 1500


def write(path, text):
    """In one step: the runtime never reads half of it. Within the folder, because containerd overlooks what is moved in from outside;
    under a name that it does not take for a configuration."""
    try:
        with open(path) as file:
            if file.read() == text:
                return False
    except OSError:
        pass
    folder = os.path.dirname(path)
    os.makedirs(folder, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=folder, prefix=".kubeup-", suffix=".tmp")
    with os.fdopen(handle, "w") as file:
        file.write(text)
    os.chmod(temporary, 0o644)
    os.rename(temporary, path)
    return True


def apply(nodes, me, cluster_cidr):
    mine = [(cidr, address) for name, cidr, address in nodes if name == me]
    if mine and write(CONFLIST, conflist(mine[0][0], mtu(mine[0][1]))):
        print("pods of this Node: " + mine[0][0])
    wanted, gone = changes(nodes, me, our_routes())
    for cidr in gone:
        print("no longer routes " + cidr)
        run("ip", "route", "del", cidr, "proto", PROTOCOL)
    for cidr, address in sorted(wanted.items()):
        done = run("ip", "route", "replace", cidr, "via", address, "proto", PROTOCOL)
        print("routes {} via {}{}".format(cidr, address, ": " + done.stdout.strip() if done.returncode else ""))
    keep_rule(
        "nat",
        "POSTROUTING",
        "-s",
        cluster_cidr,
        "!",
        "-d",
        cluster_cidr,
        "-m",
        "comment",
        "--comment",
        "kubeup",
        "-j",
        "MASQUERADE",
    )
    for side in ("-s", "-d"):
        keep_rule("filter", "FORWARD", side, cluster_cidr, "-m", "comment", "--comment", "kubeup", "-j", "ACCEPT")


def follow(me, cluster_cidr):
    """Lists the Nodes, then applies every change of theirs until the API ends the watch or something goes wrong."""
    with api("/api/v1/nodes") as answer:
        listed = json.loads(answer.read().decode())
    nodes = {}
    for node in listed["items"]:
        nodes[node["metadata"]["name"]] = of_node(node)
    version = listed["metadata"]["resourceVersion"]
    apply([n for n in nodes.values() if n], me, cluster_cidr)
    with api("/api/v1/nodes?watch=1&timeoutSeconds=60&resourceVersion=" + version) as events:
        for line in events:
            event = json.loads(line.decode())
            if event["type"] == "ERROR":
                return
            name = event["object"]["metadata"]["name"]
            new = None if event["type"] == "DELETED" else of_node(event["object"])
            if nodes.get(name) != new:
                nodes[name] = new
                apply([n for n in nodes.values() if n], me, cluster_cidr)


def main():
    parser = argparse.ArgumentParser(description="Pod routes of a Node")
    parser.add_argument("--node", required=True)
    parser.add_argument("--cluster-cidr", required=True)
    given = parser.parse_args()
    said = ""
    while True:
        try:
            follow(given.node, given.cluster_cidr)
            said = ""
        except Exception as error:  # whatever it is, the next round looks again
            now = f"{type(error).__name__}: {error}"
            if now != said:
                print(now)
                said = now
            time.sleep(1)


if __name__ == "__main__":
    sys.exit(main())
