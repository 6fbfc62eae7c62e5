"""mobe serve as the openai and anthropic clients and plain HTTP see it."""

import gzip
import json
import re
import shutil
import signal
import socket
import threading
import time
from pathlib import Path

import anthropic
import openai
import pytest
import torch
from checkpoints import load_stock, logits_of
from safetensors.torch import load_file
from scripted import write_scripted
from serving import serving
from tokenizers import Tokenizer

SCRIPTS = {
    "<hello>": ["Hello", " there", ", friend."],
    "<weather>": [
        "Let me look.\n",
        '<tool_call>\n{"name": "get_weather",',
        ' "arguments": {"city": "Paris"}}\n</tool_call>',
    ],
    "<two>": [
        '<tool_call>\n{"name": "a", "arguments": {}}\n</tool_call>\n<tool_',
        'call>\n{"name": "b", "arguments": {"x": 1}}\n</tool_call>',
    ],
    "<no object>": [
        '<tool_call>\n{"name": "a", "arguments": "oops"}\n</tool_call>',
        '<tool_call>\n{"name": "b", "arguments": ""}\n</tool_call>',
    ],
    "<broken>": ['<tool_call>\n{"name": ', "oops\n</tool_call>"],
    "<thinks>": ["<think>\nHm", ", so.\n</think>\n\n", "Yes."],
    "<euro>": ["10 \u20ac", " and \U0001f600"],
    "<loop>": ["la, ", "lu, ", "la, "],
}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        },
    }
]


@pytest.fixture(scope="module")
def scripted(tmp_path_factory, models):
    return write_scripted(
        tmp_path_factory.mktemp("serve") / "scripted",
        SCRIPTS,
        models / "mini-qwen3-moe/tokenizer.json",
    )


@pytest.fixture(scope="module")
def server(mobe_program, scripted):
    with serving(mobe_program, scripted) as running:
        yield running


@pytest.fixture(scope="module")
def mini(mobe_program, models):
    """The bundled model, which writes text of its own."""
    exact = ("--dtype", "float32", "--cache", "f32")
    with serving(mobe_program, models / "mini-qwen3-moe", *exact) as running:
        yield running


def client_of(server, **options):
    return openai.OpenAI(
        base_url=server.url + "/v1", api_key="none", max_retries=0, **options
    )


def claude_of(server):
    return anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0)


def user(text):
    return [{"role": "user", "content": text}]


def chat(server, text, **options):
    return client_of(server).chat.completions.create(
        model="any", messages=user(text), **options
    )


# --- Chat completions.


def test_chat(server):
    answer = chat(server, "<hello>")
    assert answer.object == "chat.completion" and answer.model == "scripted"
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].message.content == "Hello there, friend."
    assert answer.choices[0].finish_reason == "stop"
    usage = answer.usage
    assert usage.completion_tokens == 4  # and the one that ends it
    assert usage.total_tokens == usage.prompt_tokens + 4


def test_chat_stream(server):
    chunks = list(
        chat(server, "<hello>", stream=True, stream_options={"include_usage": True})
    )
    assert len({chunk.id for chunk in chunks}) == 1
    assert chunks[0].choices[0].delta.role == "assistant"
    pieces = [c.choices[0].delta.content for c in chunks if c.choices]
    assert [p for p in pieces if p] == ["Hello", " there", ", friend."]
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens == 4


def test_max_tokens_ends_with_length(server):
    for name in ("max_tokens", "max_completion_tokens"):
        answer = chat(server, "<loop>", **{name: 5})
        assert answer.choices[0].message.content == "la, lu, la, lu, la, "
        assert answer.choices[0].finish_reason == "length"


@pytest.mark.parametrize("stop", [", lu", ["nothing", ", lu"]])
@pytest.mark.parametrize("stream", [False, True])
def test_stop_strings(server, stop, stream):
    answer = chat(server, "<loop>", stop=stop, stream=stream, max_tokens=50)
    if stream:
        chunks = list(answer)
        text = "".join(c.choices[0].delta.content or "" for c in chunks)
        reason = chunks[-1].choices[0].finish_reason
    else:
        text = answer.choices[0].message.content
        reason = answer.choices[0].finish_reason
    assert (text, reason) == ("la", "stop")


