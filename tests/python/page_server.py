"""A server for tests of the page of `mobe serve`: its files, and answers that a test
writes, from slow ones to errors. What is asked is kept."""

import functools
import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

SERVE = Path(__file__).resolve().parents[2] / "src/serve"
TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript"}

PROPS = {
    "model": "tiny-mobe",
    "mobe": "0.1.0",
    "context": 4096,
    "vocabulary": 8192,
    "layers": 4,
    "experts": {"of_a_layer": 16, "of_a_token": 4, "mode": "fused"},
    "chat": True,
    "sequences": 8,
    "sampling": {
        "temperature": 0.7,
        "top_k": 20,
        "top_p": 0.95,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
    },
    "memory": {
        "limit_bytes": 8_000_000_000,
        "limit_by": "machine",
        "resident_bytes": 123_000_000,
        "plan": [
            {"what": "attention, head and what runs for every token", "bytes": 40_000_000},
            {"what": "experts, factored", "bytes": 60_000_000},
        ],
    },
    "factored": True,
    "shape": "gate, up and down of 4 layers, 8 bases of rank 96, silu",
    "compression": {
        "bytes_before": 200_000_000,
        "bytes_after": 120_000_000,
        "parameters_before": {"embedding": 1_000_000, "experts": 90_000_000, "dense": 0},
        "parameters_after": {"embedding": 1_000_000, "experts": 49_500_000, "dense": 0},
        "experts_kept": 0.55,
        "model_kept": 0.555,
        "errors": [
            {
                "layer": layer,
                "kind": kind,
                "relative_error": 0.1 + 0.02 * layer + 0.05 * place,
            }
            for layer in range(4)
            for place, kind in enumerate(["gate", "up", "down"])
        ],
    },
}

# What a model may write that the page has a form for.
MARKDOWN = """\
# Title

Some **bold**, *italic*, `code` and [a link](https://example.org/a_(b)), [not
one](javascript:alert(1)), 2 * 3 * 4, snake_case_name.

1. first
   - inner
2. second

> quoted

| a | b |
|---|--:|
| 1 | 2 |

```python
print("<b>")
```

End"""


@functools.cache
def policy(name):
    """A Content-Security-Policy of server.cc, so that both servers have the same."""
    source = (SERVE / "server.cc").read_text()
    strings = re.search(rf"{name} =((?:\s*\"[^\"]*\")+)", source).group(1)
    return "".join(re.findall(r'"([^"]*)"', strings))


def content(*pieces):
    return [{"content": piece} for piece in pieces]


class PageServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server_port}"
        self.reset()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def reset(self):
        self.props = json.loads(json.dumps(PROPS))
        self.asked = []  # bodies
        self.answers = {}  # what the user says: deltas
        self.pause = 0.0  # after each
        self.failure = None  # status and message of the next answer
        self.key = None  # that is asked for
        self.loading = 0  # answers until the model is loaded
        self.gone = threading.Event()  # a client has closed the connection


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def reply(self, status, body, kind="application/json", policy_name="kAnswerPolicy"):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Security-Policy", policy(policy_name))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def fail(self, status, message):
        error = {"error": {"message": message, "type": "", "code": status}}
        self.reply(status, json.dumps(error).encode())

    def may_pass(self):
        key = self.server.key
        if key is None or self.headers["Authorization"] == f"Bearer {key}":
            return True
        self.fail(401, "expected a key")
        return False

    def do_GET(self):
        if self.path == "/" or self.path.startswith("/page/"):
            file = SERVE / "page" / (self.path.rpartition("/")[2] or "page.html")
            kind = TYPES[file.suffix[1:]]
            self.reply(200, file.read_bytes(), kind, "kPagePolicy")
        elif self.path == "/health":
            self.reply(200, b"{}")
        elif not self.may_pass():
            return
        elif self.path == "/props" and self.server.loading > 0:
            self.server.loading -= 1
            self.fail(503, "the model is being loaded")
        elif self.path == "/props":
            self.reply(200, json.dumps(self.server.props).encode())
        elif self.path == "/report":
            page = b"<!doctype html><style>h1 { color: red }</style><h1>MoBE report</h1>"
            self.reply(200, page, "text/html")
        else:
            self.fail(404, f"no {self.path}")

    def do_POST(self):
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self.may_pass():
            return
        server.asked.append(body)
        if server.failure:
            failure, server.failure = server.failure, None
            self.fail(*failure)
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        is_chat = self.path == "/v1/chat/completions"
        said = body["messages"][-1]["content"] if is_chat else body["prompt"]
        try:
            self.answer(server.answers.get(said, content("Echo: ", said)), is_chat)
        except (BrokenPipeError, ConnectionResetError):
            server.gone.set()

    def answer(self, deltas, is_chat):
        count = 0
        for delta in deltas:
            count += 1
            choice = {"delta": delta} if is_chat else {"text": delta["content"]}
            self.event({"choices": [{"index": 0, "finish_reason": None} | choice]})
            time.sleep(self.server.pause)
        last = {"delta": {}} if is_chat else {"text": ""}
        self.event({"choices": [{"index": 0, "finish_reason": "stop"} | last]})
        usage = {"prompt_tokens": 7, "completion_tokens": count}
        self.event({"choices": [], "usage": usage})
        self.wfile.write(b"data: [DONE]\n\n")

    def event(self, data):
        self.wfile.write(f"data: {json.dumps(data)}\n\n".encode())
        self.wfile.flush()
