"""Every method of openstacksdk's bare metal proxy, unmodified, against a server with noauth and fake-hardware.

usage: sdk.py URL [--reference]       (in an environment that has openstacksdk)

The methods are those that `openstack.baremetal.v1._proxy.Proxy` itself defines. Expectations are what Ironic 39 answers with the
same drivers; `--reference` says that the server is Ironic 39, whose known faults are then expected.
The server: no automated cleaning, network interface noop, console and all other interfaces fake.
"""

import re
import sys
import types
import uuid

import openstack
from openstack import exceptions
from openstack.baremetal.v1._proxy import Proxy
from openstack.baremetal.v1.node import Node
from openstack.resource import Resource

from report import Failure, Report, Server, compare

URL = sys.argv[1]
REFERENCE = "--reference" in sys.argv
SERVER = Server(URL)
TAG = uuid.uuid4().hex[:6]
MACS = (f"52:55:{int(TAG[:2], 16):02x}:{int(TAG[2:4], 16):02x}:{int(TAG[4:], 16):02x}:{n:02x}" for n in range(255))
REPORT = Report(name for name, value in vars(Proxy).items() if callable(value) and not name.startswith("_"))
BAREMETAL = openstack.connect(load_yaml_config=False, load_envvars=False, auth_type="none", auth={"endpoint": URL}, baremetal_status_code_retries=0).baremetal


def plain(value):
    if isinstance(value, (types.GeneratorType, list, tuple)):
        return [plain(v) for v in value]
    return value.to_dict() if isinstance(value, Resource) else value


def call(method, /, *args, wanted=None, **more):
    """The method's result (a generator's as a list), which is as `wanted` says; `None` when it fails."""
    REPORT.called(method)
    with REPORT.part(method):
        found = getattr(BAREMETAL, method)(*args, **more)
        if isinstance(found, types.GeneratorType):
            found = list(found)
        if wanted is not None:
            compare(plain(found), wanted, f"{method}{args}")
        return found
    return None


def refuses(method, status, /, *args, **more):
    """The method raises what the SDK raises for this status of the server."""
    REPORT.called(method)
    with REPORT.part(method):
        try:
            found = getattr(BAREMETAL, method)(*args, **more)
            if isinstance(found, types.GeneratorType):
                found = list(found)
        except exceptions.HttpException as e:
            compare(e.status_code, status, f"{method}{args}: {e}: status")
        else:
            raise Failure(f"{method}{args} is not refused: {found!r}")


def has(*ids, others=True, **fields):
    """A list in which each of these ids is, with these fields."""

    def check(found):
        for it in ids:
            one = next((f for f in found if it in (f["id"], f["name"])), None)
            if one is None:
                raise Failure(f"{it} is not in {found}")
            if fields:
                compare(one, fields, it)
        if not others and len(found) != len(ids):
            raise Failure(f"{len(found)} elements, not {len(ids)}: {found}")
        return True

    return check


def exactly(**wanted):
    return lambda found: found == wanted


def new():
    return str(uuid.uuid4())


def node(name, state="enroll", **fields):
    """A node in this state; its UUID."""
    it = new()
    call("create_node", id=it, name=name, driver="fake-hardware", wanted={"name": name}, provision_state="enroll", **fields)
    for verb, reached in [] if state == "enroll" else [("manage", "manageable"), ("provide", "available")]:
        call("set_node_provision_state", it, verb)
        SERVER.reach(it, reached)
    return it


def away(*nodes):
    for it in nodes:
        SERVER.call("PUT", f"/v1/nodes/{it}/maintenance", {})
        call("delete_node", it)