def test_ignore_eos(server):
    answer = chat(server, "<hello>", max_tokens=6, extra_body={"ignore_eos": True})
    assert answer.usage.completion_tokens == 6
    assert answer.choices[0].finish_reason == "length"


def test_characters_come_whole(server):
    chunks = list(chat(server, "<euro>", stream=True))
    text = "".join(c.choices[0].delta.content or "" for c in chunks)
    assert text == "10 \u20ac and \U0001f600"


def test_several_choices(server):
    answer = chat(server, "<hello>", n=3)
    assert [c.index for c in answer.choices] == [0, 1, 2]
    assert {c.message.content for c in answer.choices} == {"Hello there, friend."}
    assert answer.usage.completion_tokens == 12


def test_chat_log_probs(server):
    answer = chat(server, "<hello>", logprobs=True, top_logprobs=2)
    entries = answer.choices[0].logprobs.content
    assert [e.token for e in entries[:3]] == ["Hello", " there", ", friend."]
    assert bytes(entries[0].bytes) == b"Hello"
    for entry in entries:
        assert len(entry.top_logprobs) == 2
        assert entry.top_logprobs[0].logprob == entry.logprob <= 0


def test_chat_log_probs_of_a_stream(server):
    chunks = chat(server, "<hello>", logprobs=True, stream=True)
    entries = [
        e for c in chunks if c.choices[0].logprobs for e in c.choices[0].logprobs.content
    ]
    assert [e.token for e in entries[:3]] == ["Hello", " there", ", friend."]
    assert entries[0].top_logprobs == []


def test_content_in_parts(server):
    answer = client_of(server).chat.completions.create(
        model="any",
        messages=[{"role": "user", "content": [{"type": "text", "text": "<hello>"}]}],
        max_tokens=4,
    )
    assert answer.choices[0].finish_reason in ("stop", "length")


def test_logit_bias(server, scripted):
    tokenizer = Tokenizer.from_file(str(scripted / "tokenizer.json"))
    lu = tokenizer.token_to_id("lu, ")
    answer = chat(server, "<hello>", logit_bias={str(lu): 100}, max_tokens=3)
    assert answer.choices[0].message.content == "lu, lu, lu, "


def test_penalties(mini):
    def text(**options):
        return (
            client_of(mini)
            .completions.create(
                model="any", prompt="The castle", max_tokens=40, temperature=0, **options
            )
            .choices[0]
            .text
        )

    def kinds(text):
        return len(set(text.split()))

    assert kinds(text(frequency_penalty=2)) > kinds(text())
    assert kinds(text(presence_penalty=2)) > kinds(text())
    assert kinds(text(extra_body={"repetition_penalty": 1.5})) > kinds(text())


# --- Tools and thoughts.


def test_tool_call(server):
    choice = chat(server, "<weather>", tools=TOOLS).choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content == "Let me look."
    [call] = choice.message.tool_calls
    assert call.id and call.type == "function"
    assert call.function.name == "get_weather"
    assert json.loads(call.function.arguments) == {"city": "Paris"}


def test_tool_call_of_a_stream(server):
    text, calls, reason = "", [], None
    for chunk in chat(server, "<weather>", tools=TOOLS, stream=True):
        delta = chunk.choices[0].delta
        text += delta.content or ""
        calls += delta.tool_calls or []
        reason = chunk.choices[0].finish_reason or reason
    assert (text, reason) == ("Let me look.", "tool_calls")
    assert [c.index for c in calls] == [0]
    assert calls[0].function.name == "get_weather"


def test_several_tool_calls(server):
    message = chat(server, "<two>", tools=TOOLS).choices[0].message
    assert [c.function.name for c in message.tool_calls] == ["a", "b"]
    assert message.content is None
    one = chat(server, "<two>", tools=TOOLS, parallel_tool_calls=False)
    assert [c.function.name for c in one.choices[0].message.tool_calls] == ["a"]


def test_what_is_no_call_stays_text(server):
    choice = chat(server, "<broken>", tools=TOOLS).choices[0]
    assert choice.message.tool_calls is None and choice.finish_reason == "stop"
    assert choice.message.content == '<tool_call>\n{"name": oops\n</tool_call>'


