"""What was called and what came of it: one line per name, a count, and an exit code.

The names come from the client itself, so one that a newer client has and no story calls is a failure.
"""

import contextlib
import json
import time
import traceback
import urllib.error
import urllib.request


class Failure(Exception):
    """An expectation that was not met."""


class Report:
    def __init__(self, names, without=()):
        """`without`: names that have no part in talking to a server, with the reason; nothing calls them."""
        names = list(names)
        self.calls = {name: 0 for name in names}
        self.failures = {name: [] for name in names}
        self.without = dict(without)
        self.elsewhere = []

    def called(self, name):
        if name in self.calls:
            self.calls[name] += 1
        else:
            self.elsewhere.append(f"{name}: called, but the client has no such thing")

    def fail(self, name, text):
        text = " ".join(str(text).split())
        if name in self.failures:
            self.failures[name].append(text)
        else:
            self.elsewhere.append(f"{name}: {text}")

    @contextlib.contextmanager
    def part(self, name):
        """Failures within it are `name`'s and end only this part."""
        try:
            yield
        except Failure as e:
            self.fail(name, e)
        except Exception as e:  # noqa: BLE001  whatever a client throws is a finding
            where = traceback.extract_tb(e.__traceback__)
            line = next((f.lineno for f in where if "tests/clients" in f.filename and "report.py" not in f.filename), "?")
            self.fail(name, f"{type(e).__name__}: {e} (line {line})")

    def end(self):
        """Prints everything; the exit code."""
        bad = 0
        for name in sorted(self.calls):
            if name in self.without:
                if self.calls[name]:
                    self.fail(name, "called, although named as having no part in this")
                else:
                    print(f"-    {name}: {self.without[name]}")
                    continue
            elif not self.calls[name]:
                self.fail(name, "never called")
            if self.failures[name]:
                bad += 1
                for text in self.failures[name]:
                    print(f"FAIL {name}: {text}")
            else:
                print(f"ok   {name} ({self.calls[name]})")
        for text in self.elsewhere + [f"{n}: named, but the client has no such thing" for n in self.without if n not in self.calls]:
            bad += 1
            print(f"FAIL {text}")
        tried = sum(1 for name in self.calls if name not in self.without)
        print(f"{tried} tried, {tried - min(bad, tried)} as expected, {bad} not; {sum(self.calls.values())} calls")
        return 1 if bad else 0


def compare(found, wanted, where="answer"):
    """Raises `Failure` unless `found` has what `wanted` says: a type, a predicate or a value; of a dict its named keys."""
    if isinstance(wanted, type):
        if not isinstance(found, wanted):
            raise Failure(f"{where} is {found!r}, not a {wanted.__name__}")
    elif callable(wanted):
        if not wanted(found):
            raise Failure(f"{where} is {found!r}")
    elif isinstance(wanted, dict) and isinstance(found, dict) and wanted:
        for key, value in wanted.items():
            if key not in found:
                raise Failure(f"{where} has no {key}: it has {sorted(found)}")
            compare(found[key], value, f"{where}.{key}")
    elif found != wanted:
        raise Failure(f"{where} is {found!r}, not {wanted!r}")


class Server:
    """Questions to the server beside the client that is tested: waiting, and the part that a machine's ramdisk plays."""

    def __init__(self, url, version="1.115"):
        self.url = url.rstrip("/")
        self.version = version

    def call(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, method=method)
        request.add_header("X-OpenStack-Ironic-API-Version", self.version)
        request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                text = answer.read()
        except urllib.error.HTTPError as e:
            raise Failure(f"{method} {path}: {e.code} {e.read().decode(errors='replace')[:300]}") from e
        return json.loads(text) if text.strip() else None

    def reach(self, node, *states, limit=60):
        """Waits until the node is in one of these provision states and nobody works on it."""
        end = time.monotonic() + limit
        fields = "provision_state,target_provision_state,last_error,reservation,power_state,target_power_state"
        while True:
            found = self.call("GET", f"/v1/nodes/{node}?fields={fields}")
            if found["provision_state"] in states and not found["reservation"]:
                return found
            if time.monotonic() > end or (found["provision_state"].endswith("failed") and not found["reservation"]):
                raise Failure(f"{node} is {found['provision_state']} and not {' or '.join(states)}: {found['last_error']}")
            time.sleep(0.1)

    def until(self, node, limit=30, **fields):
        """Waits until the node's fields have these values, or what these predicates ask."""
        end = time.monotonic() + limit
        while True:
            found = self.call("GET", f"/v1/nodes/{node}?fields={','.join([*fields, 'reservation'])}")
            if not found["reservation"] and all(v(found[k]) if callable(v) else found[k] == v for k, v in fields.items()):
                return found
            if time.monotonic() > end:
                raise Failure(f"{node} has {found}, not {fields}")
            time.sleep(0.1)
