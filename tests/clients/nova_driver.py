"""Nova's ironic driver, unmodified, against a server with noauth and fake-hardware.

usage: nova_driver.py URL [--reference]       (in an environment that has nova)

Every public method that `nova.virt.ironic.driver.IronicDriver` itself defines is called with Nova's own objects. Only what lies
behind Nova on its other sides is made up: its database, and Neutron for the security groups in a config drive. Expectations are what
Nova says with Ironic 39; `--reference` says that the server is Ironic 39, whose known faults are then expected.
The server: no automated cleaning, network interface noop, console and all other interfaces fake.
"""

import base64
import contextlib
import gzip
import json
import sys
from urllib.parse import parse_qs, urlsplit

# Before Nova's own modules: it reads the configuration first.
from nova_harness import CONF, CONTEXT, DRIVER, IMAGE, INSTANCES, REFERENCE, REPORT, Recorder, SERVER, TAG, VIFS, asked, away, call, database, expect, image, instance, mac, new, node, off, raises, show, FOLDER
from nova import exception, objects
from nova.compute import power_state, provider_tree, task_states, vm_states
from nova.virt import block_device as driver_block_device
from openstack import exceptions

from report import Failure, compare


def contains(*items, without=()):
    return lambda found: all(i in found for i in items) and not any(i in found for i in without)


INVENTORY = {"total": 1, "min_unit": 1, "max_unit": 1, "step_size": 1, "allocation_ratio": 1.0}


def inventory_of(it):
    tree = provider_tree.ProviderTree()
    tree.new_root(it, it, generation=0)
    DRIVER.node_cache = {}
    call("update_provider_tree", tree, it)
    data = tree.data(it)
    return data.inventory, data.traits


def inventory():
    it, other = node("inv"), node("inv2", conductor_group="", shard=f"shard-{TAG}")
    Recorder.seen.clear()
    call("init_host", CONF.host)
    expect("init_host", Recorder.seen, [], "requests")
    call("get_available_nodes", wanted=contains(it, other))
    # Discovery, and one list with the fields that Nova needs.
    lists = [(p, v) for m, p, v, _, _ in Recorder.seen if m == "GET" and urlsplit(p).path == "/v1/nodes"]
    expect("get_available_nodes", lists, lambda v: len(v) == 1 and v[0][1] == "1.109", "requests for lists")
    asked_for = parse_qs(urlsplit(lists[0][0]).query)["fields"][0].split(",")
    expect("get_available_nodes", asked_for, contains("uuid", "instance_uuid", "resource_class", "traits", "last_error"), "fields")
    call("get_nodenames_by_uuid", wanted=lambda v: v[it] == it and v[other] == other)
    with overridden("ironic", shard=f"shard-{TAG}"):
        call("get_available_nodes", wanted=[other])
    with overridden("ironic", shard=f"none-{TAG}"):
        call("get_available_nodes", wanted=[])
    with overridden("ironic", conductor_group="", peer_list=[CONF.host]):
        call("get_available_nodes", wanted=contains(it, other))
    with overridden("ironic", conductor_group=f"none-{TAG}", peer_list=[CONF.host]):
        call("get_available_nodes", wanted=[])
    DRIVER.node_cache = {}
    call("node_is_available", it, wanted=True)
    call("node_is_available", new(), wanted=False)
    call("is_node_deleted", it, wanted=False)
    call("is_node_deleted", new(), wanted=True)
    resource = {
        "uuid": it,
        "hypervisor_hostname": it,
        "hypervisor_type": "ironic",
        "resource_class": f"rc-{TAG}.x",
        "stats": {"cpu_arch": "x86_64", "boot_mode": "uefi", "a": "b"},
        "supported_instances": [("x86_64", "baremetal", "hvm")],
    }
    call("get_available_resource", it, wanted=resource)

    custom = f"CUSTOM_RC_{TAG.upper()}_X"
    # The power state is not known yet: a node that Nova must not choose.
    expect("update_provider_tree", inventory_of(it), ({custom: INVENTORY | {"reserved": 1}}, {"CUSTOM_FAST"}), "power unknown")
    off(it)
    expect("update_provider_tree", inventory_of(it), ({custom: INVENTORY | {"reserved": 0}}, {"CUSTOM_FAST"}), "free")
    SERVER.call("PUT", f"/v1/nodes/{it}/maintenance", {})
    expect("update_provider_tree", inventory_of(it)[0], {custom: INVENTORY | {"reserved": 1}}, "in maintenance")
    SERVER.call("DELETE", f"/v1/nodes/{it}/maintenance")
    away(it, other)
    call("is_node_deleted", it, wanted=True)