def test_arguments_are_an_object_or_text(server):
    message = chat(server, "<no object>", tools=TOOLS).choices[0].message
    assert message.content == '<tool_call>\n{"name": "a", "arguments": "oops"}\n</tool_call>'
    (call,) = message.tool_calls
    assert (call.function.name, call.function.arguments) == ("b", "{}")
    tools = [{"name": "b", "input_schema": {"type": "object"}}]
    answer = claude_of(server).messages.create(
        model="any", max_tokens=20, tools=tools, messages=user("<no object>")
    )
    assert "oops" in answer.content[0].text
    assert answer.content[1].input == {}


def test_without_tools_no_call_is_looked_for(server):
    for options in ({}, {"tools": TOOLS, "tool_choice": "none"}):
        message = chat(server, "<weather>", **options).choices[0].message
        assert message.tool_calls is None and "<tool_call>" in message.content


def test_tool_results_reach_the_template(server):
    call = {
        "id": "call_1",
        "type": "function",
        "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'},
    }
    messages = [
        *user("<weather>"),
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
    ]
    body = json.dumps({"messages": messages, "tools": TOOLS})
    status, _, text = server.request("/apply-template", body)
    prompt = json.loads(text)["prompt"]
    assert status == 200
    assert prompt.startswith('<tools>[{"type": "function"')
    assert '"arguments": {"city": "Paris"}' in prompt
    assert prompt.endswith("tool: sunny")


def test_thoughts(server):
    message = chat(server, "<thinks>").choices[0].message
    assert message.content == "Yes."
    assert message.reasoning_content == "Hm, so."
    thoughts = [
        getattr(c.choices[0].delta, "reasoning_content", None)
        for c in chat(server, "<thinks>", stream=True)
    ]
    assert "".join(t for t in thoughts if t) == "Hm, so."


# --- Completions.


def test_completion(mini, mobe, models):
    for prompt in ("The castle", [38, 921, 12]):
        answer = client_of(mini).completions.create(
            model="any", prompt=prompt, max_tokens=12, temperature=0
        )
        assert answer.object == "text_completion"
        assert answer.usage.completion_tokens == 12
    expected = mobe(
        "generate", models / "mini-qwen3-moe", "--prompt", "The castle",
        "--max-tokens", 12, "--json",
    )  # fmt: skip
    answer = client_of(mini).completions.create(
        model="any", prompt="The castle", max_tokens=12, temperature=0
    )
    assert answer.choices[0].text == expected["text"]


def test_prompts_together_are_those_alone(mini):
    prompts = ["The castle", "In 1998", "A", "The second season of"]
    client = client_of(mini)

    def texts(prompt, **options):
        answer = client.completions.create(
            model="any", prompt=prompt, max_tokens=10, temperature=0, **options
        )
        return [c.text for c in answer.choices]

    alone = [texts(p)[0] for p in prompts]
    assert texts(prompts) == alone
    assert texts(prompts, n=2) == [t for text in alone for t in (text, text)]


def test_seeds(mini):
    def text(**options):
        return (
            client_of(mini)
            .completions.create(model="any", prompt="The", max_tokens=16, **options)
            .choices[0]
            .text
        )

    assert text(seed=3) == text(seed=3)
    assert len({text(seed=i) for i in range(6)}) > 1
    assert len({text() for _ in range(6)}) > 1


def test_echo_log_probs_are_transformers(mini, models):
    """What lm-eval asks for: the log-probabilities of a prompt's tokens."""
    folder = models / "mini-qwen3-moe"
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    prompt = "The castle was built in the 12th century, and"
    ids = tokenizer.encode(prompt, add_special_tokens=False).ids
    rows = logits_of(load_stock(folder), torch.tensor([ids])).log_softmax(-1)[0]
    for max_tokens, given in ((0, prompt), (1, ids)):
        answer = client_of(mini).completions.create(
            model="any", prompt=given, max_tokens=max_tokens, echo=True, logprobs=1,
            temperature=0,
        )  # fmt: skip
        choice = answer.choices[0]
        found = choice.logprobs
        assert choice.text.startswith(prompt)
        assert len(found.tokens) == len(ids) + max_tokens
        assert "".join(found.tokens) == choice.text
        assert found.token_logprobs[0] is None
        for i, token in enumerate(ids[1:], 1):
            expected = rows[i - 1, token].item()
            assert abs(found.token_logprobs[i] - expected) < 1e-4
            best = max(found.top_logprobs[i].values())
            assert abs(best - rows[i - 1].max().item()) < 1e-4
        assert found.text_offset[1] == len(found.tokens[0])