def drivers_and_conductors():
    call("drivers", wanted=has("fake-hardware"))
    call("drivers", details=True, wanted=has("fake-hardware", default_bios_interface="fake", default_network_interface="noop"))
    call("get_driver", "fake-hardware", wanted={"name": "fake-hardware", "hosts": lambda v: len(v) > 0, "default_power_interface": "fake"})
    refuses("get_driver", 404, "nope")
    call("list_driver_vendor_passthru", "fake-hardware", wanted=exactly())
    # A fault of Ironic 39 is the 500, not contract.
    refuses("call_driver_vendor_passthru", 500 if REFERENCE else 400, "fake-hardware", "POST", "nope", {})
    conductors = call("conductors", wanted=lambda v: len(v) > 0 and v[0]["conductor_group"] == "")
    # The SDK has no details of conductors in a list.
    call("conductors", details=True, wanted=lambda v: v[0]["drivers"] is None)
    host = conductors[0].hostname
    call("get_conductor", host, wanted={"hostname": host, "drivers": lambda v: "fake-hardware" in v})
    call("get_conductor", host, fields=["hostname"], wanted={"hostname": host, "drivers": None})
    refuses("get_conductor", 404, "nope")


def nodes():
    name, kind = f"sn-{TAG}", f"src-{TAG}"
    wanted = {
        "name": name,
        "driver": "fake-hardware",
        "provision_state": "enroll",
        "driver_info": {"password": "******"},
        "properties": {"cpus": 4},
        "extra": {"a": "b"},
        "resource_class": kind,
        "is_maintenance": False,
        "is_protected": False,
        "network_interface": "noop",
        "instance_id": None,
        "conductor": str,
    }
    given = {"driver_info": {"password": "x"}, "properties": {"cpus": 4}, "extra": {"a": "b"}, "resource_class": kind}
    it = new()
    call("create_node", id=it, name=name, driver="fake-hardware", provision_state="enroll", **given, wanted=wanted | {"id": it})
    refuses("create_node", 409, name=name, driver="fake-hardware", provision_state="enroll")
    call("nodes", wanted=has(it, provision_state="enroll"))
    call("nodes", details=True, resource_class=kind, wanted=has(it, others=False, extra={"a": "b"}))
    call("nodes", resource_class=kind, is_maintenance=True, wanted=[])
    call("nodes", fields=["uuid", "extra"], limit=1, wanted=has(it, extra={"a": "b"}))
    call("find_node", name, wanted={"id": it, "extra": {"a": "b"}})
    call("find_node", f"no-{TAG}", wanted=lambda v: v is None)
    call("get_node", name, wanted=wanted | {"id": it})
    call("get_node", it, fields=["name", "driver"], wanted={"name": name, "driver": "fake-hardware", "extra": None})
    refuses("get_node", 404, f"no-{TAG}")
    call("update_node", it, extra={"c": "d"}, description="words", lessee="le", shard="s", wanted={"extra": exactly(c="d"), "description": "words"})
    patch = [{"op": "add", "path": "/extra/e", "value": "f"}, {"op": "replace", "path": "/bios_interface", "value": "no-bios"}]
    call("patch_node", it, patch, wanted={"extra": exactly(c="d", e="f"), "bios_interface": "no-bios", "lessee": "le", "shard": "s"})
    reset = [{"op": "replace", "path": "/driver", "value": "fake-hardware"}]
    # The driver stays the same, so nothing is reset.
    call("patch_node", it, reset, reset_interfaces=True, wanted={"bios_interface": "no-bios"})
    refuses("patch_node", 400, it, [{"op": "replace", "path": "/uuid", "value": new()}])
    call("set_node_maintenance", it, "because", wanted={"is_maintenance": True, "maintenance_reason": "because"})
    call("get_node", it, wanted={"is_maintenance": True, "maintenance_reason": "because"})
    call("unset_node_maintenance", it, wanted={"is_maintenance": False})
    call("get_node", it, wanted={"is_maintenance": False, "maintenance_reason": None})

    call("set_node_traits", it, ["CUSTOM_A", "CUSTOM_B"])
    call("add_node_trait", it, "HW_CPU_X86_VMX")
    call("get_node", it, wanted={"traits": lambda v: sorted(v) == ["CUSTOM_A", "CUSTOM_B", "HW_CPU_X86_VMX"]})
    call("remove_node_trait", it, "CUSTOM_A", wanted=True)
    # The SDK overlooks only a status of 400.
    refuses("remove_node_trait", 404, it, "CUSTOM_A")
    refuses("remove_node_trait", 404, it, "CUSTOM_A", ignore_missing=False)
    refuses("add_node_trait", 400, it, "nope")
    call("get_node", it, wanted={"traits": lambda v: sorted(v) == ["CUSTOM_B", "HW_CPU_X86_VMX"]})

    call("validate_node", it, wanted=lambda v: v["power"].result is True and v["boot"].reason is None and len(v) == 12)
    call("delete_node", it)
    refuses("get_node", 404, it)
    call("delete_node", it, wanted=lambda v: v is None)
    refuses("delete_node", 404, it, ignore_missing=False)


