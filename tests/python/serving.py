"""A server that a test starts and ends."""

import contextlib
import os
import re
import subprocess
import threading
import urllib.error
import urllib.request
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def program():
    """That of MOBE, or the release build's."""
    return os.environ.get("MOBE", REPOSITORY / "build/release/mobe")


class Server:
    def __init__(self, program, model, *options):
        command = [str(p) for p in (program, "serve", model, "--port", 0, *options)]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        # Nobody else reads what it notes, and a full pipe would stop it.
        self.notes = []
        self.reader = threading.Thread(
            target=lambda: self.notes.extend(self.process.stderr)
        )
        self.reader.start()
        line = self.process.stdout.readline()
        found = re.match(r"(http://\S+) serves ", line)
        assert found, f"{command}: {line!r} {self.end()}"
        self.url = found[1]
        host, port = self.url.removeprefix("http://").split(":")
        self.address = host, int(port)

    def request(self, path, body=None, headers=None, method=None):
        """Status, headers and text."""
        request = urllib.request.Request(
            self.url + path,
            data=body if body is None or isinstance(body, bytes) else body.encode(),
            headers={"Content-Type": "application/json"} | (headers or {}),
            method=method,
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.headers, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.headers, error.read().decode()

    def metric(self, name):
        text = self.request("/metrics")[2]
        return float(re.search(rf"^{re.escape(name)} (\S+)$", text, re.M)[1])

    def end(self, signal=None):
        """Asks it to end, or waits for it; gives its exit code and notes."""
        if signal is None:
            self.process.terminate()
        else:
            self.process.send_signal(signal)
        code = self.process.wait(timeout=60)
        self.reader.join()
        return code, "".join(self.notes)


@contextlib.contextmanager
def serving(program, model, *options):
    server = Server(program, model, *options)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.process.kill()
            server.process.wait()
        server.reader.join()
