"""The command line as a program that starts at once: each run is forked from a process that has loaded torch.

`python tests/forked.py serve SOCKET` waits; `python tests/forked.py run SOCKET ARGUMENT ...` is the program. It gives
its folder, environment, input and outputs to the run, and ends in its exit code.
"""

import json
import os
import signal
import socket
import sys
from collections.abc import Callable


def run(address: str, arguments: list[str]) -> int:
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(address)
        socket.send_fds(server, [b"!"], [0, 1, 2])
        with server.makefile("rw") as file:
            print(json.dumps([os.getcwd(), dict(os.environ), arguments]), file=file, flush=True)
            return int(file.readline())


def serve(address: str) -> None:
    from timecli import cli

    os.environ.update(cli.QUIET)
    from timecli.editing import applying, compiling  # noqa: F401
    from timecli.shipping import publish  # noqa: F401
    from timecli.text import encoding  # noqa: F401

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    with socket.socket(socket.AF_UNIX) as here:
        here.bind(address)
        here.listen()
        print(flush=True)
        while True:
            with here.accept()[0] as client:
                if not os.fork():
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    _answer(client, cli.main)


def _answer(client: socket.socket, main: Callable[[list[str]], None]) -> None:
    """Become the program of a client."""
    code = 1
    try:
        for place, descriptor in enumerate(socket.recv_fds(client, 1, 3)[1]):
            os.dup2(descriptor, place)
            os.close(descriptor)
        file = client.makefile("rw")
        folder, environment, arguments = json.loads(file.readline())
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))
        try:
            main(arguments)
        except SystemExit as stop:
            code = int(stop.code or 0)
        sys.stdout.flush()
        sys.stderr.flush()
        print(code, file=file, flush=True)
    finally:
        os._exit(code)


if __name__ == "__main__":
    _, way, place, *rest = sys.argv
    if way == "serve":
        serve(place)
    sys.exit(run(place, rest))
