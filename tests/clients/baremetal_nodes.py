"""Stories of nodes: made, changed, managed, provisioned."""

import json
import re

from baremetal_run import REFERENCE, REPORT, SERVER, TAG, away, does, lists, new, node, only, program, refuses, shows, write
from report import Failure, compare

NETWORK_DATA = {"links": [{"id": "l", "type": "phy", "ethernet_mac_address": "52:54:00:00:00:01"}], "networks": [], "services": []}


def client_itself():
    with REPORT.part("help"):
        REPORT.called("help")
        if "usage: baremetal node create" not in program("help", "node", "create"):
            raise Failure("no help of `node create`")
    with REPORT.part("complete"):
        REPORT.called("complete")
        if "cmds_node_create" not in program("complete"):
            raise Failure("no completion of `node create`")


def drivers_and_conductors():
    lists("driver list", {"name": "fake-hardware"})
    lists("driver list --type classic", only=True)
    lists("driver list --long", {"name": "fake-hardware", "type": "dynamic", "default_bios_interface": "fake", "default_network_interface": "noop"})
    shows(
        "driver show fake-hardware",
        name="fake-hardware",
        type="dynamic",
        default_power_interface="fake",
        hosts=lambda v: len(v) >= 1,
        enabled_bios_interfaces=lambda v: {"fake", "no-bios"} <= set(v.split(", ")),
    )
    shows("driver show fake-hardware --fields name type", name="fake-hardware", type="dynamic")
    refuses("driver show nope", says="nope")
    lists(
        "driver property list fake-hardware",
        {"property": "B1", "description": "B1 description. Required."},
        {"property": "B2", "description": "B2 description. Required."},
        only=True,
    )
    properties = ["controller", "disk_type", "interface_type", "is_root_volume", "number_of_physical_disks", "physical_disks"]
    properties += ["raid_level", "share_physical_disks", "size_gb", "volume_name"]
    lists("driver raid property list fake-hardware", *({"property": p} for p in properties), only=True)
    lists("driver passthru list fake-hardware", only=True)
    refuses("driver passthru call fake-hardware nope", says="No handler for method nope.*400")

    host = (lists("conductor list", {"conductor_group": ""}) or [{}])[0].get("hostname", "none")
    lists("conductor list --long", {"hostname": host})
    shows(f"conductor show {host}", hostname=host, conductor_group="", drivers=lambda v: "fake-hardware" in v)
    shows(f"conductor show {host} --fields hostname", hostname=host)
    refuses("conductor show nope", says="404")


