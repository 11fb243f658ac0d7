"""Stories of everything beside nodes."""

import json
import time

from baremetal_run import MACS, REFERENCE, REPORT, SERVER, TAG, away, does, lists, new, node, only, refuses, shows, write
from report import Failure

def ports():
    it, other = node(f"po-{TAG}"), node(f"po2-{TAG}")
    group, port = new(), new()
    macs = [next(MACS) for _ in range(4)]
    shows(
        f"port group create --node {it} --uuid {group} --name g-{TAG} --address {macs[0]} --mode 802.3ad --property miimon=100 --extra a=b",
        *["--unsupport-standalone-ports", "--category", "c1"],
        uuid=group,
        name=f"g-{TAG}",
        node_uuid=it,
        address=macs[0],
        mode="802.3ad",
        properties={"miimon": 100},
        extra={"a": "b"},
        standalone_ports_supported=False,
        category="c1",
    )
    refuses(f"port group create --node {other} --name g-{TAG}", says="409")
    lists("port group list", {"uuid": group, "name": f"g-{TAG}", "address": macs[0]})
    lists(f"port group list --node {it} --long", {"uuid": group, "mode": "802.3ad", "node_uuid": it}, only=True)
    lists(f"port group list --address {macs[0]} --fields uuid name", {"uuid": group}, only=True)
    does(f"port group set g-{TAG} --name h-{TAG} --mode active-backup --property x=y --extra c=d --support-standalone-ports --physical-network p1")
    shows(
        f"port group show h-{TAG}",
        *(),
        uuid=group,
        mode="active-backup",
        properties={"miimon": 100, "x": "y"},
        extra={"a": "b", "c": "d"},
        standalone_ports_supported=True,
        physical_network="p1",
    )
    shows(f"port group show --address {macs[0]}", uuid=group)
    does(f"port group unset {group} --name --property miimon --extra a --physical-network --category")
    shows(f"port group show {group}", name=None, properties=only(x="y"), extra=only(c="d"), physical_network=None, category=None)
    refuses(f"port group show h-{TAG}", says="404")

    shows(
        f"port create {macs[1].upper()} --node {it} --uuid {port} --name e0-{TAG} --port-group {group} --pxe-enabled true --extra a=b",
        *["--local-link-connection", "switch_id=00:11:22:33:44:55", "--local-link-connection", "port_id=e1"],
        *["--vendor", "v", "--category", "c", "--description", "first"],
        uuid=port,
        address=macs[1],
        node_uuid=it,
        name=f"e0-{TAG}",
        portgroup_uuid=group,
        pxe_enabled=True,
        local_link_connection=only(switch_id="00:11:22:33:44:55", port_id="e1"),
        extra={"a": "b"},
        vendor="v",
        category="c",
        is_smartnic=False,
    )
    refuses(f"port create {macs[1]} --node {it}", says="already exists.*409")
    refuses(f"port create zz --node {it}", says="400")
    lists("port list", {"uuid": port, "address": macs[1]})
    lists(f"port list --node {it} --long", {"uuid": port, "portgroup_uuid": group, "name": f"e0-{TAG}"}, only=True)
    lists(f"port list --port-group {group}", {"uuid": port}, only=True)
    lists(f"port list --address {macs[1]} --fields uuid vendor", {"uuid": port, "vendor": "v"}, only=True)
    does(
        f"port set {port} --address {macs[2]} --extra c=d --pxe-disabled --description second --name e1-{TAG} --vendor w --category k",
        *["--local-link-connection", "port_id=e2"],
    )
    shows(f"port show e1-{TAG}", address=macs[2], extra=only(a="b", c="d"), pxe_enabled=False, vendor="w", category="k")
    shows(f"port show --address {macs[2]}", uuid=port, local_link_connection={"port_id": "e2"})
    refuses(f"port group delete {group}", says="400")
    does(f"port unset {port} --extra a --port-group --name --description --vendor --category")
    shows(f"port show {port}", extra=only(c="d"), **dict.fromkeys(["name", "vendor", "category"]))
    # Faults of Ironic 39, not contract.
    if REFERENCE:
        shows(f"port show {port}", portgroup_uuid=group)
        refuses(f"port set {port} --node {other}", says="500")
    else:
        shows(f"port show {port}", portgroup_uuid=None)
        does(f"port set {port} --physical-network p2")
        shows(f"port show {port}", physical_network="p2")
        does(f"port unset {port} --physical-network")
        shows(f"port show {port}", physical_network=None)
        does(f"port set {port} --node {other}")
        shows(f"port show {port}", node_uuid=other)
    does(f"port delete {port}", says=f"Deleted port {port}")
    refuses(f"port show {port}", says="404")
    does(f"port group delete {group}", says=group)
    refuses(f"port group show {group}", says="404")
    away(it, other)