def test_completion_stream(mini):
    chunks = list(
        client_of(mini).completions.create(
            model="any", prompt=["The castle", "A"], max_tokens=8, temperature=0,
            stream=True, echo=True,
        )
    )  # fmt: skip
    for index, prompt in enumerate(("The castle", "A")):
        own = [c.choices[0] for c in chunks if c.choices[0].index == index]
        assert "".join(c.text for c in own).startswith(prompt)
        assert own[-1].finish_reason == "length"


def test_a_second_turn_computes_what_is_new(mini):
    text = "The castle stands on a hill above the town. " * 30
    client = client_of(mini)

    def usage(prompt):
        return client.completions.create(
            model="any", prompt=prompt, max_tokens=4, temperature=0
        ).usage

    first = usage(text)
    again = usage(text + "It was built")
    assert first.prompt_tokens_details.cached_tokens < 64
    cached = again.prompt_tokens_details.cached_tokens
    assert first.prompt_tokens - 64 <= cached <= first.prompt_tokens


# --- Anthropic's messages.


def test_messages(server):
    answer = claude_of(server).messages.create(
        model="any", max_tokens=20, system="Be kind.", messages=user("<hello>")
    )
    assert answer.type == "message" and answer.role == "assistant"
    assert answer.content[0].text == "Hello there, friend."
    assert answer.stop_reason == "end_turn" and answer.usage.output_tokens == 4


def test_messages_stream(server):
    with claude_of(server).messages.stream(
        model="any", max_tokens=20, messages=user("<hello>")
    ) as stream:
        pieces = list(stream.text_stream)
        final = stream.get_final_message()
    assert pieces == ["Hello", " there", ", friend."]
    assert final.content[0].text == "Hello there, friend."
    assert final.usage.output_tokens == 4


@pytest.mark.parametrize("stream", [False, True])
def test_messages_with_tools(server, stream):
    tools = [{"name": "get_weather", "input_schema": {"type": "object"}}]
    options = dict(model="any", max_tokens=20, tools=tools, messages=user("<weather>"))
    if stream:
        with claude_of(server).messages.stream(**options) as events:
            answer = events.get_final_message()
    else:
        answer = claude_of(server).messages.create(**options)
    assert answer.stop_reason == "tool_use"
    text, call = answer.content
    assert text.text == "Let me look."
    assert call.name == "get_weather" and call.input == {"city": "Paris"}


def test_messages_stop_sequences_and_limits(server):
    claude = claude_of(server)
    answer = claude.messages.create(
        model="any", max_tokens=20, stop_sequences=[", lu"], messages=user("<loop>")
    )
    assert (answer.stop_reason, answer.stop_sequence) == ("stop_sequence", ", lu")
    answer = claude.messages.create(model="any", max_tokens=3, messages=user("<loop>"))
    assert answer.stop_reason == "max_tokens"
    count = claude.messages.count_tokens(model="any", messages=user("<hello>"))
    assert count.input_tokens > 1


def test_messages_errors_have_their_form(server):
    with pytest.raises(anthropic.BadRequestError) as caught:
        claude_of(server).messages.create(
            model="any", max_tokens=5,
            messages=[{"role": "user", "content": [{"type": "image"}]}],
        )  # fmt: skip
    assert caught.value.body["error"]["type"] == "invalid_request_error"
    assert "image" in caught.value.body["error"]["message"]


# --- What a server tells.


def test_models(server):
    client = client_of(server)
    assert [m.id for m in client.models.list()] == ["scripted"]
    assert client.models.retrieve("scripted").id == "scripted"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("other")


