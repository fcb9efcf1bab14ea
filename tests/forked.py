"""The command line as a program that starts at once: each run is forked from a process that has loaded the libraries.

`python tests/forked.py serve SOCKET` waits; `python tests/forked.py run SOCKET ARGUMENT ...` is the program. It gives
its folder, environment, input, outputs and signals to the run, and ends in its exit code. `-c CODE` as the first
arguments runs code instead of the command line.
"""

import gc
import json
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress


def run(address: str, arguments: list[str]) -> int:
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(address)
        socket.send_fds(server, [b"!"], [0, 1, 2])
        with server.makefile("rw") as file:
            print(json.dumps([os.getcwd(), dict(os.environ), arguments]), file=file, flush=True)
            number = int(file.readline())
            for sort in (signal.SIGINT, signal.SIGTERM):
                signal.signal(sort, lambda sort, _: os.kill(number, sort))
            return int(file.readline())


def serve(address: str) -> None:
    from timecli import cli

    os.environ.update(cli.QUIET)
    from diffusers import StableDiffusionPipeline  # noqa: F401

    from timecli.drawing import verification  # noqa: F401
    from timecli.editing import applying, compiling  # noqa: F401
    from timecli.measuring import bench  # noqa: F401
    from timecli.shipping import publish  # noqa: F401
    from timecli.text import encoding  # noqa: F401

    gc.freeze()  # a run that collects garbage would copy all the pages that it looks at
    with socket.socket(socket.AF_UNIX) as here:
        here.bind(address)
        here.listen()
        print(flush=True)
        while True:
            with here.accept()[0] as client:
                with suppress(ChildProcessError):
                    while os.waitpid(-1, os.WNOHANG)[0]:  # whoever has ended since
                        pass
                if not os.fork():
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
        print(os.getpid(), file=file, flush=True)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))
        try:
            if arguments[:1] == ["-c"]:
                sys.argv = ["-c", *arguments[2:]]
                sys.path[0] = ""
                exec(arguments[1], {"__name__": "__main__"})
                code = 0
            else:
                main(arguments)
        except SystemExit as stop:
            code = int(stop.code or 0)
        except BaseException:
            traceback.print_exc()
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