def nodes():
    name, chassis = f"n-{TAG}", new()
    does(f"chassis create --uuid {chassis}")
    it = new()
    shows(
        f"node create --driver fake-hardware --name {name} --uuid {it} --property cpus=4 --driver-info a=b --driver-info password=hidden",
        *["--extra", "note=it's", "--resource-class", f"rc-{TAG}", "--description", "a, b", "--automated-clean"],
        uuid=it,
        name=name,
        driver="fake-hardware",
        provision_state="enroll",
        properties={"cpus": 4},
        driver_info={"a": "b", "password": "******"},
        extra={"note": "it's"},
        automated_clean=True,
        conductor=str,
        bios_interface="fake",
        network_interface="noop",
    )
    refuses(f"node create --driver fake-hardware --name {name}", says="already exists.*409")
    refuses("node create --driver nope", says="nope.*400")

    row = {"uuid": it, "name": name, "instance_uuid": None, "power_state": None, "provision_state": "enroll", "maintenance": False}
    lists("node list", row)
    lists("node list --long", {"uuid": it, "resource_class": f"rc-{TAG}", "driver": "fake-hardware"})
    lists(f"node list --resource-class rc-{TAG}", row, only=True)
    lists(f"node list --resource-class rc-{TAG} --maintenance", only=True)
    does(f"node set {name} --owner ow-{TAG}")
    lists(f"node list --unassociated --no-maintenance --provision-state enroll --driver fake-hardware --owner ow-{TAG}", row, only=True)
    lists(f"node list --description-contains {TAG}-nothing", only=True)
    lists("node list --fields uuid extra --limit 0", {"uuid": it, "extra": {"note": "it's"}})
    shows(f"node show {name} --fields uuid driver_info", uuid=it, driver_info={"password": "******"})
    refuses("node show nope", says="nope.*404")

    lessee = f"le-{TAG}"
    does(
        f"node set {name} --property memory_mb=1024 --extra x=1 --driver-info c=d --instance-info e=f --lessee {lessee} --shard s-{TAG}",
        *["--chassis-uuid", chassis, "--description", "other", "--conductor-group", "", "--bios-interface", "no-bios"],
        *["--target-raid-config", write("raid.json", {"logical_disks": [{"size_gb": 10, "raid_level": "1"}]})],
        *["--network-data", json.dumps(NETWORK_DATA), "--disable-power-off"],
    )
    shows(
        f"node show {name}",
        properties={"cpus": 4, "memory_mb": 1024},
        extra={"note": "it's", "x": 1},
        instance_info={"e": "f"},
        lessee=lessee,
        shard=f"s-{TAG}",
        description="other",
        bios_interface="no-bios",
        chassis_uuid=chassis,
        disable_power_off=True,
        network_data=NETWORK_DATA,
        target_raid_config={"logical_disks": [{"size_gb": 10, "raid_level": "1"}]},
    )
    lists(f"node list --lessee {lessee} --shards s-{TAG} --sharded", row, only=True)
    lists(f"node list --chassis {chassis}", row, only=True)
    lists("shard list", {"name": f"s-{TAG}", "count": 1})
    refuses(f"node set {name} --network-data {{}}", says="network_data.*400")
    refuses(f"node set {name} --driver nope", says="nope.*40[04]")
    does(f"node set {name} --reset-bios-interface --enable-power-off")
    does(
        f"node unset {name} --property cpus --extra x --driver-info c --instance-info e --lessee --shard --description --owner --chassis-uuid",
        *["--resource-class", "--target-raid-config", "--network-data"],
    )
    unset = dict.fromkeys(["lessee", "shard", "description", "owner", "chassis_uuid", "resource_class"])
    shows(f"node show {name}", **unset, bios_interface="fake", properties=only(memory_mb=1024), extra=only(note="it's"), target_raid_config={})
    lists(f"node list --lessee {lessee}", only=True)
    if REFERENCE:
        # A fault of Ironic 39, not contract.
        refuses(f"node unset {name} --automated-clean", says="500")
    else:
        does(f"node unset {name} --automated-clean")
        shows(f"node show {name}", automated_clean=None)

    does(f"node maintenance set {name} --reason", "because of this")
    shows(f"node show {name}", maintenance=True, maintenance_reason="because of this")
    lists("node list --maintenance", {"uuid": it})
    does(f"node maintenance unset {name}")
    shows(f"node show {name}", maintenance=False, maintenance_reason=None)

    child = node(f"c-{TAG}", "--parent-node", it)
    shows(f"node show {child}", parent_node=it)
    shows_children(it, child)
    lists("node list", {"uuid": it}, without=(child,))
    lists("node list --include-children", {"uuid": it}, {"uuid": child})
    lists(f"node list --parent-node {it}", {"uuid": child}, only=True)
    does(f"node unset {child} --parent-node")

    trait = f"CUSTOM_{TAG.upper()}"
    does(f"node add trait {name} {trait}_A {trait}_B", says=f"Added trait {trait}_A")
    does(f"node trait add {name} {trait}_C HW_CPU_X86_VMX")
    traits = [f"{trait}_A", f"{trait}_B", f"{trait}_C", "HW_CPU_X86_VMX"]
    lists(f"node trait list {name}", *({"traits": t} for t in traits), only=True)
    shows(f"node show {name}", traits=lambda v: sorted(v) == sorted(traits))
    refuses(f"node trait add {name} nope", says="nope")
    does(f"node remove trait {name} {trait}_A")
    refuses(f"node trait remove {name} {trait}_A", says=f"{trait}_A")
    does(f"node trait remove {name} {trait}_B")
    lists(f"node trait list {name}", *({"traits": t} for t in traits[2:]), only=True)
    does(f"node trait remove {name} --all")
    lists(f"node trait list {name}", only=True)

    interfaces = ["bios", "boot", "console", "deploy", "firmware", "inspect", "management", "network", "power", "raid", "rescue", "storage"]
    lists(f"node validate {name}", *({"Interface": i, "Result": True} for i in interfaces), only=True)

    refuses("node delete nope", says="nope")
    does(f"node delete {name} {child}", says=f"Deleted node {name}")
    refuses(f"node show {it}", says="404")
    does(f"chassis delete {chassis}")