@contextlib.contextmanager
def overridden(group, **options):
    for name, value in options.items():
        CONF.set_override(name, value, group)
    try:
        yield
    finally:
        for name in options:
            CONF.clear_override(name, group)


def life():
    it = node("life")
    server = instance(it, "server", drive=True)
    vifs = VIFS[server.uuid]
    raises("prepare_for_spawn", exception.ComputeResourcesUnavailable, server)
    off(it)
    call("instance_exists", server, wanted=False)
    call("prepare_for_spawn", server)
    expect("prepare_for_spawn", show(it), {"instance_uuid": server.uuid}, "node")
    call("instance_exists", server, wanted=True)
    expect("update_provider_tree", inventory_of(it)[0], lambda v: [i["reserved"] for i in v.values()] == [1], "with an instance")
    # Another instance does not get it: Nova sees that before it asks, and the server refuses it who asks nevertheless.
    second = instance(it, "second")
    raises("prepare_for_spawn", exception.ComputeResourcesUnavailable, second)
    with REPORT.part("prepare_for_spawn"):
        try:
            DRIVER._set_instance_id(DRIVER._get_node(it), second)
            raise Failure("the server gives one node to two instances")
        except exception.InstanceDeployFailure:
            pass
    expect("prepare_for_spawn", asked("PATCH", f"/v1/nodes/{it}")[-1][1], 409, "status")
    INSTANCES.pop(second.uuid)

    call("network_binding_host_id", CONTEXT, server, wanted=lambda v: v is None)
    call("manages_network_binding_host_id", wanted=True)
    call("prepare_networks_before_block_device_mapping", server, vifs)
    expect("prepare_networks_before_block_device_mapping", asked("POST", f"/v1/nodes/{it}/vifs"), [({"id": vifs[0]["id"]}, 204)], "VIF")
    call("clean_networks_preparation", server, vifs)
    detached = asked("DELETE", f"/v1/nodes/{it}/vifs/{vifs[0]['id']}")
    expect("clean_networks_preparation", detached, [(None, 204)], "VIF")
    call("plug_vifs", server, vifs)
    call("attach_interface", CONTEXT, server, image(), vifs[0])
    call("detach_interface", CONTEXT, server, vifs[0])
    call("unplug_vifs", server, vifs)

    connector(it, server)
    spawn(it, server, vifs)
    active(it, server)
    rebuild(it, server, vifs)

    call("rescue", CONTEXT, server, vifs, image(), "secret", None, None)
    expect("rescue", show(it), {"provision_state": "rescue"}, "node")
    call("unrescue", CONTEXT, server)
    expect("unrescue", show(it), {"provision_state": "active"}, "node")
    raises("unrescue", exception.InstanceUnRescueFailure, CONTEXT, server)

    call("destroy", CONTEXT, server, vifs)
    SERVER.reach(it, "available")
    expect("destroy", show(it), {"instance_uuid": None, "instance_info": {}, "provision_state": "available"}, "node")
    call("instance_exists", server, wanted=False)
    call("get_info", server, use_cache=False, wanted=lambda v: v.state == power_state.NOSTATE)
    # Nova forgets an instance that no node has.
    call("destroy", CONTEXT, server, vifs)
    INSTANCES.pop(server.uuid)
    away(it)


def connector(it, server):
    fixed = {"ip": "192.0.2.9", "host": "192.0.2.9", "platform": "x86_64", "os_type": "baremetal", "multipath": False}
    call("get_volume_connector", server, wanted=lambda v: v == fixed)
    made = []
    for kind, value in [("iqn", f"iqn.{TAG}"), ("wwpn", f"p{TAG}"), ("wwnn", f"n{TAG}"), ("ip", "192.0.2.77")]:
        made.append(new())
        given = {"uuid": made[-1], "node_uuid": it, "type": kind, "connector_id": value}
        SERVER.call("POST", "/v1/volume/connectors", given)
    wanted = fixed | {"ip": "192.0.2.77", "host": "192.0.2.77", "initiator": f"iqn.{TAG}", "wwpns": [f"p{TAG}"], "wwnns": [f"n{TAG}"]}
    call("get_volume_connector", server, wanted=lambda v: v == wanted)
    SERVER.call("DELETE", f"/v1/volume/connectors/{made[-1]}")
    # With a MAC and no address Nova asks for port groups by two filters at once, which is refused.
    SERVER.call("POST", "/v1/volume/connectors", {"node_uuid": it, "type": "mac", "connector_id": mac()})
    raises("get_volume_connector", exceptions.BadRequestException, server)