def management():
    it = node(f"sm-{TAG}")
    call("get_node_boot_device", it, wanted={"boot_device": "pxe", "persistent": False})
    call("get_node_supported_boot_devices", it, wanted={"supported_boot_devices": ["pxe"]})
    call("set_node_boot_device", it, "pxe", persistent=True)
    refuses("set_node_boot_device", 400, it, "disk")
    # Accepted at once; that fake hardware cannot do it shows afterwards.
    call("set_node_boot_mode", it, "uefi")
    SERVER.until(it, last_error=lambda text: re.search("boot.mode", text or "", re.I))
    call("set_node_secure_boot", it, True)
    SERVER.until(it, last_error=lambda text: re.search("secure.boot", text or "", re.I))
    call("wait_for_node_reservation", it, timeout=30, wanted={"reservation": None})
    # The fake management interface has no NMI.
    refuses("inject_nmi_to_node", 400, it)

    call("get_node_console", it, wanted={"console_enabled": False, "console_info": None})
    call("enable_node_console", it)
    SERVER.until(it, console_enabled=True)
    call("get_node_console", it, wanted={"console_enabled": True, "console_info": {}})
    call("disable_node_console", it)
    SERVER.until(it, console_enabled=False)
    call("get_node_console", it, wanted={"console_enabled": False, "console_info": None})

    call("set_node_power_state", it, "power on", wait=True, timeout=30)
    call("get_node", it, wanted={"power_state": "power on", "target_power_state": None})
    call("set_node_power_state", it, "soft power off")
    call("wait_for_node_power_state", it, "power off", timeout=30, wanted={"power_state": "power off"})
    refuses("set_node_power_state", 400, it, "nope")

    methods = {m: {"http_methods": ["POST"], "async": m != "third_method_sync", "attach": False} for m in METHODS}
    call("list_node_vendor_passthru", it, wanted=methods)
    answer = call("call_node_vendor_passthru", it, "POST", "third_method_sync", {"bar": "meow"})
    with REPORT.part("call_node_vendor_passthru"):
        compare((answer.status_code, answer.json()), (200, True))
    answer = call("call_node_vendor_passthru", it, "POST", "second_method", {"bar": "kazoo"})
    with REPORT.part("call_node_vendor_passthru"):
        compare((answer.status_code, answer.text), (202, ""))
    SERVER.until(it)
    refuses("call_node_vendor_passthru", 400, it, "GET", "third_method_sync")

    vif = new()
    call("attach_vif_to_node", it, vif)
    call("list_node_vifs", it, wanted=[])
    call("detach_vif_from_node", it, vif, wanted=True)
    refuses("attach_vif_to_node", 400, it, "no id!")

    # The fake management interface has no virtual media; the answer comes before that shows.
    call("attach_vmedia_to_node", it, "cdrom", "http://127.0.0.1:1/image.iso")
    SERVER.until(it)
    refuses("attach_vmedia_to_node", 400, it, "tape", "http://127.0.0.1:1/image.iso")
    call("detach_vmedia_from_node", it, ["cdrom"])
    SERVER.until(it)

    call("list_node_firmware", it, wanted={"firmware": []})
    # Fake inspection finds nothing, and no boot interface of fake hardware takes a ramdisk anywhere.
    refuses("get_node_inventory", 404, it)
    away(it)