def shows_children(parent, child):
    found = does(f"node children list {parent} -f json")
    with REPORT.part("node children list"):
        if child not in found:
            raise Failure(f"{child} is not in {found!r}")


def management():
    name = f"m-{TAG}"
    it = node(name)
    shows(f"node boot device show {name}", boot_device="pxe", persistent=False)
    shows(f"node boot device show {name} --supported", supported_boot_devices="pxe")
    does(f"node boot device set {name} pxe --persistent")
    refuses(f"node boot device set {name} disk", says="boot device.*disk.*400")
    # Accepted at once; that fake hardware cannot do it shows afterwards.
    for words, text in [("boot mode set NODE uefi", "boot.mode"), ("secure boot on NODE", "secure.boot"), ("secure boot off NODE", "secure.boot")]:
        does("node " + words.replace("NODE", name))
        with REPORT.part("node " + words.split(" NODE")[0]):
            SERVER.until(it, last_error=lambda found, text=text: re.search(text, found or "", re.I))
    refuses(f"node inject nmi {name}", says="nmi.*400")

    shows(f"node console show {name}", console_enabled=False, console_info=None)
    does(f"node console enable {name}")
    SERVER.until(it, console_enabled=True)
    shows(f"node console show {name}", console_enabled=True, console_info={})
    does(f"node console disable {name}")
    SERVER.until(it, console_enabled=False)
    does(f"node set {name} --console-interface no-console")
    refuses(f"node console enable {name}", says="console.*400")

    for line, state in [
        ("node power on NODE", "power on"),
        ("node power off NODE", "power off"),
        ("node power on NODE --power-timeout 30", "power on"),
        ("node reboot NODE", "power on"),
        ("node reboot NODE --soft --power-timeout 30", "power on"),
        ("node power off NODE --soft", "power off"),
    ]:
        does(line.replace("NODE", name))
        SERVER.until(it, power_state=state, target_power_state=None)
    shows(f"node show {name}", power_state="power off", target_power_state=None)

    methods = ["fourth_method_shared_lock", "log_passthrough", "second_method", "third_method_sync"]
    rows = ({"Name": m, "Supported HTTP methods": "POST", "Async": m != "third_method_sync", "Response is attachment": False} for m in methods)
    lists(f"node passthru list {name}", *rows, only=True)
    # The client can print only tables, and stops at the answer, which is a plain true.
    refuses(f"node passthru call {name} third_method_sync --arg bar=meow", says="'bool' object")
    does(f"node passthru call {name} second_method --arg bar=kazoo")
    SERVER.until(it)
    refuses(f"node passthru call {name} third_method_sync --http-method GET", says="400")
    refuses(f"node passthru call {name} nope", says="nope.*400")

    vif = new()
    does(f"node vif attach {name} {vif} --vif-info a=b")
    lists(f"node vif list {name}", only=True)
    does(f"node vif detach {name} {vif}")
    refuses(f"node vif attach {name}", "no id!", says="400")
    refuses("node vif list nope", says="404")

    lists(f"node firmware list {name}", only=True)
    lists(f"node bios setting list {name}", only=True)
    refuses(f"node bios setting show {name} x", says="x.*404")
    # Fake inspection finds nothing, and no boot interface of fake hardware takes a ramdisk anywhere.
    refuses(f"node inventory save {name}", says="404")

    does(f"node manage {name} --wait 60", says="manageable")
    settings = [{"interface": "bios", "step": "apply_configuration", "args": {"settings": [{"name": "virt", "value": "on"}]}}]
    does(f"node clean {name} --clean-steps", json.dumps(settings))
    SERVER.reach(it, "manageable")
    lists(f"node bios setting list {name}", {"name": "virt", "value": "on"}, only=True)
    lists(f"node bios setting list {name} --long", {"name": "virt", "value": "on"})
    shows(f"node bios setting show {name} virt", name="virt", value="on", read_only=None)
    away(name)