def volume(index, it):
    given = {"driver_volume_type": "iscsi", "data": {"target_lun": index, "auth_password": "hidden"}}
    mapping = objects.BlockDeviceMapping(
        context=CONTEXT,
        id=index,
        source_type="volume",
        destination_type="volume",
        volume_id=it,
        boot_index=index,
        device_name=f"/dev/sd{'bcd'[index]}",
        connection_info=json.dumps(given),
        delete_on_termination=False,
        guest_format=None,
        disk_bus=None,
        device_type=None,
        snapshot_id=None,
        image_id=None,
        volume_size=1,
        no_device=False,
        attachment_id=None,
        instance_uuid=new(),
        uuid=new(),
        tag=None,
        volume_type=None,
        encrypted=False,
        encryption_secret_uuid=None,
        encryption_format=None,
        encryption_options=None,
    )
    return driver_block_device.DriverVolumeBlockDevice(mapping)


def spawn(it, server, vifs):
    Recorder.seen.clear()
    there = new()
    call("spawn", CONTEXT, server, image(), [], "admin", {}, vifs, {"block_device_mapping": [volume(1, there)]})
    expect("spawn", show(it), {"provision_state": "active", "instance_uuid": server.uuid, "last_error": None}, "node")
    patch, status = (asked("PATCH", f"/v1/nodes/{it}") or [([], None)])[0]
    expect("spawn", status, 200, "status of the patch")
    keys = "image_source root_gb swap_mb display_name vcpus nova_host_id memory_mb local_gb project_id project_name user_id user_name"
    keys += " flavor_name fixed_ips floating_ips capabilities traits"
    expect("spawn", [p["path"].split("/")[-1] for p in patch], keys.split(), "keys of the patch")
    found = show(it)["instance_info"]
    wanted = {"image_source": IMAGE, "display_name": "server", "traits": ["CUSTOM_FAST"], "capabilities": '{"boot_mode": "uefi"}'}
    wanted |= {"fixed_ips": lambda text: json.loads(text)[0]["address"] == "192.0.2.9", "configdrive": "******", "memory_mb": "1024"}
    expect("spawn", found, wanted, "instance_info")
    expect("spawn", asked("GET", f"/v1/nodes/{it}/validate"), [(None, 200)], "validation")
    targets = asked("POST", "/v1/volume/targets")
    expect("spawn", [(b["volume_id"], b["boot_index"], s) for b, s in targets], [(there, 1, 201)], "volume targets")
    [(sent, status)] = asked("PUT", f"/v1/nodes/{it}/states/provision")
    expect("spawn", (sent["target"], status), ("active", 202), "provision request")
    with REPORT.part("spawn"):
        drive = gzip.decompress(base64.b64decode(sent["configdrive"]))
        compare(b"config-2" in drive[32768:34816], True, "the config drive's label")
    kept = SERVER.call("GET", f"/v1/volume/targets?node={it}&detail=true")["targets"]
    expect("spawn", [t["volume_id"] for t in kept], [there], "volume targets afterwards")
    expect("spawn", kept[0]["properties"], {"target_lun": 1, "auth_password": "******"}, "their properties")


def active(it, server):
    server.vm_state, server.task_state = vm_states.ACTIVE, None
    DRIVER.node_cache = {}
    call("list_instance_uuids", wanted=contains(server.uuid))
    call("list_instances", wanted=contains(server.name))
    call("get_num_instances", wanted=lambda v: v >= 1)
    call("get_info", server, use_cache=False, wanted=lambda v: v.state in (power_state.SHUTDOWN, power_state.RUNNING))
    call("power_on", CONTEXT, server, None)
    expect("power_on", show(it), {"power_state": "power on", "target_power_state": None}, "node")
    call("get_info", server, use_cache=False, wanted=lambda v: v.state == power_state.RUNNING)
    call("power_off", server)
    expect("power_off", show(it), {"power_state": "power off"}, "node")
    call("get_info", server, use_cache=False, wanted=lambda v: v.state == power_state.SHUTDOWN)
    call("power_on", CONTEXT, server, None)
    Recorder.seen.clear()
    call("power_off", server, timeout=30)
    asks = [b["target"] for b, _ in asked("PUT", f"/v1/nodes/{it}/states/power")]
    expect("power_off", (asks, show(it)["power_state"]), (["soft power off"], "power off"), "soft power off")
    for kind, target in [("HARD", "rebooting"), ("SOFT", "soft rebooting")]:
        Recorder.seen.clear()
        call("reboot", CONTEXT, server, None, kind)
        asks = [b["target"] for b, _ in asked("PUT", f"/v1/nodes/{it}/states/power")]
        expect("reboot", (asks, show(it)["power_state"]), ([target], "power on"), kind)
    server.task_state = task_states.POWERING_OFF
    call("power_update_event", server, "POWER_OFF")
    expect("power_update_event", (server.vm_state, server.power_state), (vm_states.STOPPED, power_state.SHUTDOWN), "instance")

    # The fake management interface has no NMI.
    raises("trigger_crash_dump", exceptions.BadRequestException, server)
    # Not enabled is not available; the fake console, once enabled, has nothing that Nova could read.
    raises("get_serial_console", exception.ConsoleTypeUnavailable, CONTEXT, server)
    raises("get_vnc_console", KeyError, CONTEXT, server)
    SERVER.until(it, console_enabled=True)
    raises("get_serial_console", KeyError, CONTEXT, server)
    SERVER.until(it, console_enabled=True)
    SERVER.call("PUT", f"/v1/nodes/{it}/states/console", {"enabled": False})
    SERVER.until(it, console_enabled=False)


