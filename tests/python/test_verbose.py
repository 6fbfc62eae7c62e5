"""--verbose: what a model has run, on stderr when it has."""

import json
import re
import signal
import subprocess

import pytest
from serving import serving

SPEED = r"prefill ([\d,]+) tokens at [\d.]+ tok/s(?:, decode ([\d,]+) tokens at [\d.]+ tok/s)?"
CACHED = (
    r"experts cached in 6 layers: ([\d.]+)% of ([\d,]+) uses found them built, "
    r"([\d,]+) were mixed, ([\d,]+) built meanwhile"
)
STREAMED = (
    r"experts streamed in 6 layers: ([\d.]+)% of ([\d,]+) uses found them in memory, "
    r"([\d.]+) .?B read from the disk, ([\d.]+) s of waiting for it"
)
LINE = {"cached": CACHED, "streamed": STREAMED}
OPTIONS = {
    "cached": ["--experts", "cached", "--built-format", "int8"],
    "streamed": ["--experts", "streamed"],
}
# With room for few of the experts.
MEMORY = {"cached": [], "streamed": ["--memory", "100MB", "--threads", 2]}
PROMPT = ["--prompt", "The old man looked at the sea and said", "--max-tokens", 60]


@pytest.fixture(scope="module")
def factored(mobe, models, tmp_path_factory):
    """The bundled model, factored in haste, and with a chat template."""
    folder = tmp_path_factory.mktemp("verbose") / "model"
    mobe("compress", models / "mini-qwen3-moe", folder, "--passes", 1, "--quiet")
    template = "{% for m in messages %}{{ m.content }}{% endfor %}"
    (folder / "chat_template.jinja").write_text(template)
    return folder


@pytest.fixture
def said(mobe_program):
    """What a command prints: stdout, and the lines of stderr."""

    def run(*args, stdin=""):
        command = [str(part) for part in (mobe_program, *args)]
        done = subprocess.run(
            command, input=stdin, capture_output=True, text=True, check=True
        )
        return done.stdout, done.stderr.splitlines()

    return run


def numbers(pattern, line):
    found = re.fullmatch(pattern, line)
    assert found, line
    return [float((text or "0").replace(",", "")) for text in found.groups()]


@pytest.mark.parametrize("mode", ["cached", "streamed"])
def test_the_numbers_are_those_of_json(said, factored, mode):
    command = ["generate", factored, *PROMPT, *OPTIONS[mode], *MEMORY[mode]]
    command += ["--json", "--quiet"]
    assert said(*command)[1] == []
    out, lines = said(*command, "--verbose")
    ours = json.loads(out)
    prompt, decoded = numbers(SPEED, lines[0])
    assert (prompt, decoded) == (ours["prompt_tokens"], ours["tokens"] - 1)
    experts = ours["experts"]
    share, uses, third, fourth = numbers(LINE[mode], lines[1])
    assert uses == experts["found"] + experts["missed"] > 0
    assert share == pytest.approx(100 * experts["found"] / uses, abs=0.051)
    assert 0 < share < 100
    if mode == "cached":
        assert (third, fourth) == (experts["missed"], experts["built"])
        assert experts["built"] > 0 == experts["disk_bytes"]
    else:
        assert experts["disk_bytes"] > 0 == experts["built"]
        assert fourth == pytest.approx(experts["disk_seconds"], abs=0.0051)
    assert len(lines) == 2


@pytest.mark.parametrize("mode", ["cached", "streamed"])
def test_every_command_that_runs_a_model(said, factored, models, data, tmp_path, mode):
    """A speed is told once: on stdout, or in a line of its own."""
    run = [*OPTIONS[mode], "--quiet", "--verbose"]
    (tmp_path / "ids.json").write_text("[[1, 2, 3], [4, 5, 6]]")
    (tmp_path / "prompts.txt").write_text("The sea\nThe castle\n")
    text = models / "mini-qwen3-moe/sample.txt"
    short = ["--max-tokens", 100]
    logits = ["--ids", tmp_path / "ids.json", "--out", tmp_path / "logits.safetensors"]
    prompts = ["--prompts-file", tmp_path / "prompts.txt", "--max-tokens", 4]
    tasks = ["--tasks", "arc_easy", "--limit", 2, "--data", data / "eval/arc.jsonl"]
    for command, speeds, models_run in (
        (["generate", factored, *prompts], 1, 1),
        (["logits", factored, *logits], 1, 1),
        (["perplexity", factored, text, *short], 0, 1),
        (["compare", factored, factored, text, *short], 0, 2),
        (["eval", factored, *tasks], 1, 1),
        (["eval", factored, *tasks, "--base", factored], 2, 2),
    ):
        _, lines = said(*command, *run)
        lines = [line for line in lines if not line.startswith("mobe: warning: ")]
        lines = [re.sub("^(model|base|other): ", "", line) for line in lines]
        kinds = [line.split(" ")[0] for line in lines]
        assert kinds.count("prefill") == speeds, lines
        assert kinds.count("experts") == models_run, lines
        assert len(lines) == speeds + models_run, lines
        for line in lines:
            numbers(LINE[mode] if line.startswith("experts") else SPEED, line)


def test_what_is_not_counted(said, models):
    """The planner's word alone."""
    folder = models / "mini-qwen3-moe"
    assert said("generate", folder, *PROMPT, "--quiet")[1] == []
    _, lines = said("generate", folder, *PROMPT, "--quiet", "--verbose")
    assert lines[1:] == ["experts plain in 6 layers"]


def test_each_answer_of_a_chat(said, factored):
    command = ["chat", factored, "--max-tokens", 5, "--verbose", *OPTIONS["cached"]]
    _, lines = said(*command, stdin="The sea\nThe castle\n")
    assert len(lines) == 4
    for speed, experts in (lines[:2], lines[2:]):
        assert numbers(SPEED, speed)[1] <= 4
        assert numbers(CACHED, experts)[1] > 0


def test_the_end_of_a_server(mobe_program, factored):
    options = ["--quiet", "--verbose", *OPTIONS["cached"]]
    with serving(mobe_program, factored, *options) as server:
        body = json.dumps({"prompt": "The sea", "max_tokens": 40, "temperature": 0})
        assert server.request("/v1/completions", body)[0] == 200
        metric = {
            name: server.metric(f"mobe_{name}_total")
            for name in ("prefill_tokens", "decode_tokens", "experts_found",
                         "experts_missed", "experts_built")
        }  # fmt: skip
        code, notes = server.end(signal.SIGINT)
    speed, experts = notes.splitlines()
    assert numbers(SPEED, speed) == [metric["prefill_tokens"], metric["decode_tokens"]]
    _, uses, missed, built = numbers(CACHED, experts)
    assert uses == metric["experts_found"] + metric["experts_missed"]
    assert (missed, built) == (metric["experts_missed"], metric["experts_built"])