def chassis():
    it = new()
    shows(f"chassis create --uuid {it} --description rack --extra a=b", uuid=it, description="rack", extra={"a": "b"})
    lists("chassis list", {"uuid": it, "description": "rack"})
    lists("chassis list --long --sort uuid:asc", {"uuid": it, "extra": {"a": "b"}})
    does(f"chassis set {it} --description row --extra c=d")
    shows(f"chassis show {it}", description="row", extra=only(a="b", c="d"))
    does(f"chassis unset {it} --description --extra a")
    shows(f"chassis show {it} --fields description extra", description=lambda v: not v, extra=only(c="d"))
    here = node(f"ch-{TAG}", "--chassis-uuid", it)
    refuses(f"chassis delete {it}", says="400")
    away(here)
    does(f"chassis delete {it}", says=f"Deleted chassis {it}")
    refuses(f"chassis show {it}", says="404")


def volumes():
    it = node(f"v-{TAG}")
    does(f"node power off {it}")
    SERVER.until(it, power_state="power off")
    connector, target = new(), new()
    iqn = f"iqn.2017-05.org.openstack:{TAG}"
    shows(
        f"volume connector create --node {it} --type iqn --connector-id {iqn} --uuid {connector} --extra a=b",
        uuid=connector,
        node_uuid=it,
        type="iqn",
        connector_id=iqn,
        extra={"a": "b"},
    )
    refuses(f"volume connector create --node {it} --type iqn --connector-id {iqn}", says="409")
    lists("volume connector list", {"uuid": connector, "node_uuid": it, "type": "iqn", "connector_id": iqn})
    lists(f"volume connector list --node {it} --long", {"uuid": connector, "extra": {"a": "b"}}, only=True)
    does(f"volume connector set {connector} --type ip --connector-id 192.0.2.1 --extra c=d")
    shows(f"volume connector show {connector}", type="ip", connector_id="192.0.2.1", extra=only(a="b", c="d"))
    does(f"volume connector unset {connector} --extra a")
    shows(f"volume connector show {connector} --fields extra", extra=only(c="d"))
    does(f"volume connector delete {connector}", says=connector)
    refuses(f"volume connector show {connector}", says="404")

    volume = new()
    shows(
        f"volume target create --node {it} --type iscsi --volume-id {volume} --boot-index 0 --uuid {target} --property target_lun=1 --extra a=b",
        uuid=target,
        node_uuid=it,
        volume_type="iscsi",
        volume_id=volume,
        boot_index=0,
        properties={"target_lun": 1},
        extra={"a": "b"},
    )
    refuses(f"volume target create --node {it} --type iscsi --volume-id {volume} --boot-index 0", says="409")
    lists("volume target list", {"uuid": target, "node_uuid": it, "boot_index": 0, "volume_id": volume})
    lists(f"volume target list --node {it} --long", {"uuid": target, "properties": {"target_lun": 1}}, only=True)
    does(f"volume target set {target} --boot-index 1 --property x=y --extra c=d --type fibre_channel")
    shows(
        f"volume target show {target}",
        *(),
        boot_index=1,
        properties=only(target_lun=1, x="y"),
        extra=only(a="b", c="d"),
        volume_type="fibre_channel",
    )
    does(f"volume target unset {target} --extra a --property x")
    shows(f"volume target show {target}", extra=only(c="d"), properties=only(target_lun=1))
    does(f"volume target delete {target}", says=target)
    refuses(f"volume target show {target}", says="404")
    away(it)