def test_tokenize_and_detokenize(server, scripted):
    tokenizer = Tokenizer.from_file(str(scripted / "tokenizer.json"))
    text = "The castle, 10 \u20ac <hello>"
    _, _, body = server.request("/tokenize", json.dumps({"prompt": text}))
    ids = json.loads(body)["tokens"]
    assert ids == tokenizer.encode(text, add_special_tokens=False).ids
    _, _, body = server.request("/detokenize", json.dumps({"tokens": ids}))
    assert json.loads(body)["prompt"] == text


def test_metrics_and_properties(server):
    before = server.metric("mobe_tokens_total")
    chat(server, "<hello>")
    assert server.metric("mobe_tokens_total") == before + 4
    assert server.metric("mobe_texts_running") == 0
    properties = json.loads(server.request("/props")[2])
    assert properties["chat"] and properties["experts"]["mode"] == "plain"
    assert properties["memory"]["resident_bytes"] > 0
    assert json.loads(server.request("/openapi.json")[2])["openapi"] == "3.0.3"


def test_the_report_of_a_factored_model(mobe_program, data):
    with serving(mobe_program, data / "models/qwen3_mobe") as factored:
        status, headers, page = factored.request("/report")
        assert status == 200 and headers["Content-Type"].startswith("text/html")
        assert "<svg" in page
        assert json.loads(factored.request("/props")[2])["factored"]


# --- Refusals.

