"""Ironic's own client of the agent API against an agent that runs somewhere.

Reads one JSON object on standard input: url, token, ca (PEM), node, image_url, image_sha256.
Prints "PASSED <what>" for each claim and "DONE" at the end; any surprise is a traceback.
"""

import json
import sys
import tempfile
import time

from ironic.conf import CONF

CONF([], project="ironic")

from ironic.common import exception  # noqa: E402
from ironic.drivers.modules import agent_client  # noqa: E402


class Node:
    """What AgentClient uses of a node."""

    def __init__(self, given, ca_file):
        self.uuid = given["node"]
        self.driver_info = {}
        self.instance_info = {}
        self.driver_internal_info = {
            "agent_url": given["url"],
            "agent_secret_token": given["token"],
            "agent_verify_ca": ca_file,
        }

    def as_dict(self, secure=False, mask_configdrive=True):
        return {
            "uuid": self.uuid,
            "properties": {},
            "instance_info": self.instance_info,
            "driver_info": self.driver_info,
            "driver_internal_info": {"agent_url": self.driver_internal_info["agent_url"]},
        }


class Port:
    def as_dict(self):
        return {"address": "52:54:00:00:00:01", "pxe_enabled": True}


def passed(what):
    print("PASSED", what, flush=True)


def until_finished(client, node, method):
    for _ in range(600):
        result = client.get_last_command_status(node, method)
        if result and result["command_status"] != "RUNNING":
            return result
        time.sleep(0.1)
    raise AssertionError("%s did not end" % method)


def check_steps(answer, kind, wanted):
    assert answer["command_status"] == "SUCCEEDED", answer
    result = answer["command_result"]
    steps = [s for offered in result[kind].values() for s in offered]
    for step in steps:
        assert {"step", "priority", "interface", "reboot_requested"} <= set(step), step
    names = {s["step"]: s for s in steps}
    for name in wanted:
        assert name in names, (name, sorted(names))
    assert isinstance(result["hardware_manager_version"], dict)
    return names, result["hardware_manager_version"]


def main():
    given = json.load(sys.stdin)
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as ca:
        ca.write(given["ca"])
        ca.flush()
        drive(given, Node(given, ca.name), [Port()])
    print("DONE", flush=True)


def drive(given, node, ports):
    client = agent_client.AgentClient()
    assert client.get_commands_status(node) == []
    passed("an empty list of commands, over TLS with the heartbeat's certificate")

    stranger = Node(given, node.driver_internal_info["agent_verify_ca"])
    stranger.driver_internal_info["agent_secret_token"] = "x" * 43
    try:
        client.sync(stranger)
        raise AssertionError("a wrong token was taken")
    except exception.AgentAPIError as e:
        assert "401" in str(e), e
    passed("a wrong token is an AgentAPIError with status 401")

    names, version = check_steps(
        client.get_clean_steps(node, ports), "clean_steps", ["erase_devices", "erase_devices_metadata"])
    node.driver_internal_info["hardware_manager_version"] = version
    client.execute_clean_step(names["erase_devices_metadata"], node, ports)
    result = until_finished(client, node, "clean.execute_clean_step")
    assert result["command_status"] == "SUCCEEDED", result
    assert result["command_result"]["clean_step"]["step"] == "erase_devices_metadata"
    passed("a clean step listed and carried out")

    node.driver_internal_info["hardware_manager_version"] = {"another": "1"}
    client.execute_clean_step(names["erase_devices_metadata"], node, ports)
    result = until_finished(client, node, "clean.execute_clean_step")
    assert result["command_status"] == "CLEAN_VERSION_MISMATCH", result
    passed("steps of another agent are CLEAN_VERSION_MISMATCH")

    names, version = check_steps(client.get_deploy_steps(node, ports), "deploy_steps", ["write_image"])
    node.driver_internal_info["hardware_manager_version"] = version
    step = dict(names["write_image"], args={
        "image_info": {
            "id": "test-image",
            "urls": [given["image_url"]],
            "os_hash_algo": "sha256",
            "os_hash_value": given["image_sha256"],
            "checksum": None,
            "disk_format": "raw",
            "container_format": "bare",
            "stream_raw_images": True,
            "node_uuid": node.uuid,
            "image_type": "whole-disk",
            "image_server_auth_strategy": "noauth",
            "image_server_user": None,
            "image_server_password": None,
        },
        "configdrive": None,
    })
    started = client.execute_deploy_step(step, node, ports)
    assert started["command_status"] == "RUNNING", started
    try:
        client.execute_deploy_step(step, node, ports)
        raise AssertionError("two commands at once")
    except exception.AgentInProgress:
        passed("a second command meanwhile is AgentInProgress")
    result = until_finished(client, node, "deploy.execute_deploy_step")
    assert result["command_status"] == "SUCCEEDED", result
    assert result["command_result"]["deploy_step"]["step"] == "write_image"
    passed("write_image")

    failing = dict(step, args={"image_info": dict(step["args"]["image_info"], os_hash_value="0" * 64)})
    client.execute_deploy_step(failing, node, ports)
    result = until_finished(client, node, "deploy.execute_deploy_step")
    assert result["command_status"] == "FAILED", result
    assert "checksum" in agent_client.get_command_error(result), result
    client.execute_deploy_step(step, node, ports)
    result = until_finished(client, node, "deploy.execute_deploy_step")
    assert result["command_status"] == "SUCCEEDED", result
    passed("a failed step tells its cause and can be run again")

    check_steps(client.get_service_steps(node, ports), "service_steps", [])
    uuids = client.get_partition_uuids(node)
    assert "root uuid" in uuids["command_result"], uuids
    result = client.install_bootloader(node, "0x00000000", "bios")
    assert result["command_status"] == "SUCCEEDED", result
    passed("service steps, partition uuids and boot loader")

    logs = client.collect_system_logs(node)
    assert logs["command_result"]["system_logs"], logs
    assert client.sync(node)["command_status"] == "SUCCEEDED"
    client.power_off(node)
    result = until_finished(client, node, "standby.power_off")
    assert result["command_status"] == "SUCCEEDED", result
    passed("logs, sync and power off")

    listed = [c["command_name"] for c in client.get_commands_status(node)]
    assert listed[-1] == "power_off" and listed.count("execute_deploy_step") == 3, listed
    passed("the list of commands, oldest first")


main()