METHODS = ["fourth_method_shared_lock", "log_passthrough", "second_method", "third_method_sync"]


def provisioning():
    it, other = node(f"sp-{TAG}"), node(f"sp2-{TAG}")
    call("set_node_provision_state", it, "manage", wait=True, timeout=60, wanted={"provision_state": "manageable"})
    call("set_node_provision_state", other, "manage")
    call("wait_for_nodes_provision_state", [it, other], "manageable", timeout=60, wanted=has(it, other, provision_state="manageable"))
    refuses("set_node_provision_state", 400, it, "abort")
    refuses("set_node_provision_state", 400, it, "nope")
    steps = [{"interface": "bios", "step": "apply_configuration", "args": {"settings": [{"name": "n", "value": "v"}]}}]
    call("set_node_provision_state", it, "clean", clean_steps=steps, wait=True, timeout=60, wanted={"provision_state": "manageable"})
    with REPORT.part("set_node_provision_state"):
        compare(SERVER.call("GET", f"/v1/nodes/{it}/bios/n")["n"]["value"], "v", "the setting that the step made")
    call("set_node_provision_state", it, "provide", wait=True, timeout=60, wanted={"provision_state": "available"})
    refuses("set_node_provision_state", 400, it, "active", config_drive="not base64!")
    drive = {"meta_data": {"hostname": "h"}}
    call("set_node_provision_state", it, "active", config_drive=drive, wait=True, timeout=60, wanted={"provision_state": "active"})
    call("get_node", it, wanted={"instance_info": {"configdrive": "******"}, "last_error": None})
    refuses("delete_node", 409, it)
    call("set_node_provision_state", it, "rescue", rescue_password="secret", wait=True, timeout=60, wanted={"provision_state": "rescue"})
    call("set_node_provision_state", it, "unrescue")
    SERVER.reach(it, "active")
    if REFERENCE:
        # A fault of Ironic 39, not contract.
        refuses("set_node_provision_state", 500, it, "rebuild")
    else:
        call("set_node_provision_state", it, "rebuild", wait=True, timeout=60, wanted={"provision_state": "active"})
    call("wait_for_status", BAREMETAL.get_node(it), "active", attribute="provision_state", wait=30, wanted={"id": it})
    call("set_node_provision_state", it, "deleted", wait=True, timeout=60, wanted={"provision_state": "available"})
    call("delete_node", it)
    call("wait_for_delete", Node.existing(id=it, connection=None), interval=1, wait=30)
    away(other)


