"""Nova's driver with what it needs around it: its own objects, a made-up database, and a recorder between it and the server."""


import contextlib
import http.client
import json
import os
import sys
import tempfile
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from unittest import mock
from urllib.parse import urlsplit

from report import Failure, Report, Server, compare

URL = sys.argv[1].rstrip("/")
REFERENCE = "--reference" in sys.argv
SERVER = Server(URL)
TAG = uuid.uuid4().hex[:6]
FOLDER = tempfile.TemporaryDirectory()


class Recorder(BaseHTTPRequestHandler):
    """Stands between Nova and the server, changes nothing and writes down what Nova asked."""

    protocol_version = "HTTP/1.1"
    seen = []

    def relay(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        there = http.client.HTTPConnection(urlsplit(URL).netloc, timeout=120)
        # The Host header stays the one that Nova sent: links are built from it.
        there.request(self.command, self.path, body or None, dict(self.headers))
        answer = there.getresponse()
        content = answer.read()
        version = self.headers.get("X-OpenStack-Ironic-API-Version")
        Recorder.seen.append((self.command, self.path, version, json.loads(body) if body else None, answer.status))
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in {"content-length", "transfer-encoding", "connection", "date", "server"}:
                self.send_header(name, value)
        if answer.status != 204:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        there.close()

    do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = relay

    def log_message(self, *_):
        pass


def asked(method, path):
    """What Nova sent to this path since the last look, oldest first: (body, status)."""
    return [(body, status) for m, p, _, body, status in Recorder.seen if m == method and urlsplit(p).path == path]


PROXY = ThreadingHTTPServer(("127.0.0.1", 0), Recorder)
PROXY.daemon_threads = True
threading.Thread(target=PROXY.serve_forever, daemon=True).start()

import nova.conf  # noqa: E402
from nova import config, context, objects  # noqa: E402
from nova.compute import power_state, task_states, vm_states  # noqa: E402
from nova.network import model  # noqa: E402
from nova.virt.ironic import driver as ironic_driver  # noqa: E402

CONF = nova.conf.CONF


def configure():
    path = os.path.join(FOLDER.name, "nova.conf")
    with open(path, "w") as f:
        f.write(
            f"[DEFAULT]\nhost = compute-{TAG}\nstate_path = {FOLDER.name}\nmkisofs_cmd = genisoimage\nlog_file = nova.log\n"
            f"log_dir = {FOLDER.name}\n"
            f"[ironic]\nauth_type = none\nendpoint_override = http://127.0.0.1:{PROXY.server_address[1]}\napi_retry_interval = 1\n"
            "serial_console_state_timeout = 10\nvnc_console_state_timeout = 10\n"
        )
    with mock.patch("nova.db.main.api.configure"), mock.patch("nova.db.api.api.configure"):
        config.parse_args(["nova-compute", "--config-file", path], configure_db=False, init_rpc=False)
    objects.register_all()


configure()
CONTEXT = context.RequestContext("user", "project", is_admin=True)
DRIVER = ironic_driver.IronicDriver(None)
REPORT = Report(n for n, v in vars(ironic_driver.IronicDriver).items() if callable(v) and not n.startswith("_"))
REPORT.calls["ironic_connection"] = 0
REPORT.failures["ironic_connection"] = []

# Nova's database: instances that are known to it, by UUID.
INSTANCES = {}
SAVED = []


def database():
    """What Nova would read from and write to its database, and ask Neutron for."""
    stack = contextlib.ExitStack()

    def save(self, *_, **__):
        SAVED.append((self.uuid, self.obj_what_changed()))
        self.obj_reset_changes()

    replace = [
        (objects.Instance, "save", save),
        (objects.Instance, "refresh", lambda self, *_, **__: None),
        (objects.Instance, "get_bdms", lambda self: objects.BlockDeviceMappingList(objects=[])),
        (objects.Instance, "get_by_uuid", staticmethod(lambda _, it, **__: INSTANCES[it])),
        (objects.InstanceList, "get_uuids_by_host", staticmethod(lambda *_: list(INSTANCES))),
        (objects.ServiceList, "get_all_computes_by_hv_type", staticmethod(lambda *_, **__: objects.ServiceList(objects=[]))),
    ]
    for owner, name, new in replace:
        stack.enter_context(mock.patch.object(owner, name, new))
    stack.enter_context(mock.patch("nova.network.security_group_api.get_instance_security_groups", lambda *_, **__: []))
    return stack


def call(method, /, *args, wanted=None, **more):
    """The driver's method; what it returns is as `wanted` says. `None` when it fails."""
    REPORT.called(method)
    with REPORT.part(method):
        found = getattr(DRIVER, method)(*args, **more)
        if wanted is not None:
            compare(found, wanted, f"{method}: answer")
        return found
    return None


def raises(method, error, /, *args, **more):
    REPORT.called(method)
    with REPORT.part(method):
        try:
            found = getattr(DRIVER, method)(*args, **more)
        except error:
            return
        raise Failure(f"{method} answers {found!r} and does not raise {error}")


def expect(method, found, wanted, where):
    with REPORT.part(method):
        compare(found, wanted, where)


def new():
    return str(uuid.uuid4())


IMAGE = new()
FLAVOR_SPECS = {"capabilities:boot_mode": "uefi", "trait:CUSTOM_FAST": "required", "resources:CUSTOM_X": "1"}


def instance(node, name, image=IMAGE, drive=False, **flavor):
    it = new()
    made = objects.Instance(
        context=CONTEXT,
        id=1,
        uuid=it,
        user_id="user",
        project_id="project",
        host=CONF.host,
        node=node,
        display_name=name,
        hostname=name,
        image_ref=image,
        config_drive="True" if drive else "",
        vm_state=vm_states.BUILDING,
        task_state=task_states.SPAWNING,
        power_state=power_state.NOSTATE,
        launched_at=None,
        key_name=None,
        key_data=None,
        user_data=None,
        availability_zone="nova",
        launch_index=0,
        reservation_id="r-1",
        root_device_name="/dev/sda",
        default_ephemeral_device=None,
        default_swap_device=None,
        ephemeral_key_uuid=None,
        kernel_id="",
        ramdisk_id="",
        metadata={},
        system_metadata={"owner_user_name": "u", "owner_project_name": "p", "image_base_image_ref": image},
        info_cache=objects.InstanceInfoCache(instance_uuid=it, network_info=network(it)),
        keypairs=objects.KeyPairList(objects=[]),
        device_metadata=None,
        numa_topology=None,
        trusted_certs=None,
        tags=objects.TagList(objects=[]),
        ec2_ids=objects.EC2Ids(instance_id="i-1", ami_id="ami-1", kernel_id="", ramdisk_id=""),
        services=objects.ServiceList(objects=[]),
        flavor=objects.Flavor(
            id=1,
            name="metal",
            flavorid="f",
            memory_mb=1024,
            vcpus=4,
            root_gb=10,
            ephemeral_gb=flavor.get("ephemeral_gb", 0),
            swap=0,
            rxtx_factor=1.0,
            extra_specs=dict(FLAVOR_SPECS),
        ),
    )
    made.obj_reset_changes()
    INSTANCES[it] = made
    return made


VIFS = {}


def network(it):
    subnet = model.Subnet(
        cidr="192.0.2.0/24",
        dns=[],
        gateway=model.IP("192.0.2.1", type="gateway"),
        ips=[model.FixedIP(address="192.0.2.9", version=4, type="fixed")],
        routes=[],
        version=4,
    )
    net = model.Network(id=new(), bridge="br", label="net", subnets=[subnet], mtu=1500)
    vif = model.VIF(id=new(), address="52:54:00:aa:bb:01", network=net, type="ovs", devname="tap0", vnic_type="baremetal")
    VIFS[it] = model.NetworkInfo([vif])
    return VIFS[it]


def node(name, **more):
    """A node that Nova can choose."""
    it = new()
    given = {"resource_class": f"rc-{TAG}.x", "properties": {"cpu_arch": "x86_64", "cpus": "4", "memory_mb": "1024", "local_gb": "10"}}
    given["properties"]["capabilities"] = "boot_mode:uefi,a:b"
    SERVER.call("POST", "/v1/nodes", {"driver": "fake-hardware", "uuid": it, "name": f"{name}-{TAG}", **given, **more})
    SERVER.call("PUT", f"/v1/nodes/{it}/traits", {"traits": ["CUSTOM_FAST"]})
    SERVER.call("POST", "/v1/ports", {"node_uuid": it, "address": mac()})
    for verb, state in [("manage", "manageable"), ("provide", "available")]:
        SERVER.call("PUT", f"/v1/nodes/{it}/states/provision", {"target": verb})
        SERVER.reach(it, state)
    return it


def off(it):
    SERVER.call("PUT", f"/v1/nodes/{it}/states/power", {"target": "power off"})
    SERVER.until(it, power_state="power off", target_power_state=None)


MACS = (f"52:56:{int(TAG[:2], 16):02x}:{int(TAG[2:4], 16):02x}:{int(TAG[4:], 16):02x}:{n:02x}" for n in range(255))


def mac():
    return next(MACS)


def show(it):
    return SERVER.call("GET", f"/v1/nodes/{it}")


def away(*nodes):
    for it in nodes:
        SERVER.call("PUT", f"/v1/nodes/{it}/maintenance", {})
        SERVER.call("DELETE", f"/v1/nodes/{it}")


def image(properties=None):
    return objects.ImageMeta.from_dict({"id": IMAGE, "name": "image", "properties": properties or {}})
