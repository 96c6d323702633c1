# SPDX-License-Identifier: MIT
"""Load on the servers of a machine, from within its network and nothing else of it: no upgrade freezes the clients.

    with LoadInside(machine, http=[dict(name="web", port=8080, keep_alive=False)]) as load:
        ...
    load.stats["failed"]

With None for the machine the servers are the host's own.

As a program it is that client: see main().
"""
import json
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent))


class LoadInside:
    def __init__(self, machine, http=(), streams=()):
        self.spec = {"http": list(http), "streams": list(streams)}
        enter = ["nsenter", "-t", str(machine.pid), "-n"] if machine else []
        self.command = enter + [sys.executable, str(HERE / "load_inside.py")]
        self.stats = None

    def __enter__(self):
        self.process = subprocess.Popen(self.command + [json.dumps(self.spec)], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        if line != "flowing\n":
            raise AssertionError(f"the load does not flow: {line} {self.process.stderr.read()}")
        return self

    def __exit__(self, *_):
        output, error = self.process.communicate(timeout=60)
        if self.process.returncode == 0:
            self.stats = json.loads(output)
        elif _[0] is None:
            raise AssertionError(f"the load client failed: {error}")

    def group(self, name):
        return next(g for g in self.stats["http"] + self.stats["streams"] if g["name"] == name)


def main():
    from qemu.load import Http, Load, Streams
    # Many threads share one interpreter: by default each may keep the others waiting for 5 ms.
    sys.setswitchinterval(0.0002)
    spec = json.loads(sys.argv[1])
    load = Load([Http(host="127.0.0.1", **group) for group in spec["http"]],
                [Streams(host="127.0.0.1", **group) for group in spec["streams"]])
    load.start()
    load.wait_flowing(20)
    print("flowing", flush=True)
    sys.stdin.read()
    json.dump(load.stop().as_dict(), sys.stdout)


if __name__ == "__main__":
    main()
