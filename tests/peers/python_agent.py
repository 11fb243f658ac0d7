"""ironic-python-agent with made-up hardware: its own lookup, heartbeat, API and command dispatch, but nothing of this computer is touched.

Arguments: API address, port to listen on, a MAC, folder for certificate and record. Every command that arrives and every call of the
hardware is a line of JSON in <folder>/record.
"""

import json
import os
import sys
import threading
import time

from oslo_config import cfg
from oslo_log import log

from ironic_python_agent import agent
from ironic_python_agent import config  # noqa: F401  registers the options
from ironic_python_agent import hardware
from ironic_python_agent import tls_utils
from ironic_python_agent import utils
from ironic_python_agent.extensions import image
from ironic_python_agent.extensions import standby

CONF = cfg.CONF
API, PORT, MAC, FOLDER = sys.argv[1:5]
LOCK = threading.Lock()


def record(kind, name, **more):
    with LOCK, open(os.path.join(FOLDER, "record"), "a") as f:
        f.write(json.dumps(dict(more, kind=kind, name=name), default=str) + "\n")


def execute(*command, **_):
    """No program is run on this computer."""
    record("program", " ".join(map(str, command)))
    return "", ""


class MadeUpHardware(hardware.HardwareManager):
    HARDWARE_MANAGER_NAME = "MadeUpHardware"
    HARDWARE_MANAGER_VERSION = "7"

    def evaluate_hardware_support(self):
        return hardware.HardwareSupport.SERVICE_PROVIDER

    def list_network_interfaces(self):
        return [hardware.NetworkInterface("eth0", MAC, ipv4_address="127.0.0.1")]

    def list_hardware_info(self):
        return {"interfaces": self.list_network_interfaces()}

    def get_os_install_device(self, permit_refresh=False):
        return "/dev/made-up"

    def generate_tls_certificate(self, ip_address):
        cert, key = os.path.join(FOLDER, "agent.crt"), os.path.join(FOLDER, "agent.key")
        text = tls_utils._generate_tls_certificate(cert, key, "made-up", ip_address)
        return tls_utils.TlsCertificate(text, cert, key)

    def get_clean_steps(self, node, ports):
        step = {"interface": "deploy", "reboot_requested": False, "abortable": True}
        return [dict(step, step="erase_devices_metadata", priority=99), dict(step, step="erase_devices", priority=10)]

    def erase_devices_metadata(self, node, ports):
        record("hardware", "erase_devices_metadata", node=node, ports=ports)

    def erase_devices(self, node, ports):
        record("hardware", "erase_devices", node=node, ports=ports)

    def get_deploy_steps(self, node, ports):
        args = {"image_info": {"description": "image", "required": True}, "configdrive": {"description": "drive", "required": False}}
        return [{"interface": "deploy", "step": "write_image", "priority": 0, "reboot_requested": False, "argsinfo": args}]

    def write_image(self, node, ports, image_info, configdrive=None):
        standby._validate_image_info(None, image_info)
        record("hardware", "write_image", image_info=image_info, configdrive=configdrive, node=node)
        time.sleep(4)
        return "written"

    def full_sync(self):
        record("hardware", "full_sync")


class Agent(agent.IronicPythonAgent):
    def execute_command(self, command_name, **kwargs):
        record("command", command_name, params=sorted(kwargs))
        return super().execute_command(command_name, **kwargs)


def main():
    log.register_options(CONF)
    CONF([], project="ironic-python-agent")
    log.setup(CONF, "ironic-python-agent")
    utils.execute = execute
    image._efi_boot_setup = lambda *a, **k: record("hardware", "boot entry", given=a) or True
    standby.StandbyExtension._run_shutdown_command = lambda self, command: record("hardware", command)
    hardware._global_managers = [
        {"name": "MadeUpHardware", "manager": MadeUpHardware(), "support": hardware.HardwareSupport.SERVICE_PROVIDER}]
    here = agent.Host(hostname="127.0.0.1", port=int(PORT))
    agent.IronicPythonAgentHeartbeater.min_heartbeat_interval = 1
    Agent(api_url=API, advertise_address=here, listen_address=here, ip_lookup_attempts=3, ip_lookup_sleep=1, network_interface=None,
          lookup_timeout=60, lookup_interval=1, standalone=False, agent_token=None).run()


main()
