"""`mobe chat`: answers as of `mobe generate`, commands, and Ctrl-C on a terminal."""

import fcntl
import json
import os
import pty
import select
import shutil
import signal
import struct
import subprocess
import termios
import time

import pytest

TEMPLATE = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)


@pytest.fixture(scope="module")
def folder(models, tmp_path_factory):
    """The bundled model with a chat template."""
    folder = tmp_path_factory.mktemp("chat") / "model"
    shutil.copytree(models / "mini-qwen3-moe", folder)
    config = {"chat_template": TEMPLATE}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def user(content):
    return {"role": "user", "content": content}


def assistant(content):
    return {"role": "assistant", "content": content}


@pytest.fixture
def answer(mobe, folder, tmp_path):
    """What `mobe chat --messages` answers."""

    def run(messages, *options):
        chat = tmp_path / "chat.json"
        chat.write_text(json.dumps(messages))
        return mobe("chat", folder, "--messages", chat, "--json", *options)

    return run


def test_answers_as_generate_does(mobe, folder, answer):
    options = ["--max-tokens", 12]
    ours = answer([user("The sea")], "--system", "Be brief.", *options)
    prompt = "system: Be brief.\nuser: The sea\nassistant:"
    theirs = mobe("generate", folder, "--prompt", prompt, "--json", *options)
    assert ours["text"] == theirs["text"] != ""
    for key in ("prompt_tokens", "tokens", "finish_reason"):
        assert ours[key] == theirs[key]


def test_lines_are_turns(mobe, folder, answer):
    """Piped, with the cache of the turns before; the same as each anew."""
    options = ["--max-tokens", 8, "--stop", "\n"]
    lines = "The sea\nAnd the \\\nwind\n\nThen\\\n"
    printed = mobe("chat", folder, *options, stdin=lines)
    messages, expected = [], ""
    for text in ("The sea", "And the \nwind", "Then\n"):
        messages.append(user(text))
        said = answer(messages, *options)["text"]
        messages.append(assistant(said))
        expected += said + "\n"
    assert printed == expected


def test_commands(mobe, folder, answer):
    options = ["--max-tokens", 8]
    lines = ["The sea", "/reset", "/system Be brief.", "The wind", "/reset", "/system", "The sea"]
    printed = mobe("chat", folder, *options, stdin="\n".join([*lines, "/quit", "never"]))
    brief = {"role": "system", "content": "Be brief."}
    turns = [[user("The sea")], [brief, user("The wind")], [user("The sea")]]
    assert printed == "".join(answer(turn, *options)["text"] + "\n" for turn in turns)


def test_lines_of_windows(mobe, folder, answer):
    options = ["--max-tokens", 4]
    printed = mobe("chat", folder, *options, stdin="The sea\r\n/system  \r\n/quit\r\n")
    assert printed == answer([user("The sea")], *options)["text"] + "\n"