def allocations():
    kind = f"al-{TAG}"
    it = node(f"a-{TAG}", "--resource-class", kind, state="available")
    does(f"node trait add {it} CUSTOM_FAST")
    does(f"node power off {it}")
    SERVER.until(it, power_state="power off")
    first, second = new(), new()
    shows(
        f"allocation create --resource-class {kind} --trait CUSTOM_FAST --candidate-node {it} --name a-{TAG} --uuid {first} --extra a=b --wait 30",
        uuid=first,
        name=f"a-{TAG}",
        state="active",
        node_uuid=it,
        resource_class=kind,
        traits=["CUSTOM_FAST"],
        candidate_nodes=[it],
        extra={"a": "b"},
        owner=None,
    )
    shows(f"node show {it}", allocation_uuid=first, instance_uuid=first)
    does(f"allocation create --resource-class {kind} --name b-{TAG} --uuid {second}")
    with REPORT.part("allocation create"):
        wait_allocation(second, "error")
    shows(f"allocation show b-{TAG}", state="error", last_error=lambda v: "no available nodes" in v.lower() or "failed" in v.lower(), node_uuid=None)
    refuses(f"allocation create --name a-{TAG} --resource-class {kind}", says="409")
    refuses(f"allocation create --resource-class {kind} --candidate-node nope", says="400")
    lists("allocation list", {"uuid": first, "name": f"a-{TAG}", "state": "active", "node_uuid": it})
    lists(f"allocation list --resource-class {kind} --state active", {"uuid": first}, only=True)
    lists(f"allocation list --resource-class {kind} --long", {"uuid": first}, {"uuid": second}, only=True)
    lists(f"allocation list --node {it} --fields uuid traits", {"uuid": first, "traits": ["CUSTOM_FAST"]}, only=True)
    does(f"allocation set a-{TAG} --name c-{TAG} --extra c=d")
    shows(f"allocation show c-{TAG}", uuid=first, extra=only(a="b", c="d"))
    does(f"allocation unset {first} --name --extra a")
    shows(f"allocation show {first} --fields name extra", name=None, extra=only(c="d"))
    does(f"allocation delete {first} {second}", says=first)
    refuses(f"allocation show {first}", says="404")
    shows(f"node show {it}", allocation_uuid=None, instance_uuid=None)

    does(f"node deploy {it}")
    SERVER.reach(it, "active")
    shows(f"allocation create --node {it} --name d-{TAG}", state="active", node_uuid=it, resource_class=kind)
    refuses(f"allocation delete d-{TAG}", says="409")
    away(it)


def wait_allocation(it, state):
    for _ in range(100):
        if SERVER.call("GET", f"/v1/allocations/{it}")["state"] == state:
            return
        time.sleep(0.1)
    raise Failure(f"allocation {it} does not become {state}")


STEP = {"interface": "bios", "step": "apply_configuration", "args": {"settings": [{"name": "a", "value": "b"}]}, "priority": 150}


def deploy_templates():
    name, it = f"CUSTOM_T_{TAG.upper()}", new()
    shows(f"deploy template create {name} --uuid {it} --extra a=b --steps", json.dumps([STEP]), uuid=it, name=name, steps=[STEP], extra={"a": "b"})
    refuses(f"deploy template create {name} --steps", json.dumps([STEP]), says="409")
    refuses("deploy template create CUSTOM_X --steps", json.dumps([{"interface": "bios"}]), says="400")
    lists("deploy template list", {"uuid": it, "name": name})
    lists("deploy template list --long", {"uuid": it, "steps": [STEP], "extra": {"a": "b"}})
    lists("deploy template list --fields name extra", {"name": name, "extra": {"a": "b"}})
    does(f"deploy template set {name} --name {name}_2 --extra c=d --steps", json.dumps([{**STEP, "priority": 50}]))
    shows(f"deploy template show {name}_2", uuid=it, steps=[{**STEP, "priority": 50}], extra=only(a="b", c="d"))
    does(f"deploy template unset {it} --extra a")
    shows(f"deploy template show {it} --fields extra", extra=only(c="d"))
    does(f"deploy template delete {name}_2", says=f"{name}_2")
    refuses(f"deploy template show {it}", says="404")