def ports():
    it, other = node(f"so-{TAG}"), node(f"so2-{TAG}")
    macs = [next(MACS) for _ in range(4)]
    group = new()
    made = {"node_id": it, "name": f"sg-{TAG}", "address": macs[0], "mode": "802.3ad", "properties": {"miimon": 100}, "extra": {"a": "b"}}
    call("create_port_group", id=group, **made, wanted={"id": group, "is_standalone_ports_supported": True, **made})
    refuses("create_port_group", 409, node_id=other, name=f"sg-{TAG}")
    call("port_groups", wanted=has(group))
    call("port_groups", details=True, node=it, wanted=has(group, others=False, mode="802.3ad"))
    call("port_groups", address=macs[0], wanted=has(group, others=False))
    call("find_port_group", f"sg-{TAG}", wanted={"id": group, "mode": "802.3ad"})
    call("find_port_group", f"no-{TAG}", wanted=lambda v: v is None)
    found = call("get_port_group", group, wanted={"id": group, **made})
    call("get_port_group", group, fields=["name"], wanted={"name": f"sg-{TAG}", "mode": None})
    refuses("get_port_group", 404, new())
    call("update_port_group", group, extra={"c": "d"}, wanted={"extra": exactly(c="d")})
    call("patch_port_group", found, [{"op": "replace", "path": "/mode", "value": "active-backup"}], wanted={"mode": "active-backup"})

    port = new()
    link = {"switch_id": "00:11:22:33:44:55", "port_id": "e1"}
    made = {"node_id": it, "port_group_id": group, "local_link_connection": link, "is_pxe_enabled": True, "extra": {"a": "b"}}
    made |= {"name": f"se-{TAG}", "description": "first"}
    call("create_port", id=port, address=macs[1].upper(), **made, wanted={"id": port, "address": macs[1], **made})
    refuses("create_port", 409, address=macs[1], node_id=it)
    refuses("create_port", 400, address="zz", node_id=it)
    call("ports", wanted=has(port, address=macs[1]))
    call("ports", details=True, node=it, wanted=has(port, others=False, extra={"a": "b"}))
    call("ports", address=macs[1], fields=["uuid", "extra"], wanted=has(port, others=False, extra={"a": "b"}))
    call("find_port", port, wanted={"id": port, "extra": {"a": "b"}})
    call("find_port", new(), wanted=lambda v: v is None)
    found = call("get_port", port, wanted={"id": port, "address": macs[1], **made})
    call("get_port", port, fields=["address"], wanted={"address": macs[1], "extra": None})
    refuses("get_port", 404, new())
    call("update_port", port, address=macs[2], extra={"c": "d"}, wanted={"address": macs[2], "extra": exactly(c="d")})
    call("patch_port", found, [{"op": "replace", "path": "/pxe_enabled", "value": False}], wanted={"is_pxe_enabled": False})
    refuses("delete_port_group", 400, group)
    call("delete_port", port)
    refuses("get_port", 404, port)
    refuses("delete_port", 404, port, ignore_missing=False)
    call("delete_port_group", group)
    refuses("get_port_group", 404, group)
    away(it, other)


def chassis():
    it = new()
    given = {"description": f"rack {TAG}", "extra": {"a": "b"}}
    made = call("create_chassis", id=it, **given, wanted={"id": it, **given})
    call("chassis", wanted=lambda v: any(c["id"] == it and c["description"] == f"rack {TAG}" for c in v))
    call("chassis", details=True, wanted=lambda v: any(c["id"] == it and c["extra"] == {"a": "b"} for c in v))
    call("find_chassis", it, wanted={"id": it})
    call("find_chassis", new(), wanted=lambda v: v is None)
    call("get_chassis", it, wanted={"extra": {"a": "b"}})
    call("get_chassis", it, fields=["description"], wanted={"description": f"rack {TAG}", "extra": None})
    refuses("get_chassis", 404, new())
    call("update_chassis", it, extra={"c": "d"}, wanted={"extra": exactly(c="d")})
    call("patch_chassis", made, [{"op": "replace", "path": "/description", "value": "row"}], wanted={"description": "row"})
    here = node(f"sc-{TAG}", chassis_id=it)
    refuses("delete_chassis", 400, it)
    away(here)
    call("delete_chassis", it)
    refuses("get_chassis", 404, it)