def provisioning():
    name = f"p-{TAG}"
    it = node(name, "--resource-class", f"p-{TAG}")
    does(f"node manage {name} --wait 60", says="manageable")
    shows(f"node show {name}", provision_state="manageable", power_state=None)
    refuses(f"node manage {name}", says="manage.*400")
    does(f"node inspect {name}")
    SERVER.reach(it, "manageable")
    shows(f"node show {name}", inspection_finished_at=str, inspection_started_at=None)
    does(f"node adopt {name}")
    SERVER.reach(it, "active")
    does(f"node undeploy {name}")
    SERVER.reach(it, "available")
    does(f"node manage {name}")
    SERVER.reach(it, "manageable")
    does(f"node provide {name}")
    SERVER.reach(it, "available")
    lists(f"node list --provision-state available --resource-class p-{TAG}", {"uuid": it}, only=True)

    drive = {"meta_data": {"hostname": "h"}, "user_data": "#!/bin/true"}
    does(f"node deploy {name} --config-drive", json.dumps(drive))
    SERVER.reach(it, "active")
    shows(f"node show {name}", provision_state="active", instance_info={"configdrive": "******"})
    refuses(f"node delete {name}", says="409|active")
    does(f"node set {name} --protected --protected-reason", "not now")
    refuses(f"node undeploy {name}", says="protected.*403")
    does(f"node unset {name} --protected")
    shows(f"node show {name}", protected=False, protected_reason=None)
    does(f"node set {name} --instance-uuid {it}")
    shows(f"node show --instance {it}", uuid=it, instance_uuid=it)
    lists("node list --associated", {"uuid": it})

    does(f"node rescue {name} --rescue-password secret")
    SERVER.reach(it, "rescue")
    shows(f"node show {name}", provision_state="rescue", instance_info=lambda v: "rescue_password" not in v or v["rescue_password"] == "******")
    does(f"node unrescue {name}")
    SERVER.reach(it, "active")

    refuses(f"node unhold {name}", says="unhold.*400")
    refuses(f"node abort {name}", says="abort.*400")
    rebuild(name, it)

    step = {"interface": "vendor", "step": "log_passthrough"}
    does(f"node service {name} --service-steps", json.dumps([step]))
    SERVER.reach(it, "active")
    does(f"node service {name} --service-steps", json.dumps([{**step, "step": "trigger_servicewait"}]))
    SERVER.reach(it, "service wait")
    # Ironic 39 passes over steps named "hold", so no state of fake hardware can be held and let go; a wait can be aborted.
    does(f"node abort {name}")
    shows(f"node show {name}", provision_state="service wait", service_step={"step": "trigger_servicewait", "abort_after": True})

    found = lists(f"node history list {name}", {"severity": "INFO"}) or [{"uuid": "none"}]
    event = found[0]["uuid"]
    with REPORT.part("node history list"):
        compare(" ".join(f.get("event", "") for f in found), lambda text: "deployment" in text.lower(), "events")
    lists(f"node history list {name} --long", {"severity": "INFO", "event_type": "deployment_start", "state": "deploying"})
    shows(f"node history get {name} {event}", uuid=event, severity="INFO", conductor=str, event_type=str)
    refuses(f"node history get {name} {new()}", says="404")

    shows(f"node show {name} --fields provision_state", provision_state="service wait")
    does(f"node undeploy {name}")
    SERVER.reach(it, "available")
    shows(f"node show {name}", instance_uuid=None, instance_info={})
    does(f"node delete {name}")


def rebuild(name, it):
    if REFERENCE:
        # A fault of Ironic 39, not contract.
        refuses(f"node rebuild {name}", says="auto_lessee.*500")
        return
    does(f"node rebuild {name}")
    SERVER.reach(it, "active")
    shows(f"node show {name}", provision_state="active", instance_uuid=it, last_error=None)