def test_an_answer_that_cannot_be_written(folder, mobe_program):
    command = [mobe_program, "chat", folder, "--max-tokens", "2"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            command, input="a\n", stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 1
    assert "mobe: cannot write to the standard output" in done.stderr


def test_piped_failure_ends_it(mobe, folder):
    options = ["--context", 20, "--max-tokens", 4]
    message = mobe("chat", folder, *options, stdin="a b c d e f g h i j k l m n\n", code=1)
    assert "context is limited to 20: /reset begins anew" in message
    assert message.count("\n") == 1


def test_base_model_has_no_template(mobe, models):
    message = mobe("chat", models / "mini-qwen3-moe", code=1)
    assert "has no chat template" in message


def test_template_option(mobe, models, tmp_path):
    template = tmp_path / "t.jinja"
    template.write_text(TEMPLATE)
    options = ["--template", template, "--max-tokens", 2]
    assert mobe("chat", models / "mini-qwen3-moe", *options, stdin="The sea\n") != "\n"


@pytest.mark.parametrize(
    "options, code",
    [
        (["--json"], 1),
        (["--template-args", "[]"], 1),
        (["--prompt-only"], 2),
        (["--context", 0], 2),
    ],
)
def test_bad_options(mobe, folder, options, code):
    assert mobe("chat", folder, *options, code=code).count("\n") == 1


class Terminal:
    """A program on a terminal of its own, with a history of its own."""

    def __init__(self, state, *command, term="xterm", columns=200):
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", 24, columns, 0, 0))
        self.process = subprocess.Popen(
            [str(part) for part in command],
            env=dict(os.environ, TERM=term, XDG_STATE_HOME=str(state), HOME=str(state)),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            # Ctrl-C reaches only whom the terminal belongs to.
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(slave)
        self.seen = ""

    def type(self, text):
        os.write(self.master, text.encode())

    def wait_for(self, text, seconds=60):
        """Reads until `text` comes; gives what came before it."""
        end = time.monotonic() + seconds
        while text not in self.seen:
            left = end - time.monotonic()
            assert left > 0, f"no {text!r} in {self.seen!r}"
            if select.select([self.master], [], [], left)[0]:
                try:
                    self.seen += os.read(self.master, 4096).decode(errors="replace")
                except OSError as e:  # the program has ended
                    raise AssertionError(f"no {text!r} in {self.seen!r}") from e
        before, self.seen = self.seen.split(text, 1)
        return before

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.master)


CTRL_C, CTRL_D = "\x03", "\x04"


@pytest.fixture
def start(folder, mobe_program, tmp_path):
    """Starts `mobe chat` on a terminal."""
    started = []

    def run(*options, **settings):
        command = (mobe_program, "chat", folder, *options)
        terminal = Terminal(tmp_path / "state", *command, **settings)
        started.append(terminal)
        terminal.wait_for("leaves)\r\n")
        terminal.wait_for("> ")
        return terminal

    yield run
    for terminal in started:
        terminal.close()


@pytest.fixture(params=["xterm", "dumb"])
def terminal(start, request):
    """With editing, and without."""
    return start("--max-tokens", 4000, "--context", 100000, term=request.param)


def test_ctrl_c_stops_the_answer(terminal):
    terminal.type("The sea\n")
    terminal.wait_for("The sea\r\n")
    while not terminal.seen:
        terminal.seen = os.read(terminal.master, 1).decode(errors="replace")
    terminal.type(CTRL_C)
    terminal.wait_for("> ")
    # Twice while it answers: the program goes on nevertheless.
    terminal.type("And then?\n")
    terminal.wait_for("And then?\r\n")
    terminal.type(CTRL_C)
    terminal.type(CTRL_C)
    terminal.wait_for("> ")
    assert terminal.process.poll() is None
    terminal.type("/quit\n")
    assert terminal.process.wait(30) == 0


def test_ctrl_c_at_the_prompt(terminal):
    terminal.type("half a line" + CTRL_C)
    terminal.wait_for("(Ctrl-C again, Ctrl-D or /quit leaves)\r\n")
    terminal.wait_for("> ")
    # What was typed before is forgotten, and it takes two in a row.
    terminal.type("/nonsense\n")
    terminal.wait_for("(/nonsense is no command; /help lists them.")
    terminal.wait_for("> ")
    terminal.type(CTRL_C)
    terminal.wait_for("leaves)\r\n")
    terminal.wait_for("> ")
    terminal.type(CTRL_C)
    assert terminal.process.wait(30) == 0


def test_ctrl_d_leaves(terminal):
    terminal.type(CTRL_D)
    assert terminal.process.wait(30) == 0


def test_typed_failure_is_told(start):
    terminal = start("--context", 24, "--max-tokens", 4)
    terminal.type("a b c d e f g h i j k l m n o p q r s t u v w x y z\n")
    terminal.wait_for("context is limited to 24: /reset begins anew)\r\n")
    terminal.wait_for("> ")
    # The conversation is as before.
    terminal.type("The sea\n")
    terminal.wait_for("The sea\r\n")
    assert "limited" not in terminal.wait_for("> ")


UP, LEFT, HOME, CTRL_R = "\x1b[A", "\x1b[D", "\x01", "\x12"


def test_a_line_is_edited(start):
    terminal = start("--max-tokens", 4)
    # Two columns, three bytes, one character to step over.
    terminal.type("/海x" + LEFT + LEFT + "no" + "\n")
    terminal.wait_for("(/no海x is no command")
    terminal.type("word" + HOME + "/first \n")
    terminal.wait_for("(/first is no command")


def test_lines_are_remembered(start, tmp_path):
    first = start("--max-tokens", 4)
    first.type("/one\n")
    first.wait_for("(/one is no command")
    first.wait_for("> ")
    first.type("/two\n/two\n")
    first.wait_for("(/two is no command")
    first.wait_for("(/two is no command")
    first.wait_for("> ")
    first.type(CTRL_D)
    assert first.process.wait(30) == 0
    history = tmp_path / "state/mobe/chat_history"
    assert history.read_text() == "/one\n/two\n"
    assert history.stat().st_mode & 0o777 == 0o600
    second = start("--max-tokens", 4)
    second.type(UP + UP + "more\n")
    second.wait_for("(/onemore is no command")
    second.wait_for("> ")
    second.type(CTRL_R + "tw" + "\n")
    second.wait_for("(/two is no command")


def test_the_window_changes(start):
    terminal = start("--max-tokens", 4)
    terminal.type("/half")
    terminal.wait_for("/half")
    fcntl.ioctl(terminal.master, termios.TIOCSWINSZ, struct.pack("4H", 24, 60, 0, 0))
    terminal.process.send_signal(signal.SIGWINCH)
    terminal.wait_for("\r\x1b[K")
    terminal.wait_for("> /half")
    terminal.type(" of it\n")
    terminal.wait_for("(/half is no command")


def test_nothing_is_kept_where_nobody_types(mobe_program, folder, tmp_path):
    subprocess.run(
        [mobe_program, "chat", folder, "--max-tokens", "2"], input=b"The sea\n",
        env=dict(os.environ, XDG_STATE_HOME=str(tmp_path)), check=True,
    )
    assert not list(tmp_path.iterdir())


def test_saves_and_loads(mobe, folder, answer, tmp_path):
    options = ["--max-tokens", 8]
    file = tmp_path / "saved.json"
    first = mobe("chat", folder, *options, stdin=f"The sea\n/save {file}\n")
    messages = [user("The sea"), assistant(first.removesuffix("\n"))]
    assert json.loads(file.read_text()) == {"messages": messages}
    mobe("chat", folder, "--messages", file, *options)
    then = mobe("chat", folder, *options, stdin=f"/load {file}\nThe wind\n/save {file}\n")
    assert then == answer([*messages, user("The wind")], *options)["text"] + "\n"
    # Over its own, and nothing else.
    assert len(json.loads(file.read_text())["messages"]) == 4
    mine = tmp_path / "mine"
    mine.write_text("mine")
    assert "exists" in mobe("chat", folder, *options, stdin=f"/save {mine}\n", code=1)
    assert mine.read_text() == "mine"
    for text in ("[", "{}", '{"messages": [1]}', '{"messages": [], "tools": []}'):
        mine.write_text(text)
        said = mobe("chat", folder, *options, stdin=f"/load {mine}\n", code=1)
        assert said.count("\n") == 1 and "Traceback" not in said


@pytest.mark.parametrize("line", ("/quit", "/quit ", "/quit now", "/quit\t"))
def test_quit(mobe, models, line):
    folder = models / "english-qwen3-moe"
    options = ("--max-tokens", 1, "--temperature", 0)
    said = mobe("chat", folder, *options, stdin=f"{line}\nHello.\n")
    assert said.strip() == ""


def test_help_and_mistyped_commands(start):
    terminal = start("--max-tokens", 4)
    terminal.type("/help\n")
    help = terminal.wait_for("Ctrl-C stops")
    for word in ("/reset", "/system TEXT", "/save FILE", "/load FILE", "/help", "/quit"):
        assert word in help
    terminal.wait_for("> ")
    terminal.type("/sav x\n")
    terminal.wait_for("(/sav is no command; did you mean /save? /help lists them.")


def test_notes_fit_a_narrow_terminal(start):
    terminal = start("--max-tokens", 6, columns=40)
    terminal.type("/nonsense\n")
    note = terminal.wait_for("it.)")
    assert max(map(len, note.split("\r\n"))) <= 40 and "\r\n  " in note


def test_speed_is_told(start):
    terminal = start("--max-tokens", 6)
    terminal.type("The sea\n")
    assert " a second; cut at --max-tokens 6)" in terminal.wait_for("> ")
