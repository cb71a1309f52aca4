"""The pod network's agent: what it makes of the Nodes. Its whole way is gone in the end-to-end tests."""

import ast
import importlib.machinery
import importlib.util
import json
from importlib.resources import files

import pytest

NODE = {
    "metadata": {"name": "a"},
    "spec": {"podCIDR": "10.244.1.0/24"},
    "status": {"addresses": [{"type": "Hostname", "address": "a"}, {"type": "InternalIP", "address": "10.0.0.1"}]},
}


@pytest.fixture(scope="module")
def agent():
    path = str(files("kubeup_kubeadm") / "scripts" / "kubeup-routes")
    loader = importlib.machinery.SourceFileLoader("kubeup_routes", path)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


def test_a_node_counts_once_it_has_an_address_and_a_range(agent):
    assert agent.of_node(NODE) == ("a", "10.244.1.0/24", "10.0.0.1")
    assert agent.of_node({**NODE, "spec": {}}) is None
    assert agent.of_node({**NODE, "status": {}}) is None


def test_only_what_differs_is_changed(agent):
    nodes = [("me", "10.244.0.0/24", "10.0.0.9"), ("a", "10.244.1.0/24", "10.0.0.1"), ("b", "10.244.2.0/24", "10.0.0.2")]
    there = {"10.244.1.0/24": "10.0.0.1", "10.244.2.0/24": "10.0.0.77", "10.244.5.0/24": "10.0.0.5"}
    assert agent.changes(nodes, "me", there) == ({"10.244.2.0/24": "10.0.0.2"}, ["10.244.5.0/24"])
    assert agent.changes(nodes, "me", {"10.244.1.0/24": "10.0.0.1", "10.244.2.0/24": "10.0.0.2"}) == ({}, [])


def test_the_bridge_gets_the_nodes_own_range(agent):
    plugins = json.loads(agent.conflist("10.244.1.0/24", 1450))["plugins"]
    assert plugins[0]["ipam"]["ranges"] == [[{"subnet": "10.244.1.0/24"}]]
    assert plugins[0]["mtu"] == 1450
    assert [plugin["type"] for plugin in plugins] == ["bridge", "portmap"]


def test_the_configuration_is_written_once_and_leaves_nothing_beside_it(agent, tmp_path):
    path = tmp_path / "net.d" / "10-kubeup.conflist"
    assert agent.write(str(path), "{}\n")
    assert not agent.write(str(path), "{}\n")
    assert agent.write(str(path), "{ }\n")
    assert [file.name for file in path.parent.iterdir()] == ["10-kubeup.conflist"]
    assert path.stat().st_mode & 0o777 == 0o644


def test_the_agent_runs_on_python_3_6():
    """What later versions brought, as far as the agent is tempted by it: there is no 3.6 here to run it with."""
    tree = ast.parse((files("kubeup_kubeadm") / "scripts" / "kubeup-routes").read_text(), feature_version=(3, 6))
    later = {"text", "capture_output", "missing_ok", "dirs_exist_ok"}
    used = {keyword.arg for node in ast.walk(tree) if isinstance(node, ast.Call) for keyword in node.keywords}
    assert used & later == set()
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.NamedExpr)]
    methods = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert methods & {"removeprefix", "removesuffix", "fromisoformat"} == set()


def test_the_agent_reads_what_a_command_says(agent):
    assert agent.run("echo", "10.1.0.0/16").stdout == "10.1.0.0/16\n"
