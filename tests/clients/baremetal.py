"""Every command of python-ironicclient's `baremetal`, unmodified, against a server with noauth and fake-hardware.

usage: baremetal.py URL [--reference]       (in an environment that has python-ironicclient)

The list of commands is what the installed `baremetal help` prints. Commands run in this process through the client's own
entry point, which spares a second per call; expectations are what Ironic 39 answers with the same drivers.
The server: no automated cleaning, network interface noop, console and all other interfaces fake, agent inspection allowed.
"""

import sys

import baremetal_nodes as n
import baremetal_records as r
from baremetal_run import DIRECTORY, REPORT

STORIES = [n.client_itself, n.drivers_and_conductors, n.nodes, n.management, n.provisioning, r.ports, r.chassis, r.volumes]
STORIES += [r.allocations, r.deploy_templates, r.runbooks, r.inspection_rules, r.from_a_file]

for story in STORIES:
    with REPORT.part(f"story {story.__name__}"):
        story()
DIRECTORY.cleanup()
sys.exit(REPORT.end())