def rebuild(it, server, vifs):
    server.task_state = task_states.REBUILDING
    server.vm_state = vm_states.ACTIVE
    Recorder.seen.clear()
    given = [CONTEXT, server, image(), [], "admin", {}, [], None, None]
    if REFERENCE:
        # A fault of Ironic 39, not contract.
        raises("rebuild", exception.InstanceDeployFailure, *given, network_info=vifs, preserve_ephemeral=True)
        expect("rebuild", [s for _, s in asked("PUT", f"/v1/nodes/{it}/states/provision")], [500], "status")
    else:
        call("rebuild", *given, network_info=vifs, preserve_ephemeral=True)
        expect("rebuild", [s for _, s in asked("PUT", f"/v1/nodes/{it}/states/provision")], [202], "status")
        wanted = {"provision_state": "active", "instance_uuid": server.uuid, "last_error": None}
        expect("rebuild", show(it), wanted | {"instance_info": {"preserve_ephemeral": "True", "image_source": IMAGE}}, "node")
    raises("rebuild", exception.NovaException, *given, reimage_boot_volume=True)
    server.task_state = None


def failures():
    """A node that does not validate, and clean-up after a spawn that was never finished."""
    it = node("fail")
    off(it)
    server = instance(it, "fails")
    call("prepare_for_spawn", server)
    SERVER.call("POST", "/v1/volume/targets", target := {"node_uuid": it, "volume_type": "iscsi", "volume_id": new(), "boot_index": 0})
    SERVER.call("PATCH", f"/v1/nodes/{it}", [{"op": "add", "path": "/instance_info/image_source", "value": target["volume_id"]}])
    # The boot index is taken: no deployment, and nothing of the attempt is left.
    mapping = {"block_device_mapping": [volume(0, new())]}
    raises("spawn", (exception.InstanceDeployFailure, KeyError, TypeError), CONTEXT, server, image(), [], None, {}, VIFS[server.uuid], mapping)
    expect("spawn", show(it), {"provision_state": "available", "instance_uuid": None, "instance_info": {}}, "node after a failure")
    expect("spawn", SERVER.call("GET", f"/v1/volume/targets?node={it}")["targets"], [], "volume targets after a failure")

    call("prepare_for_spawn", server)
    SERVER.call("POST", "/v1/volume/targets", target)
    call("failed_spawn_cleanup", server)
    expect("failed_spawn_cleanup", show(it), {"instance_uuid": None, "instance_info": {}, "provision_state": "available"}, "node")
    expect("failed_spawn_cleanup", SERVER.call("GET", f"/v1/volume/targets?node={it}")["targets"], [], "volume targets")
    # Nothing to clean is no error.
    call("failed_spawn_cleanup", server)

    call("prepare_for_spawn", server)
    call("destroy", CONTEXT, server, VIFS[server.uuid])
    expect("destroy", show(it), {"instance_uuid": None, "provision_state": "available"}, "node that was never deployed")
    INSTANCES.pop(server.uuid)
    away(it)


def connection():
    REPORT.called("ironic_connection")
    with REPORT.part("ironic_connection"):
        DRIVER.ironic_connection  # noqa: B018  a property that connects
        compare(Recorder.seen, lambda v: [(m, p) for m, p, *_ in v][0] == ("GET", "/"), "discovery")
        compare(DRIVER._can_send_version("1.82"), None)
        try:
            DRIVER._can_send_version("1.9999")
            raise Failure("a microversion that does not exist is there")
        except exception.IronicAPIVersionNotAvailable:
            pass


with database():
    for story in [connection, inventory, life, failures]:
        with REPORT.part(f"story {story.__name__}"):
            story()
code = REPORT.end()
FOLDER.cleanup()
sys.exit(code)