def runbooks():
    name, it = f"CUSTOM_R_{TAG.upper()}", new()
    step = {"interface": "bios", "step": "apply_configuration", "args": {"settings": []}, "order": 1}
    shows(
        f"runbook create --name {name} --uuid {it} --description words --extra a=b --steps",
        json.dumps([step]),
        uuid=it,
        name=name,
        steps=[step],
        extra={"a": "b"},
        owner=None,
        public=False,
        disable_ramdisk=False,
        description="words",
    )
    refuses(f"runbook create --name {name} --steps", json.dumps([step]), says="409")
    refuses(f"runbook create --name {name}_X --steps", "[]", says="400")
    lists("runbook list", {"uuid": it, "name": name})
    lists("runbook list --long", {"uuid": it, "owner": None, "steps": [step]})
    lists("runbook list --fields name public", {"name": name, "public": False})
    does(f"runbook set {name} --name {name}_2 --extra c=d --disable-ramdisk true --description other --steps", json.dumps([{**step, "order": 2}]))
    shows(f"runbook show {name}_2", uuid=it, steps=[{**step, "order": 2}], disable_ramdisk=True, description="other", extra=only(a="b", c="d"))
    does(f"runbook set {it} --owner o")
    shows(f"runbook show {it}", owner="o")
    # The client sends the word as text, which is no truth value.
    refuses(f"runbook set {it} --public true", says="public|'True' is not of type 'boolean'.*400")
    does(f"runbook unset {it} --extra a --description --disable-ramdisk --public --owner")
    shows(f"runbook show {it}", extra=only(c="d"), description=lambda v: not v, disable_ramdisk=False, public=False, owner=None)

    does(f"runbook trait add {it} CUSTOM_A CUSTOM_B")
    lists(f"runbook trait list {it}", {"traits": "CUSTOM_A"}, {"traits": "CUSTOM_B"}, only=True)
    does(f"runbook trait remove {it} CUSTOM_A")
    lists(f"runbook trait list {it}", {"traits": "CUSTOM_B"}, only=True)
    does(f"runbook trait remove {it} --all")
    lists(f"runbook trait list {it}", only=True)

    does(f"runbook trait add {it} CUSTOM_RUN")
    here = node(f"r-{TAG}", state="manageable")
    refuses(f"node clean {here} --runbook {it}", says="400")
    does(f"node trait add {here} CUSTOM_RUN")
    does(f"runbook set {it} --steps", json.dumps([{**step, "args": {"settings": [{"name": "by", "value": "runbook"}]}}]))
    does(f"node clean {here} --runbook {it}")
    SERVER.reach(here, "manageable")
    lists(f"node bios setting list {here}", {"name": "by", "value": "runbook"}, only=True)
    away(here)
    does(f"runbook delete {name}_2", says=f"{name}_2")
    refuses(f"runbook show {it}", says="404")


def inspection_rules():
    it = new()
    actions = [{"op": "set-attribute", "args": {"path": "extra/seen", "value": "yes"}}]
    conditions = [{"op": "eq", "args": {"values": [1, 1]}}]
    shows(
        f"inspection rule create --uuid {it} --description words --phase main --conditions",
        *[json.dumps(conditions), "--actions", json.dumps(actions)],
        uuid=it,
        description="words",
        priority=0,
        phase="main",
        sensitive=False,
        actions=lambda v: len(v) == 1 and v[0]["op"] == "set-attribute",
        conditions=lambda v: len(v) == 1 and v[0]["op"] == "eq",
    )
    # The client sends the number as text, which is no priority.
    refuses("inspection rule create --priority 5 --conditions [] --actions", json.dumps(actions), says="('5'|priority).*400")
    refuses("inspection rule create --conditions [] --actions", json.dumps([{"op": "nope", "args": {}}]), says="nope.*400")
    lists("inspection rule list", {"uuid": it, "description": "words"})
    lists("inspection rule list --long", {"uuid": it, "priority": 0, "phase": "main", "description": "words"})
    lists("inspection rule list --fields uuid sensitive", {"uuid": it, "sensitive": False})
    does(f"inspection rule set {it} --description other --priority 7")
    shows(f"inspection rule show {it}", description="other", priority=7)
    does(f"inspection rule unset {it} --description --priority")
    shows(f"inspection rule show {it} --fields description priority", description=None, priority=0)
    does(f"inspection rule delete {it}", says=it)
    refuses(f"inspection rule show {it}", says="404")


def from_a_file():
    name, mac = f"f-{TAG}", next(MACS)
    group = {"name": f"fg-{TAG}", "ports": [{"address": next(MACS)}]}
    inside = {"driver": "fake-hardware", "name": name, "ports": [{"address": mac}], "portgroups": [group]}
    does("create", write("all.json", {"chassis": [{"description": f"file {TAG}", "nodes": [inside]}]}))
    found = shows(f"node show {name}", chassis_uuid=str) or {"uuid": "none", "chassis_uuid": "none"}
    shows(f"chassis show {found['chassis_uuid']}", description=f"file {TAG}")
    lists(f"port list --node {name}", {"address": mac}, {"address": group["ports"][0]["address"]}, only=True)
    lists(f"port group list --node {name}", {"name": f"fg-{TAG}"}, only=True)
    refuses("create", write("bad.json", {"nodes": [{"driver": "nope"}]}), says="nope")
    away(found["uuid"])
    does(f"chassis delete {found['chassis_uuid']}")