BAD = {
    "not JSON": ("/v1/completions", "{", "JSON"),
    "no object": ("/v1/completions", "[]", "type"),
    "no prompt": ("/v1/completions", "{}", "prompt"),
    "too hot": ("/v1/completions", '{"prompt": "a", "temperature": 101}', "temperature"),
    "not a number": ("/v1/completions", '{"prompt": "a", "temperature": NaN}', "temperature"),
    "top_p 0": ("/v1/completions", '{"prompt": "a", "top_p": 0}', "top_p"),
    "n": ("/v1/completions", '{"prompt": "a", "n": 1000}', "/n"),
    "logprobs": ("/v1/completions", '{"prompt": "a", "logprobs": 21}', "logprobs"),
    "best_of": ("/v1/completions", '{"prompt": "a", "best_of": 2}', "best_of"),
    "suffix": ("/v1/completions", '{"prompt": "a", "suffix": "b"}', "suffix"),
    "empty prompt": ("/v1/completions", '{"prompt": ""}', "no tokens"),
    "token id": ("/v1/completions", '{"prompt": [99999999]}', "99999999"),
    "huge id": ("/v1/completions", '{"prompt": [99999999999]}', "prompt"),
    "empty stop": ("/v1/completions", '{"prompt": "a", "stop": ""}', "stop"),
    "bias": ("/v1/completions", '{"prompt": "a", "logit_bias": {"x": 1}}', "logit_bias"),
    "too many texts": (
        "/v1/completions",
        json.dumps({"prompt": ["a"] * 100, "n": 3}),
        "256",
    ),
    "no messages": ("/v1/chat/completions", '{"messages": []}', "messages"),
    "no role": ("/v1/chat/completions", '{"messages": [{"content": "a"}]}', "role"),
    "forced tool": (
        "/v1/chat/completions",
        '{"messages": [{"role": "user", "content": "a"}], "tool_choice": "required"}',
        "tool_choice",
    ),
    "grammar": (
        "/v1/chat/completions",
        '{"messages": [{"role": "user", "content": "a"}],'
        ' "response_format": {"type": "json_object"}}',
        "response_format",
    ),
    "functions": (
        "/v1/chat/completions",
        '{"messages": [{"role": "user", "content": "a"}], "functions": []}',
        "tools",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_requests_are_refused_by_name(server, name):
    path, body, mentioned = BAD[name]
    status, _, text = server.request(path, body)
    error = json.loads(text)["error"]
    assert status == error["code"] == 400, text
    assert error["type"] == "invalid_request_error"
    assert mentioned in error["message"] and "\n" not in error["message"]


def test_other_refusals(server):
    def status(*arguments, **options):
        code, _, text = server.request(*arguments, **options)
        assert json.loads(text)["error"]["message"]
        return code

    assert status("/nothing") == 404
    assert status("/v1/completions") == 405
    assert status("/v1/models", "{}") == 405
    assert status("/v1/embeddings", "{}") == 501
    assert status("/v1/completions", "{}", {"Content-Type": "text/plain"}) == 415
    assert status("/v1/completions", "x" * (17 << 20)) == 413
    assert status("/report") == 404


def test_a_base_model_has_no_chat(mini):
    with pytest.raises(openai.BadRequestError, match="chat template"):
        chat(mini, "hi")


def test_prompts_beyond_the_context(mobe_program, models):
    options = ("--cache-tokens", 64, "--sequences", 2)
    with serving(mobe_program, models / "mini-qwen3-moe", *options) as small:
        with pytest.raises(openai.BadRequestError, match="limited to 64"):
            client_of(small).completions.create(model="any", prompt="castle " * 200)
        answer = client_of(small).completions.create(
            model="any", prompt="castle " * 10, max_tokens=1000
        )
        assert answer.usage.total_tokens <= 65
        assert answer.choices[0].finish_reason in ("length", "stop")


def test_keys(mobe_program, scripted, tmp_path):
    key = "0123456789abcdef0123456789abcdef"
    keys = tmp_path / "keys"
    keys.write_text(f"# of the team\n{key}\n\n{'f' * 32}\n")
    with serving(mobe_program, scripted, "--keys", keys) as guarded:
        assert guarded.request("/health")[0] == 200
        for headers, status in (
            ({}, 401),
            ({"Authorization": "Bearer " + key[:-1]}, 401),
            ({"Authorization": "Bearer " + key}, 200),
            ({"x-api-key": "f" * 32}, 200),
        ):
            assert guarded.request("/v1/models", headers=headers)[0] == status
        with pytest.raises(openai.AuthenticationError):
            client_of(guarded).models.list()


def test_bodies_are_bounded_however_they_come(mobe_program, scripted, tmp_path):
    """Unpacked, and without a length in the headers; without a key nothing is kept."""
    key = "k" * 32
    keys = tmp_path / "keys"
    keys.write_text(key)
    mib = 1 << 20
    prompt = json.dumps({"prompt": "x", "max_tokens": 1}).encode()

    def answer(guarded, head, *pieces):
        text = "POST /v1/completions HTTP/1.1\r\nContent-Type: application/json\r\n"
        with socket.create_connection(guarded.address, timeout=60) as connection:
            connection.sendall((text + "\r\n".join([*head, "\r\n"])).encode())
            for piece in pieces:
                connection.sendall(piece)
            got = connection.recv(65536)
            # The connection's next request begins where this one ended.
            connection.sendall(b"GET /health HTTP/1.1\r\nConnection: close\r\n\r\n")
            while piece := connection.recv(65536):
                got += piece
        first, second = map(int, re.findall(rb"HTTP/1\.1 (\d+)", got))
        assert second == 200
        return first

    def chunks(data):
        yield from (b"%x\r\n%s\r\n" % (len(d), d) for d in (*data, b""))

    def packed(size):
        data = gzip.compress(prompt + b" " * size)
        return ["Content-Encoding: gzip", f"Content-Length: {len(data)}"], data

    chunked = "Transfer-Encoding: chunked"
    with serving(mobe_program, scripted, "--keys", keys, "--max-body", 1) as guarded:
        before = peak_memory(guarded)
        for with_key, refused in (([], 401), ([f"x-api-key: {key}"], 413)):
            head, data = packed(100 * mib)
            assert answer(guarded, with_key + head, data) == refused
            many = chunks([b" " * mib] * 100)
            assert answer(guarded, [*with_key, chunked], *many) == refused
        assert peak_memory(guarded) - before < 64 * mib
        head, data = packed(1000)
        assert answer(guarded, with_key + head, data) == 200
        assert answer(guarded, [*with_key, chunked], *chunks([prompt[:9], prompt[9:]])) == 200
        form = {"x-api-key": key, "Content-Type": "multipart/form-data; boundary=x"}
        assert guarded.request("/v1/completions", b"--x--\r\n", form)[0] == 415


def peak_memory(server):
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) << 10


def test_origins(mobe_program, scripted, server):
    origin = {"Origin": "https://example.org"}
    name = "Access-Control-Allow-Origin"
    assert server.request("/v1/models", headers=origin)[1][name] is None
    with serving(mobe_program, scripted, "--origin", origin["Origin"]) as open_server:
        headers = open_server.request("/v1/models", headers=origin)[1]
        assert headers[name] == origin["Origin"]
        other = {"Origin": "https://example.com"}
        assert open_server.request("/v1/models", headers=other)[1][name] is None
        asked = open_server.request("/v1/completions", headers=origin, method="OPTIONS")
        assert asked[0] == 204 and "POST" in asked[1]["Access-Control-Allow-Methods"]


def test_the_log_says_nothing_of_texts(mobe_program, scripted, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("0123456789abcdef" * 2)
    with serving(mobe_program, scripted, "--keys", keys, "--log") as logged:
        key = {"Authorization": "Bearer " + "0123456789abcdef" * 2}
        logged.request("/v1/completions", '{"prompt": "a <hello>"}', key)
        logged.request("/v1/completions?secret", '{"prompt": "a <hello>"}', key)
        code, notes = logged.end()
    assert code == 0
    assert notes.count("POST /v1/completions 200") == 2
    for secret in ("hello", "Hello", "friend", "0123456789", "secret"):
        assert secret not in notes


# --- Clients that go away, servers that end.


def wait_until(true, seconds=20):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_away_frees_its_slot(server, stream):
    body = json.dumps(
        {"prompt": "<loop>", "max_tokens": 30000, "stream": stream}
    ).encode()
    with socket.create_connection(server.address) as connection:
        connection.sendall(
            b"POST /v1/completions HTTP/1.1\r\nHost: x\r\n"
            b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
            % (len(body), body)
        )
        wait_until(lambda: server.metric("mobe_texts_running") == 1)
    wait_until(lambda: server.metric("mobe_texts_running") == 0)


def test_a_full_queue_is_said(mobe_program, scripted):
    options = ("--sequences", 1, "--queue", 0)
    with serving(mobe_program, scripted, *options) as small:
        stream = client_of(small).completions.create(
            model="any", prompt="<loop>", max_tokens=30000, stream=True
        )
        next(iter(stream))
        status, headers, text = small.request("/v1/completions", '{"prompt": "a"}')
        assert status == 429 and headers["Retry-After"] == "1"
        assert "waiting" in json.loads(text)["error"]["message"]
        stream.close()


def test_sigterm_lets_answers_end(mobe_program, scripted):
    with serving(mobe_program, scripted) as ending:
        texts = []

        def ask():
            answer = client_of(ending).completions.create(
                model="any", prompt="<loop>", max_tokens=3000
            )
            texts.append(answer.usage.completion_tokens)

        asking = threading.Thread(target=ask)
        asking.start()
        wait_until(lambda: ending.metric("mobe_texts_running") == 1)
        ending.process.send_signal(signal.SIGTERM)
        wait_until(lambda: ending.request("/health")[0] == 503)
        assert ending.request("/v1/completions", '{"prompt": "a"}')[0] == 503
        asking.join()
        assert texts == [3000]
        assert ending.process.wait(timeout=20) == 0


def test_a_second_signal_ends_at_once(mobe_program, scripted):
    with serving(mobe_program, scripted) as ending:
        stream = client_of(ending).completions.create(
            model="any", prompt="<loop>", max_tokens=30000, stream=True
        )
        next(iter(stream))
        ending.process.send_signal(signal.SIGINT)
        wait_until(lambda: ending.request("/health")[0] == 503)
        ending.process.send_signal(signal.SIGINT)
        assert ending.process.wait(timeout=5) == -signal.SIGINT


def test_a_port_that_is_taken(mobe, scripted, server):
    port = server.url.rsplit(":", 1)[1]
    message = mobe("serve", scripted, "--port", port, code=1)
    assert f"port {port}" in message


def test_a_model_that_does_not_load(mobe, scripted, tmp_path):
    shutil.copytree(scripted, tmp_path / "bad")
    (tmp_path / "bad/model.safetensors").write_bytes(b"none")
    assert "model.safetensors" in mobe("serve", tmp_path / "bad", "--port", 0, code=1)