def volumes():
    it = node(f"sv-{TAG}")
    call("set_node_power_state", it, "power off", wait=True, timeout=30)
    made = {"node_id": it, "type": "iqn", "connector_id": f"iqn.{TAG}", "extra": {"a": "b"}}
    connector = new()
    call("create_volume_connector", id=connector, **made, wanted={"id": connector, **made})
    refuses("create_volume_connector", 409, **made)
    call("volume_connectors", wanted=has(connector, type="iqn"))
    call("volume_connectors", details=True, node=it, wanted=has(connector, others=False, extra={"a": "b"}))
    call("find_volume_connector", connector, wanted={"id": connector})
    call("find_volume_connector", new(), wanted=lambda v: v is None)
    found = call("get_volume_connector", connector, wanted=made)
    call("get_volume_connector", connector, fields=["type"], wanted={"type": "iqn", "connector_id": None})
    refuses("get_volume_connector", 404, new())
    call("update_volume_connector", connector, type="ip", connector_id="192.0.2.7", wanted={"type": "ip", "connector_id": "192.0.2.7"})
    call("patch_volume_connector", found, [{"op": "add", "path": "/extra/c", "value": "d"}], wanted={"extra": exactly(a="b", c="d")})
    call("delete_volume_connector", connector)
    refuses("get_volume_connector", 404, connector)

    made = {"node_id": it, "volume_type": "iscsi", "volume_id": new(), "boot_index": 0, "properties": {"lun": 1}, "extra": {"a": "b"}}
    target = new()
    call("create_volume_target", id=target, **made, wanted={"id": target, **made})
    refuses("create_volume_target", 409, **made)
    call("volume_targets", wanted=has(target, boot_index=0))
    call("volume_targets", details=True, node=it, wanted=has(target, others=False, extra={"a": "b"}))
    call("find_volume_target", target, wanted={"id": target})
    call("find_volume_target", new(), wanted=lambda v: v is None)
    found = call("get_volume_target", target, wanted=made)
    call("get_volume_target", target, fields=["volume_id"], wanted={"volume_id": made["volume_id"], "boot_index": None})
    refuses("get_volume_target", 404, new())
    call("update_volume_target", target, boot_index=1, wanted={"boot_index": 1})
    call("patch_volume_target", found, [{"op": "add", "path": "/extra/c", "value": "d"}], wanted={"extra": exactly(a="b", c="d")})
    call("delete_volume_target", target)
    refuses("get_volume_target", 404, target)
    away(it)


def allocations():
    kind = f"sal-{TAG}"
    it = node(f"sa-{TAG}", state="available", resource_class=kind)
    call("set_node_power_state", it, "power off", wait=True, timeout=30)
    name = f"sa-{TAG}"
    first, other = new(), new()
    given = {"id": first, "name": name, "resource_class": kind, "extra": {"a": "b"}}
    made = call("create_allocation", candidate_nodes=[it], **given, wanted=given)
    call("wait_for_allocation", first, timeout=30, wanted={"state": "active", "node_id": it, "candidate_nodes": [it]})
    call("get_node", it, wanted={"allocation_id": first, "instance_id": first})
    refuses("create_allocation", 409, name=name, resource_class=kind)
    call("create_allocation", id=other, resource_class=kind, wanted={"id": other})
    call("wait_for_allocation", other, timeout=30, ignore_error=True, wanted={"state": "error", "last_error": lambda v: "no available nodes" in v})
    call("allocations", resource_class=kind, wanted=has(first, other, others=False))
    call("allocations", node=it, state="active", wanted=has(first, others=False, name=name))
    call("get_allocation", name, wanted={"id": first, "extra": {"a": "b"}, "node_id": it})
    call("get_allocation", name, fields=["name"], wanted={"name": name, "extra": None})
    refuses("get_allocation", 404, new())
    call("update_allocation", name, extra={"c": "d"}, wanted={"extra": exactly(c="d")})
    call("patch_allocation", made, [{"op": "add", "path": "/extra/e", "value": "f"}], wanted={"extra": exactly(c="d", e="f")})
    call("delete_allocation", first)
    call("delete_allocation", other)
    refuses("get_allocation", 404, first)
    call("get_node", it, wanted={"allocation_id": None, "instance_id": None})
    away(it)


STEP = {"interface": "bios", "step": "apply_configuration", "args": {"settings": []}}


