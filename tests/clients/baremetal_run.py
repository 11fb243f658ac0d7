"""One command of the client after the other, in this process, and what it is to print; nodes for the stories."""


import contextlib
import importlib.metadata
import io
import json
import logging
import os
import re
import subprocess
import sys
import tempfile
import uuid

from ironicclient import shell

from report import Failure, Report, Server, compare

URL = sys.argv[1]
# Against Ironic 39 itself: its known faults are expected, which nobody else is to copy.
REFERENCE = "--reference" in sys.argv
SERVER = Server(URL)
DIRECTORY = tempfile.TemporaryDirectory()
TAG = uuid.uuid4().hex[:6]
MACS = (f"52:54:{int(TAG[:2], 16):02x}:{int(TAG[2:4], 16):02x}:{int(TAG[4:], 16):02x}:{n:02x}" for n in range(255))

def program(*words):
    """The program itself, as a process."""
    path = os.path.join(os.path.dirname(sys.executable), "baremetal")
    done = subprocess.run([path, "--os-endpoint", URL, *words], capture_output=True, text=True, timeout=120)
    if done.returncode:
        raise Failure(f"exit code {done.returncode}: {done.stderr}")
    return done.stdout


def commands():
    listed = program("help").split("\nCommands:\n")[1].splitlines()
    names = {" ".join(line[2:].split("  ")[0].split()) for line in listed if line.startswith("  ")}
    entry_points = importlib.metadata.entry_points(group="openstack.baremetal.v1")
    known = {re.sub("^baremetal ", "", e.name.replace("_", " ")) for e in entry_points}
    # Help prints one line per command; a command that it left out would be missed without the second list.
    return names | known


REPORT = Report(commands())


def run(words):
    """One command: exit code, what it printed, what it complained."""
    name = next((" ".join(words[:n]) for n in range(5, 0, -1) if " ".join(words[:n]) in REPORT.calls), words[0])
    REPORT.called(name)
    argv = ["--os-endpoint", URL, "--retry-interval", "1", *words]
    out, err = io.StringIO(), io.StringIO()
    sys.argv = ["baremetal", *argv]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = shell.main(argv)
        except SystemExit as e:
            code = e.code
    # Each run adds a handler that writes to the stream of that run.
    root = logging.getLogger()
    for handler in list(root.handlers):
        root.removeHandler(handler)
    return name, code or 0, out.getvalue(), err.getvalue()


def split(line, more):
    return [*line.split(), *map(str, more)]


def does(line, *more, says=None):
    """The command succeeds (and prints something that has `says`)."""
    name, code, out, err = run(split(line, more))
    with REPORT.part(name):
        if code:
            raise Failure(f"`{line}`: exit code {code}: {err.strip()[-300:]}")
        if says is not None and not re.search(says, out):
            raise Failure(f"`{line}` says {out!r}, not {says!r}")
    return out


def shows(line, *more, **wanted):
    """The command prints one object with these fields."""
    return answers(line, *more, wanted=wanted)


def answers(line, *more, wanted):
    """The command prints JSON that is as `wanted` says; `None` when it does not."""
    name, code, out, err = run(split(line, more) + ["-f", "json"])
    with REPORT.part(name):
        if code:
            raise Failure(f"`{line}`: exit code {code}: {err.strip()[-300:]}")
        found = json.loads(out)
        compare(found, wanted, f"`{line}`")
        return found
    return None


def lists(line, *rows, only=False, without=()):
    """The command prints rows of which each of `rows` matches one; with `only`, no others; none has a value of `without`."""

    def matches(found):
        missing = [row for row in rows if not any(row.items() <= f.items() for f in found)]
        if missing:
            raise Failure(f"`{line}`: no row {missing} in {found}")
        if only and len(found) != len(rows):
            raise Failure(f"`{line}`: {len(found)} rows, not {len(rows)}: {found}")
        if any(value in without for f in found for value in f.values() if isinstance(value, str)):
            raise Failure(f"`{line}`: one of {without} in {found}")
        return True

    return answers(line, wanted=matches)


def refuses(line, *more, says):
    """The command fails and tells why."""
    name, code, out, err = run(split(line, more))
    with REPORT.part(name):
        if not code:
            raise Failure(f"`{line}` is not refused: {out}")
        if not re.search(says, err + out, re.I):
            raise Failure(f"`{line}` is refused with {err.strip()!r}, not {says!r}")


def new():
    return str(uuid.uuid4())


VERBS = [("manage", "manageable"), ("provide", "available"), ("deploy", "active")]
REACHED = ["enroll"] + [state for _, state in VERBS]


def node(name, *options, state="enroll"):
    """A node, taken to a state; its UUID."""
    it = new()
    does(f"node create --driver fake-hardware --name {name} --uuid {it}", *options)
    for verb, reached in VERBS[: REACHED.index(state)]:
        does(f"node {verb} {name}")
        SERVER.reach(it, reached)
    return it


def away(*nodes):
    """Deletes nodes whatever state they are in."""
    for it in nodes:
        does(f"node maintenance set {it}")
        does(f"node delete {it}", says=f"Deleted node {it}")


def only(**wanted):
    """Exactly this dict."""
    return lambda found: found == wanted


def write(name, content):
    path = os.path.join(DIRECTORY.name, name)
    with open(path, "w") as f:
        json.dump(content, f)
    return path