def deploy_templates():
    name, steps = f"CUSTOM_S_{TAG.upper()}", [STEP | {"priority": 150}]
    it = new()
    made = call("create_deploy_template", id=it, name=name, steps=steps, extra={"a": "b"}, wanted={"name": name, "steps": steps, "extra": {"a": "b"}})
    refuses("create_deploy_template", 409, name=name, steps=steps)
    refuses("create_deploy_template", 400, name="CUSTOM_T", steps=[])
    call("deploy_templates", wanted=has(name))
    call("deploy_templates", details=True, wanted=has(name, steps=steps, extra={"a": "b"}))
    call("find_deploy_template", name, wanted={"id": it})
    call("find_deploy_template", f"CUSTOM_NO_{TAG.upper()}", wanted=lambda v: v is None)
    call("get_deploy_template", name, wanted={"id": it, "steps": steps})
    call("get_deploy_template", name, fields=["name"], wanted={"name": name, "steps": None})
    refuses("get_deploy_template", 404, new())
    call("update_deploy_template", it, extra={"c": "d"}, wanted={"extra": exactly(c="d")})
    call("patch_deploy_template", made, [{"op": "add", "path": "/extra/e", "value": "f"}], wanted={"extra": exactly(c="d", e="f")})
    call("delete_deploy_template", name)
    refuses("get_deploy_template", 404, it)


def runbooks():
    name, steps = f"CUSTOM_SR_{TAG.upper()}", [STEP | {"order": 1}]
    it = new()
    made = call("create_runbook", id=it, name=name, steps=steps, extra={"a": "b"}, wanted={"name": name, "steps": steps, "extra": {"a": "b"}, "public": False})
    refuses("create_runbook", 409, name=name, steps=steps)
    refuses("create_runbook", 400, name=f"{name}_X", steps=[])
    call("runbooks", wanted=has(name))
    call("runbooks", details=True, wanted=has(name, steps=steps))
    call("get_runbook", name, wanted={"id": it, "steps": steps})
    call("get_runbook", name, fields=["name"], wanted={"name": name, "steps": None})
    refuses("get_runbook", 404, new())
    call("update_runbook", it, extra={"c": "d"}, wanted={"extra": exactly(c="d")})
    call("patch_runbook", made, [{"op": "replace", "path": "/public", "value": True}], wanted={"public": True, "owner": None})
    call("set_runbook_traits", it, ["CUSTOM_A", "CUSTOM_B"])
    call("add_runbook_trait", it, "CUSTOM_C")
    call("remove_runbook_trait", it, "CUSTOM_A")
    with REPORT.part("set_runbook_traits"):
        compare(sorted(SERVER.call("GET", f"/v1/runbooks/{name}/traits")["traits"]), ["CUSTOM_B", "CUSTOM_C"], "traits")
    call("delete_runbook", name)
    refuses("get_runbook", 404, it)


def inspection_rules():
    actions = [{"op": "set-attribute", "args": {"path": "extra/seen", "value": "yes"}}]
    wanted = {"description": TAG, "priority": 7, "phase": "main", "sensitive": False, "actions": lambda v: v[0]["op"] == "set-attribute"}
    more = {"conditions": [{"op": "eq", "args": {"values": [1, 1]}}]}
    it = new()
    made = call("create_inspection_rule", id=it, **more, description=TAG, priority=7, phase="main", actions=actions, wanted=wanted)
    refuses("create_inspection_rule", 400, conditions=[], actions=[{"op": "nope", "args": {}}])
    call("inspection_rules", wanted=has(it, priority=7))
    # The SDK asks for details as Ironic does not give them.
    call("inspection_rules", details=True, wanted=has(it, actions=None))
    call("get_inspection_rule", it, wanted=wanted)
    call("get_inspection_rule", it, fields=["priority"], wanted={"priority": 7, "actions": None})
    refuses("get_inspection_rule", 404, new())
    call("update_inspection_rule", it, priority=8, wanted={"priority": 8})
    call("patch_inspection_rule", made, [{"op": "replace", "path": "/description", "value": "new"}], wanted={"description": "new"})
    call("delete_inspection_rule", it)
    refuses("get_inspection_rule", 404, it)


STORIES = [drivers_and_conductors, nodes, management, provisioning, ports, chassis, volumes]
STORIES += [allocations, deploy_templates, runbooks, inspection_rules]
for story in STORIES:
    with REPORT.part(f"story {story.__name__}"):
        story()
sys.exit(REPORT.end())
