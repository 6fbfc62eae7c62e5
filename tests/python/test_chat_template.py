"""Prompts of `mobe chat --prompt-only` against those of transformers.

tests/data/chat/*.jinja hold what the templates of Qwen3, DeepSeek-V2, DeepSeek-V3,
Kimi-K2 (two versions) and Ling are made of, in other words. Templates in MOBE_SHARED
are tried, too.
"""

import json

import jinja2
import pytest
from transformers.utils.chat_template_utils import render_jinja_template

TOKENS = {
    "bos_token": "<s>",
    "eos_token": {"__type": "AddedToken", "content": "</s>", "special": True},
    "pad_token": None,
    "additional_special_tokens": ["<|done|>", "[close]"],
}
# What transformers gives to a template of them.
SPECIAL = {
    "bos_token": "<s>",
    "eos_token": "</s>",
    "additional_special_tokens": ["<|done|>", "[close]"],
}

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "Wetter <für> \"Orte\" & 'Zeiten' \u2028\U0001f600\x7f",
            "parameters": {
                "type": "object",
                "properties": {"where": {"type": "string"}, "days": {"type": "integer"}},
                "required": ["where"],
                "x": [1, -2, 0.1, 1e100, 1e-7, 3.0, True, None, [], {}],
            },
        },
    },
    {"type": "function", "function": {"name": "zeit", "parameters": {}}},
]


def user(content):
    return {"role": "user", "content": content}


def system(content):
    return {"role": "system", "content": content}


def answer(content, **more):
    return {"role": "assistant", "content": content, **more}


def call(name, arguments, **more):
    return {"type": "function", "function": {"name": name, "arguments": arguments}, **more}


HOSTILE = (
    "{{ 7 * 7 }}{% for x in messages %}{% endfor %}{# no #} </think> <|done|></s>"
    "[close]\n'\"\\ \t\r\n \x00\x1f\x85\u200b\u2028\ufeff\U0001f469\u200d\U0001f4bb e\u0301 {%"
)

CONVERSATIONS = {
    "question": [user("How are you?")],
    "system": [system("Be brief."), user("How are you?")],
    "turns": [
        system("  Be brief.\n"),
        user("One?"),
        answer("  One.  "),
        user("Two?\n"),
        answer("\n\nTwo."),
        user("Three?"),
    ],
    "thoughts": [
        user("One?"),
        answer("<think>\nHm.\n</think>\n\nOne."),
        user("Two?"),
        answer("Two.", reasoning_content="\nHm, hm.\n"),
    ],
    "two systems": [system("Be brief."), system("Be kind."), user("Hello")],
    "tools": [
        system("Be brief."),
        user("Weather?"),
        answer("I look.", tool_calls=[call("weather", {"where": "Köln", "days": 2})]),
        {"role": "tool", "content": "rain", "name": "weather"},
        {"role": "tool", "content": "<sun>"},
        answer("Rain."),
        user("And now?"),
        answer(
            None,
            tool_calls=[
                call("weather", '{"where": "Bonn"}', id="call:7"),
                call("zeit", {}),
            ],
        ),
        {"role": "tool", "content": "", "tool_call_id": "call:7"},
    ],
    "answer last": [user("One?"), answer("One.")],
    "tool calls null": [user("One?"), answer("One.", tool_calls=None)],
    "parts": [
        user([{"type": "text", "text": "What is"}, {"type": "image"}, {"text": "it's?"}]),
    ],
    "no content": [user("One?"), {"role": "assistant"}],
    "hostile": [system(HOSTILE), user(HOSTILE), answer(HOSTILE), user(HOSTILE * 50)],
    "long": [user(str(i)) if i % 2 == 0 else answer("x" * i) for i in range(400)],
}

ARGUMENTS = [
    {},
    {"enable_thinking": False},
    {"enable_thinking": True},
    {"add_generation_prompt": False},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model folder with special tokens and no template."""
    folder = tmp_path_factory.mktemp("model")
    (folder / "tokenizer_config.json").write_text(json.dumps(TOKENS))
    return folder


@pytest.fixture
def ours(mobe, folder, tmp_path):
    """Renders a template with `mobe chat`; None where it fails."""

    def render(template, messages, tools=None, arguments=(), code=0):
        template_file, chat = tmp_path / "template.jinja", tmp_path / "chat.json"
        template_file.write_bytes(template.encode())
        chat.write_text(json.dumps({"messages": messages, "tools": tools}))
        command = ["chat", folder, "--messages", chat, "--template", template_file]
        command += ["--template-args", json.dumps(dict(arguments))]
        out = mobe(*command, "--prompt-only", "--json", code=code)
        return out["prompt"] if code == 0 else out

    return render


# A break outside of a loop is a SyntaxError of the Python that jinja2 writes.
REFUSALS = (
    jinja2.TemplateError,
    AttributeError,
    LookupError,
    OverflowError,
    SyntaxError,
    TypeError,
    ValueError,
    ZeroDivisionError,
)


def parsed(messages):
    """The arguments of tool calls in OpenAI's form, as vLLM gives them to a template."""
    messages = json.loads(json.dumps(messages))
    for message in messages:
        for call in message.get("tool_calls") or []:
            if isinstance(call["function"]["arguments"], str):
                call["function"]["arguments"] = json.loads(call["function"]["arguments"])
    return messages


def theirs(template, messages, tools=None, arguments=()):
    """The same with transformers; None where it fails. Templates that can't do with
    objects as arguments have them as they are."""
    prompt = render(template, parsed(messages), tools, arguments)
    return render(template, messages, tools, arguments) if prompt is None else prompt


def render(template, messages, tools=None, arguments=()):
    variables = {"add_generation_prompt": True, **SPECIAL, **dict(arguments)}
    try:
        rendered, _ = render_jinja_template(
            conversations=[messages], tools=tools, chat_template=template, **variables
        )
    except REFUSALS:
        return None
    return rendered[0]


def compare(ours, template, messages, tools=None, arguments=()):
    """Whether both render it, with the same text; they may both refuse it."""
    expected = theirs(template, messages, tools, arguments)
    if expected is None:
        message = ours(template, messages, tools, arguments, code=1)
        assert "chat template: line " in message and message.count("\n") == 1
    else:
        assert ours(template, messages, tools, arguments) == expected
    return expected is not None


def check_template(ours, template):
    rendered = 0
    for messages in CONVERSATIONS.values():
        for arguments in ARGUMENTS:
            for tools in (None, TOOLS):
                rendered += compare(ours, template, messages, tools, arguments)
    assert rendered >= 60  # of 96; some conversations do not suit some templates


NAMES = ["think", "plain", "calls", "parts", "macros", "roles"]


@pytest.mark.parametrize("name", NAMES)
def test_families(ours, data, name):
    check_template(ours, (data / f"chat/{name}.jinja").read_text())


def test_every_template_is_listed(data):
    assert sorted(NAMES) == sorted(p.stem for p in (data / "chat").glob("*.jinja"))


def test_published(ours, shared):
    folder = shared / "data/tokenizers"
    templates = [
        json.loads(path.read_text()).get("chat_template")
        for path in folder.glob("*/tokenizer_config.json")
    ]
    templates = [template for template in templates if isinstance(template, str)]
    if not templates:
        pytest.skip(f"no chat template in {folder}")
    for template in templates:
        check_template(ours, template)


# Expressions, each printed; `m` is the first message, `q` its content, "It's 1\u00e9 ".
EXPRESSIONS = r"""
1 + 2 * 3 - 4 // 3, 7 // -2, -7 // 2, -7 % 3, 7 % -3, 7.5 % -2, 2 ** 10, 2 ** -1, -2 ** 2
2 ** 3 ** 2, 1 / 2, 4 / 2, 1e16, 1.0, 1e15, 1e-4, 1e-5, 0.1 + 0.2, -0.0, 123456789.125, 5e-324
10 // 0.3, True + 1, true, none, None, not 1, +3, - 3, 3 == 3.0, True == 1, 'a' * 3, 2 * [1]
1 < 2 < 3, 1 < 3 < 2, 'a' < 'b', [1, 2] < [1, 3], 1 != 1, 'a' in 'cat', 1 in [1], 'r' in {'r': 1}
'a' not in 'b', not 'a' in 'a', undefined_name in [1], 1 in undefined_name, 'role' in m
1 if true else 2, (1 if false), 1 if false else 2 if false else 3, 'x' if undefined_name else 'y'
0 or 'a', '' or 0, 1 and 2, 0 and 2, undefined_name or 3, not undefined_name
'a' ~ 1 ~ none ~ true ~ 1.0 ~ undefined_name ~ [1], 'a' 'b'
(1,), (), (1, 2), [], [1, 'a', "it's", '"', 'both\'"', none, 1.5], {'a': 1, "b": [2]}, {}
"\n\t\\\x41\u00e9\U0001F600\101\q", 'a\'b', "a\"b", '\r'
q, [q], q[0], q[-1], q[1:3], q[::-1], q[:-1], q[::2], q[-3:], q[10:], q[99], q['x']
[1, 2, 3][::-1], [1, 2, 3][1:], [1, 2, 3][-2:], [1, 2, 3][5:1:-2], [1, 2][1], [1, 2][-1], [1][7]
messages[0].role, messages[-1]['role'], m.nothing, m['nothing'], m.get('role'), m.get('x')
m.get('x', 1), m.keys() | list, m.values() | list, m.items() | list, none.x, 1.x, (1).x
'a,b,,c'.split(','), 'a,b,c'.split(',', 1), 'a,b,c'.rsplit(',', 1), ' a  b c '.split()
' a  b c '.split(none, 1), ' a  b c '.rsplit(none, 1), ''.split(), ''.split(','), 'a'.split('bc')
'xxaxx'.strip('x'), 'xyaxy'.lstrip('yx'), 'xyaxy'.rstrip('yx'), ' \n a\u00a0\u3000'.strip()
'\x1c\x1da\x85'.strip(), 'abc'.startswith('ab'), 'abc'.startswith(('x', 'a')), 'abc'.endswith('bc')
'aaa'.replace('a', 'b'), 'aaa'.replace('a', 'b', 1), 'abc'.replace('', '-'), 'abc'.replace('', '-', 2)
'Straße É'.upper(), 'ÉÀ I'.lower(), "it's a éTEST x1y".title(), 'éCOLE Ab'.capitalize()
'a\nb\r\nc\u2028d\n'.splitlines(), ','.join(['a', 'b']), 'banana'.count('an'), 'éa'.find('a')
'abc'.find('x'), 'prefix'.removeprefix('pre'), 'prefix'.removesuffix('fix'), '12'.isdigit()
[1, 2, 1].count(1), [1, 2].index(2), 'a'.upper().lower() | upper
q | length, [] | length, m | length, undefined_name | length, q | first, [1, 2] | last, [] | first
q | trim, ' a ' | trim, 'xax' | trim('x'), 5 | trim, none | trim, undefined_name | trim
q | upper, q | lower, 'a b' | capitalize, 5 | string, none | string, [1, 'a'] | string | length
'12' | int, 'x' | int, 'x' | int(7), 3.9 | int, '3.9' | int, -3.9 | int, true | int, none | int
'1.5' | float, 'x' | float, 3 | float, ' 12 ' | int, '+3' | int, -3 | abs, -2.5 | abs
x | default('d'), q | default('d'), '' | default('d'), '' | default('d', true), none | d(1)
[1, 2] | join, [1, none] | join('-'), messages | join(',', attribute='role'), 'abc' | join('.')
messages | map(attribute='role') | list, ['a', 'b'] | map('upper') | list, [1, 2] | map('string') | join
messages | map(attribute='zz', default='n') | join, ['a b'] | map('replace', 'a', 'c') | list
messages | selectattr('role', 'equalto', 'user') | list | length, messages | selectattr('zz') | list
messages | rejectattr('role', '==', 'user') | list, [0, 1, 2] | select | list, [0, 1, none] | reject | list
[1, 2, 3] | select('odd') | list, [1, 2, 3] | reject('divisibleby', 2) | list, [3, 5] | select('gt', 3) | list
messages | selectattr('role', 'defined') | list | length, [1, 2] | reverse | list, 'abc' | reverse
'a' | list, m | list, {'b': 1, 'a': 2} | items | list, undefined_name | items | list, undefined_name | list
'a\n\nb' | indent, 'a\n\nb\n' | indent(2, true), 'a\n\nb' | indent(2, blank=true), 'a\nb' | indent('> ')
q | replace('1', '22'), (q | safe) ~ '', 'a<b>&' | tojson, "é\u2028\x01\x7f'" | tojson
{'b': [1, 2.0, true, none], 'a': {}} | tojson, {'b': [1, {'c': []}], 'a': {}} | tojson(indent=2)
{'b': 1, 'a': 'é'} | tojson(sort_keys=true, ensure_ascii=true), [1, {'a': 2}] | tojson(separators=(',', ':'))
[1] | tojson(indent=4, separators=(',', ':')), '\U0001F600' | tojson(ensure_ascii=true), (1, 2) | tojson
none is none, none is defined, x is defined, x is not defined, x is undefined, q is string, m is mapping
[] is sequence, m is sequence, q is sequence, 1 is sequence, x is sequence, q is iterable, 1 is iterable
1 is number, true is number, 'a' is number, 1.5 is float, true is integer, 1 is integer, false is boolean
true is true, 1 is true, false is false, 3 is odd, 3 is divisibleby 3, 3 is divisibleby(2), 2 is even
1 is eq 1, 1 is ne(2), 1 is lt 2, 2 is ge(2), 'a' is in ['a'], range is callable, 1 is not none
range(3) | list, range(1, 3) | list, range(5, 0, -2) | list, range(0) | list, dict(a=1), dict({'a': 1}, b=2)
namespace(a=1).a, namespace({'a': 2}).a, namespace().a is defined, strftime_now('%%'), strftime_now('%Y') | length
messages[1:] | length, messages[::-1][0].role, tools is none, tools is defined, documents is none
'1_000' | int, '1__0' | int(5), '_1' | int(5), '1_' | int(5), '1_0.5' | float, '1_.5' | float(7)
'\u0663' | int, '\u0663.5' | float, '- 5' | int(9), '+-5' | int(9), '-+5' | int(9), '1e3' | int
(q[:0] ~ '1e400') | float, '1e400' | int(3), '1e-400' | float, (q[:0] ~ '-inf') | float, 'nan(1)' | float(3), '' | float(3)
9007199254740993 == 9007199254740992.0, 9007199254740993 > 9007199254740992.0, 2 < 2.5, -1 > -1.5
-0.0 // 1, -7.5 // 2, 0.0 % -1, (1e300 * q | length) // 1e-10, 1 // 0.1, 0 // -1.0, (-8) ** 2.0, (-8.0) ** 3, 2 ** 0.5
'\u0391\u03a3'.title(), '\u0391\u03a3 \u0392\u03a3' | capitalize, 'a\u0130'.title(), '\u01c6a'.title()
'\u00b23'.isdigit(), '\u00bd'.isdigit(), '\u0663'.isdigit(), ('x' | safe) ~ '<', 1 if 'x' | safe or 0
strftime_now('%Z|%z%%Z'), strftime_now('%f') | length, lipsum is defined, cycler is callable
'aba' | replace('a', 'b', count=1), 'a,b'.split(sep=',', maxsplit=1)
bos_token, eos_token, pad_token is defined, additional_special_tokens, add_generation_prompt
[3, 1, 2] | sort, ['b', 'A', 'c'] | sort, ['b', 'A'] | sort(case_sensitive=true), [1, 2] | sort(reverse=true)
messages | sort(attribute='role') | length, [{'a': 2, 'b': 1}, {'a': 1, 'b': 2}, {'a': 1, 'b': 1}] | sort(attribute='a,b')
{'b': 1, 'A': 2, 'c': 0} | dictsort, {'b': 1, 'A': 2} | dictsort(true), {'b': 1, 'A': 2} | dictsort(false, 'value')
{'a': 1, 'b': 2} | dictsort(reverse=true), [2, 1] | min, [2, 1] | max, [] | min, ['b', 'A'] | min, ['b', 'A'] | max(true)
[{'n': 2}, {'n': 1}] | min(attribute='n'), [1, 2, 1, 1.0, true] | unique | list, ['a', 'A'] | unique | list, ['a', 'A'] | unique(true) | list
[1, 2.5] | sum, [] | sum, [[1], [2]] | sum(start=[]), [{'n': 1}, {'n': 2}] | sum(attribute='n')
42.55 | round, 42.55 | round(1), 2.675 | round(2), 2.5 | round, 3.5 | round, 42.55 | round(1, 'floor'), 42.51 | round(0, 'ceil')
5 | round, 5 | round(1), -2.5 | round, true | round, 7 | round(0, 'ceil'), -0.4 | round
[{'r': 'a', 'n': 1}, {'r': 'B'}, {'r': 'A'}] | groupby('r'), [{'r': 1}, {}] | groupby('r', default=0)
[1, 2, 3, 4, 5] | batch(2) | list, [1, 2, 3] | batch(2, 'x') | list, [1, 2, 3, 4, 5] | slice(2) | list, [1, 2, 3] | slice(2, 0) | list
"it's a-b (c) e\u00c9" | title, 'ab' | center(7), 'abc' | center(6), "a b_c, d-e 1" | wordcount
'foo bar baz qux' | truncate(9), 'foo bar baz qux' | truncate(9, true), 'foo bar baz qux' | truncate(11), 'foo bar' | truncate(6, false, '..', 0)
'%s-%d' | format('a', 3), '%(a)s' | format(a=1), '<&>"\'' | e, '<' | escape | e, ('<' | e) | forceescape
'%5.2f|%-5s|%05d|%x|%X|%o|%e|%g|%c|%%|%r' % (3.14159, 'a', 42, 255, 255, 8, 12345.678, 0.0001, 'x', 'q')
'%s' % 1, '%+d|% d' % (1, 2), '%(a)s %(b)03d' % {'a': 'x', 'b': 7}, '%.2s|%3s' % ('abc', '\u00e9'), '%*d' % (5, 42), '%.3d|%#x|%d' % (5, 255, 2.7), 'a' % [], 'a' % {}
'{} {}'.format(1, 'a'), '{1}{0}'.format('a', 'b'), '{a}'.format(a=1), '{0.role} {0[content]}'.format(m), '{0[1]}{0[0]}'.format([1, 2])
'{:>5}|{:<5}|{:^5}|{:*^7}|{:\u00e9^4}'.format('a', 'b', 'c', 'd', 'e'), '{:05}|{:<05}|{:3}'.format('a', 'b', 'long'), '{:.3}'.format('abcdef')
'{:05d} {:+.2f} {:,} {:_} {:x} {:#X} {:b}'.format(42, 3.14159, 1234567, -1234567, 255, 255, 5), '{:e} {:.1%} {:g} {:10.3f}|{:<8}|{:=+5}'.format(12345.678, 0.25, 1e-7, 2.5, 1.5, 3)
'{!r:>6} {!s} {{}} {:{}}|'.format('a', none, 'b', 5), '{:5}|{:5}|{}'.format(true, 1, true), '{:d}'.format(true), '{:,.2f} {:,}'.format(1234567.891, 1234.5), '{:c}|{:3c}'.format(65, 66)
'{}{}'.format(undefined_name, [1]), '{0[x]}{1[9]}'.format({}, []), {1: 2}[[]], '{0.__class__}'.format(1), '{:-^10,}'.format(12345), '{:_x}'.format(1048575), '{:%}'.format(1)
{1: 'a', 2.5: 'b', none: 'd', (1, 2): 'e'}, {1: 'a', true: 'c', 1.0: 'd'}, {1: 'a'}[1], {1: 'a'}[1.0], {1: 'a'}[true], {1: 'a'}.get(1), {1: 'a'}.get('1'), {1: 'a'}['1']
{0: 1, 512: 2, 16: 3} | dictsort, {1: 2} | tojson, {none: 1, true: 2, 1.5: 3} | tojson, 1 in {1: 2}, '1' in {1: 2}, {1: 2} == {1.0: 2}, {(1,): 2} == {(1,): 2}, {(1,): 2} == {(2,): 2}
{1: 2} | items | list, {2: 1, 1: 2} | list, dict({1: 2}), {2: 1, 1: 0} | tojson(sort_keys=true), {1: 2}.items() | list, {1: 2} | length, {1: 2} | first
('a' | safe) + '<', '<' + 'a' | safe, ('<' | safe) + ('>' | safe), ('a' | safe).upper(), ('ab' | safe)[0], ('a b' | safe).split(), ('a' | safe) * 2, ('<' | safe) | upper
('<' | safe) ~ '>', ('a' | safe) == 'a', ('<' | safe) | length, ('<' | safe) | string, [('<' | safe), '>'] | join('&'), ('<' | safe) | replace('<', '>'), {'a': '<' | safe}.a + '>', ('<' | safe) | trim
123456789012345678901234567890, -123456789012345678901234567890, 18446744073709551615, 1 < 123456789012345678901, 123456789012345678901 == 123456789012345678901, -9223372036854775808
123456789012345678901 is integer, 123456789012345678901 is number, [123456789012345678901] | tojson, '0123456789012345678901' | int, 123456789012345678901 > 1e20, 100000000000000000000 == 1e20
123456789012345678901 | string | length, 1e22 | int, '1e22' | int, -123456789012345678901 | abs, 123456789012345678901 | float, {123456789012345678901: 1} | tojson, '%d' % 123456789012345678901
9007199254740993 / 3, 9223372036854775807 / 2, -7 / 2, 9223372036854775807 / 9223372036854775806, 0 / 5, 4611686018427387905 / 9007199254740993, 9007199254740993 / 1, true / 2
range(3), range(1, 10, 2), range(5)[1:3], range(10)[::2], range(10)[::-1], range(5)[3:], range(0)
'a'.center(5), 'ab'.center(5, '*'), 'a'.ljust(3) ~ '|', 'a'.rjust(3), '-5'.zfill(4), '+a'.zfill(5), 'abc'.index('c'), 'abcabc'.rfind('b'), 'abcabc'.rindex('c'), '\u00e9a\u00e9'.rfind('\u00e9'), 'abc'.rfind('')
'a-b-c'.partition('-'), 'a-b-c'.rpartition('-'), 'abc'.partition('x'), 'abc'.rpartition('x'), 'a1'.isalnum(), 'a\u00e9'.isalpha(), 'a'.isascii(), '\u00e9'.isascii(), '\u00b2'.isdecimal()
'ab'.islower(), 'aB'.islower(), 'A1'.isupper(), '1'.isupper(), '\u00bd'.isnumeric(), ''.isalpha(), [1].copy(), {'a': 1}.copy(), 'a' is lower, 'A' is upper, '1' is lower
none is sameas none, true is sameas(true), 1 is sameas true, m | attr('get') is callable, (m | attr('role')) is defined
""".strip().splitlines()


FIRST = {"role": "user", "content": "It's 1\u00e9 ", "n": 1.0}


@pytest.mark.parametrize("line", EXPRESSIONS)
def test_expressions(ours, line):
    template = (
        "{% set m = messages[0] %}{% set q = m.content %}{% for v in [" + line + "] %}"
        "{{ v }}|{{ [v] if v is defined }}\n{% endfor %}"
    )
    assert compare(ours, template, [FIRST, user("x")])


# Templates whose white space, scopes or control flow are easily got wrong.
TEMPLATES = [
    "a\n",
    "a\n\n",
    "a\r\nb\rc\r\n",
    "  {% if true %}\n  a\n  {% endif %}\n  b\n",
    "  {%+ if true %}\n  a\n  {%+ endif %}\n  b\n",
    "x  {% if true %}  a  {% endif %}  b",
    "x \n\n {%- if true -%} \n a \n {%- endif -%} \n b",
    "x \n {{- 'a' -}} \n y {{ 'b' }}\n {{+ 'c' }}\n",
    "a {# c #} b\n  {# c #}\n  c {#- d -#} e\n\t {#+ x #}\n",
    "{% if true +%}\na{% endif +%}\n\nb",
    "{% if true %}\n\n\na{% endif %}\n\n\nb",
    "\u00a0{% if true %}a{% endif %}\u3000{%- if true %}b{% endif %}",
    "  {{ 'a' }}  \n  {% raw %}  {{ x }} {% if %}\n {% endraw %}\n b",
    "a {%- raw -%} \n {{ x }} {#  {%- endraw -%} \n b",
    "{% raw %}{% endra %}{%endraw%}",
    "{{ '}}' }}{{ '%}' }}{{ {'a': {'b': 1}}.a.b }}{{ {'a': {}} }}{{'{{'}}",
    "{%if true%}{{-1}}{{ -1 }}{{ - 1}}{%endif%}",
    "a { b } c {} { {% if true %}{}{% endif %} }",
    "{% for m in messages %}{{ loop.index }},{{ loop.index0 }},{{ loop.revindex }},"
    "{{ loop.revindex0 }},{{ loop.first }},{{ loop.last }},{{ loop.length }},"
    "{{ loop.previtem.role if loop.previtem is defined }},{{ loop.nextitem is defined }};"
    "{% endfor %}",
    "{% for k, v in messages[0].items() %}{{ k }}={{ v }};{% endfor %}",
    "{% for (k, v) in [[1, 2], (3, 4)] %}{{ k }}={{ v }};{% endfor %}",
    "{% for x in [] %}a{% else %}b{% endfor %}{% for x in [1] %}a{% else %}b{% endfor %}",
    "{% for x in nothing %}a{% else %}b{% endfor %}{% for x in 'ab' %}{{ x }}.{% endfor %}",
    "{% for x in messages[0] %}{{ x }}.{% endfor %}{% for x in 1, 2 %}{{ x }}{% endfor %}",
    "{% for x in [1, 2, 3, 4] if x % 2 == 0 %}{{ x }}:{{ loop.length }}:{{ loop.last }};"
    "{% else %}none{% endfor %}",
    "{% for x in [1, 3] if x % 2 == 0 %}{{ x }}{% else %}none{% endfor %}",
    "{% for x in [1, 2, 3, 4] %}{% if x == 2 %}{% continue %}{% elif x == 4 %}{% break %}"
    "{% endif %}{{ x }}{% endfor %}",
    "{% for x in [1, 2] %}{% for y in [1, 2, 3] %}{% if y == 2 %}{% break %}{% endif %}"
    "{{ x }}{{ y }}{{ loop.index }};{% endfor %}{{ loop.index }}{% endfor %}",
    "{% set x = 1 %}{% for i in [1, 2] %}{{ x }}{% set x = x + 5 %}{{ x }};{% endfor %}{{ x }}",
    "{% set x = 1 %}{% if true %}{% set x = 2 %}{% endif %}{{ x }}",
    "{% set ns = namespace(x=1, l=[]) %}{% for i in [1, 2] %}{% set ns.x = ns.x + i %}"
    "{% set ns.l = ns.l + [i] %}{% endfor %}{{ ns.x }}{{ ns.l }}{{ ns.y is defined }}",
    "{% set ns = namespace(x=1) %}{% set ns.x %}a{{ ns.x }}{% endset %}{{ ns.x }}",
    "{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set t = 1, 2 %}{{ t }}",
    "{% set x %} a {{ 1 }} {% endset %}[{{ x }}]{% set y | trim | upper %} b {% endset %}[{{ y }}]",
    "{% set x %}{% set z = 1 %}{{ z }}{% endset %}{{ x }}{{ z is defined }}",
    "{% with a = 1, b = 2 %}{{ a + b }}{% set c = 3 %}{{ c }}{% endwith %}{{ a is defined }}",
    "{% macro f(a, b=2, c=a) %}{{ a }}{{ b }}{{ c }};{% endmacro %}"
    "{{ f(1) }}{{ f(1, 3) }}{{ f(b=1, a=5) }}{{ f() }}{{ f(1)[0] }}{{ f(1) | length }}",
    "{% macro f(n) %}{{ n }}{% if n > 0 %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(5) }}",
    "{% set x = 1 %}{% macro f() %}{{ x }}{% endmacro %}{{ f() }}{% set x = 2 %}{{ f() }}",
    "{% macro f() %}{% set x = 9 %}{% endmacro %}{% set x = 1 %}{{ f() }}{{ x }}",
    "{% macro f() %}{{ loop is defined }}{% endmacro %}{% for i in [1] %}{{ f() }}{% endfor %}",
    "{% macro f(a) %}{{ a }}{% endmacro %}{% for i in [1, 2] %}{{ f(loop.index) }}{% endfor %}",
    "{% generation %}a{% set x = 1 %}{{ x }}{% endgeneration %}{{ x is defined }}\n",
    "{% for m in messages %}\n{% generation %}\n{{ m.role }}{{ loop.index }}\n"
    "{% endgeneration %}\n{% endfor %}\n",
    "{{ messages | length }}{{ tools }}{{ nothing }}{{ messages[0].nothing }}",
    "{{ messages }}",
    "{% if nothing %}a{% elif not nothing %}b{% else %}c{% endif %}",
    "{{ ('a' if true) ~ ('b' if false) }}",
    "{{ messages[0]['content'][:2] + '...' }}",
    "{{- '\n' + 'a\nb' }}\n{{ 'a\r\nb' | length }}",
    "{% set x = {'get': 1, 'items': 2} %}{{ x['get'] }}{{ x.get('items') }}",
    # else: when no round came to its end.
    "{% for x in [1] %}{% break %}{% else %}E{% endfor %}",
    "{% for x in [1, 2] %}{% continue %}{% else %}E{% endfor %}",
    "{% for x in [1, 2] %}{% if x == 2 %}{% break %}{% endif %}{% else %}E{% endfor %}",
    "{% for x in [1, 2] %}{{ loop.depth }}{{ loop.depth0 }}{{ loop is defined }}{% endfor %}"
    "{{ loop is defined }}",
    # The condition is asked item by item, and what asks `loop` may look ahead.
    "{% set ns = namespace(stop=false) %}{% for m in messages if not ns.stop %}{{ m.role }},"
    "{% set ns.stop = true %}{% endfor %}",
    "{% set ns = namespace(n=0) %}{% for m in messages if ns.n < 3 %}{{ loop.index }},"
    "{% set ns.n = ns.n + 1 %}{% endfor %}",
    "{% set ns = namespace(n=0) %}{% for m in messages if ns.n < 3 %}{{ loop.last }},"
    "{% set ns.n = ns.n + 1 %}{{ loop.nextitem is defined }}{% endfor %}",
    "{% set ns = namespace(n=0) %}{% for m in messages if ns.n < 3 %}"
    "{{ loop.index }}/{{ loop.length }}/{{ loop.revindex }}{{ loop.previtem is defined }},"
    "{% set ns.n = ns.n + 1 %}{% endfor %}",
    # Iterators are true, whatever is in them, and can be gone through once.
    "{% if messages | selectattr('tool_calls') %}T{% else %}F{% endif %}",
    "{% if [] | map('upper') or {} | items %}T{% endif %}{{ not ([] | reverse) }}",
    "{{ not {}.items() }}{{ not range(0) }}{{ not {}.keys() }}{{ not {'a': 1}.values() }}",
    "{% set s = messages | selectattr('role', 'eq', 'user') %}{{ s | list | length }}"
    "{{ s | list | length }}{{ s | first is defined }}{{ 1 in s }}{{ s | join }}",
    "{% set s = [1, 2, 3, 4] | select %}{{ s | first }}{{ 2 in s }}{{ s | list }}",
    "{% set s = [1, 2, 3, 4] | reverse %}{% for x in s %}{{ x }}{{ s | first }};{% endfor %}",
    "{% set s = [1, 2, 3, 4] | map('string') %}{% for x in s %}{{ loop.last }}{{ loop.length }}"
    "{% break %}{% endfor %}{{ s | list }}",
    "{% set s = [1, 2, 3, 4] | map('string') %}{% for x in s %}{{ loop.last }}{% break %}"
    "{% endfor %}{{ s | list }}",
    "{{ ([1] | select)[0] is defined }}{{ ([1, 2] | select | reverse) }}{{ [1] | select == [1] }}",
    "{{ ([1] | select) is iterable }}{{ ([1] | select) is sequence }}{{ {}.keys() is sequence }}",
    "{{ {'a': 1}.keys() }}{{ {'a': 1}.values() }}{{ {'a': 1}.items() }}{{ {}.keys() }}",
    "{{ {'a': 1}.keys() | length }}{{ {'a': 1}.items() | last }}{{ {'a': 1}.values()[0] }}",
    "{{ range(5)[1] }}{{ range(5)[-1] }}{{ range(5) | length }}{{ range(5)[1:3] | list }}"
    "{{ range(3) == range(3) }}{{ range(3) == [0, 1, 2] }}{{ {}.keys() == [] }}",
    "{{ dict({'a': 1, 'b': 2}, a=3) }}{{ 'aaa'.rsplit('aa') }}{{ 'a\x0bb\r\nc' | indent(2) }}",
    # What a block sets before it reads it begins undefined, for the blocks in it.
    "{% for m in [1] %}{{ bos_token }}{% endfor %}{% set bos_token = 1 %}{{ bos_token }}",
    "{{ bos_token }}{% for m in [1] %}{{ bos_token }}{% endfor %}{% set bos_token = 1 %}",
    "{% for m in [1, 2] %}{% for k in [1] %}{{ bos_token }}{% endfor %}"
    "{% set bos_token = m %}{{ bos_token }}{% endfor %}{{ x }}",
    "{% for m in [1] %}{% for k in [1] %}{{ bos_token }}{% endfor %}"
    "{% set bos_token = m %}{% endfor %}{{ bos_token }}",
    "{% if x %}{% set bos_token = 1 %}{% endif %}{% for m in [1] %}{{ bos_token }}{% endfor %}",
    "{% generation %}{{ bos_token }}{% endgeneration %}{% if x %}{% set bos_token = 1 %}"
    "{% elif y %}{% set bos_token = 2 %}{% else %}{% set bos_token = 3 %}{% endif %}",
    "{% with a = 1 %}{{ bos_token }}{% endwith %}{% if x %}{% set bos_token = 1 %}"
    "{% else %}{% set bos_token = 3 %}{% endif %}{{ bos_token }}",
    "{% set y %}{{ bos_token }}{% endset %}{% set bos_token = 1 %}{{ y }}",
    "{% macro f() %}{{ bos_token }}{% endmacro %}{{ f() }}{% set bos_token = 1 %}{{ f() }}",
    "{% macro f(bos_token=2) %}{{ bos_token }}{% endmacro %}{{ f() }}{% set bos_token = 1 %}",
    "{% for i in [1] if bos_token %}{{ i }}{% endfor %}{% set bos_token = 1 %}",
    "{% set (a, b) = (1, 2) %}{% for (c,) in [[a]] %}{{ c }}{% endfor %}{{ b }}",
    "{% for x in [1, 2, 3] %}{{ loop.cycle('a', 'b') }}{{ loop is iterable }}{{ loop is sequence }}"
    "{{ loop is mapping }}{{ loop is callable }}{{ loop is string }}{% endfor %}",
    "{% filter upper | trim %} a{{ 1 }}{% set x = 1 %} {% endfilter %}b{{ x is defined }}",
    "{% set x = '<b>' | safe %}{% set y = x + '<i>' %}{{ y }}{{ y ~ '<u>' }}{{ '&' + y.strip() }}",
    "{% set x | safe %}<b>{% endset %}{{ x + '<' }}{% macro f() %}<{% endmacro %}{{ f() + '>' }}",
    # As Gemma 4 writes the parameters of tools, and Seed-OSS its steps of thinking.
    "{%- macro show(value, escape=True) -%}{%- if value is string -%}"
    "{{- '<|' + value + '|>' if escape else value -}}{%- elif value is mapping -%}<"
    "{%- for k, v in value | dictsort -%}{{ ',' if not loop.first }}{{ k }}:{{ show(v) }}"
    "{%- endfor -%}>{%- elif value is sequence -%}[{%- for v in value -%}{{ show(v) }},"
    "{%- endfor -%}]{%- else -%}{{ value | upper }}{%- endif -%}{%- endmacro -%}"
    "{{ show({'type': 'object', 'Names': ['a', 1, none, true], 'b': {}}) }}",
    "{% set steps = {0: 0, 512: 128, 1024: 256, 16384: 1024} %}{% set ns = namespace(n=none) %}"
    "{% for k, v in steps | dictsort %}{% if ns.n is none and 600 <= k %}{% set ns.n = v %}"
    "{% endif %}{% endfor %}{{ ns.n }}{{ steps[16384] }}{{ steps | max }}",
    "{{ [[1, 2]] | map(attribute='-1') | list }}{{ [[1, 2]] | map(attribute='1') | list }}",
]


@pytest.mark.parametrize("template", TEMPLATES)
def test_templates(ours, template):
    assert compare(ours, template, CONVERSATIONS["turns"])


# What both refuse.
REFUSED = [
    "{{ nothing.x }}",
    "{{ messages[0].x.y }}",
    "{{ nothing + 'a' }}",
    "{{ 'a' + 1 }}",
    "{{ 'a' + none }}",
    "{{ 1 + 'a' }}",
    "{{ nothing() }}",
    "{{ 'a'() }}",
    "{{ nothing | tojson }}",
    "{{ nothing < 1 }}",
    "{{ 'a' < 1 }}",
    "{{ none | length }}",
    "{{ 1 / 0 }}",
    "{{ 1 % 0 }}",
    "{{ 1 in 'abc' }}",
    "{{ 1 in 2 }}",
    "{{ 'a'.split('') }}",
    "{{ raise_exception('no') }}",
    "{{ raise_exception(messages[0].content) }}",
    "{{ messages.append(1) }}",
    "{{ messages[0].update({}) }}",
    "{{ messages[0].pop('role') }}",
    "{{ ''.__class__ }}{{ ''.__class__.__mro__ }}",
    "{% set x.y = 1 %}",
    "{% set x = {} %}{% set x.y = 1 %}",
    "{% set loop = 1 %}{% for i in 3 %}{% endfor %}",
    "{% for a, b in [[1, 2, 3]] %}{% endfor %}",
    "{{ range(1000000000) | length }}",
    "{% macro f(a) %}{% endmacro %}{{ f(1, 2) }}",
    "{% macro f(a) %}{% endmacro %}{{ f(c=2) }}",
    "{% if true %}",
    "{% if %}{% endif %}",
    "{% endif %}",
    "{% for x in [1] %}{% endif %}",
    "{% nonsense %}",
    "{{ 1 | nonsense }}",
    "{{ 1 is nonsense }}",
    "{{ 1 1 }}",
    "{{ (1 }}",
    "{{ 1) }}",
    "{{ 'a }}",
    "{{ a.'b' }}",
    "{{",
    "{%",
    "{% if true %}{{% endif %}",
    "{# a",
    "{% raw %} a",
    "{{ f(*a) }}",
    "{% break %}",
    "{{ 1 ! 2 }}",
    "{{ a = 1 }}",
    "{% set true = 1 %}",
    "{{ -'a' }}",
    "{{ [1, 2][::0] }}",
    "{{ [1] | select | length }}",
    "{{ [1] | select | last }}",
    "{{ [1] | select | tojson }}",
    "{{ ([1] | select) + [1] }}",
    "{{ ([1] | select)[:1] }}",
    "{{ ([1] | select)[0].x }}",
    "{{ range(3) | tojson }}",
    "{{ range(3) + [1] }}",
    "{{ {}.keys() | tojson }}",
    "{{ {}.items() + [] }}",
    "{{ messages[0][:1] }}",
    "{{ nothing[:1] }}",
    "{{ [] in {} }}",
    "{{ x is defined if true else 2 }}",
    "{{ dict(a=1, a=2) }}",
    "{% set a, = [1] %}",
    "{% for a, in [[1]] %}{% endfor %}",
    "{{ 5 | indent }}",
    "{{ nothing | indent }}",
    "{{ 2.0 ** 5000 }}",
    "{{ 'aaa'.replace('a', 'b', count=1) }}",
    "{{ messages[0].get('x', default=1) }}",
    "{{ [1, 'a'] | sort }}",
    "{{ [{}] | unique | list }}",
    "{{ {[]: 1} }}",
    "{{ 1 | dictsort }}",
    "{{ nothing | dictsort }}",
    "{{ ['a'] | sum }}",
    "{{ ['a'] | sum(start='') }}",
    "{{ [1, none] | max }}",
    "{{ 'a' | round }}",
    "{{ 1 | round(0, 'up') }}",
    "{{ '%d' % 'a' }}",
    "{{ '%x' % 1.5 }}",
    "{{ '%s %s' % 'a' }}",
    "{{ '%s' % ('a', 'b') }}",
    "{{ 'a' % 1 }}",
    "{{ '%(a)s' % {'b': 1} }}",
    "{{ '%(a)s' % 1 }}",
    "{{ '%y' % 1 }}",
    "{{ '{} {}'.format(1) }}",
    "{{ '{0} {}'.format(1, 2) }}",
    "{{ '{a}'.format(b=1) }}",
    "{{ '{:d}'.format('a') }}",
    "{{ '{:.1d}'.format(1) }}",
    "{{ '{:=5}'.format('a') }}",
    "{{ '{:5}'.format(none) }}",
    "{{ '{'.format() }}",
    "{{ '}'.format() }}",
    "{{ '{0[x].y}'.format({}) }}",
    "{{ {1: 2}.get([]) }}",
    "{{ {(1, 2): 3} | tojson }}",
    "{{ {1: 2, 'a': 3} | tojson(sort_keys=true) }}",
    "{{ 'abc'.index('x') }}",
    "{{ 'a'.partition('') }}",
    "{{ ('a' | safe) + 1 }}",
    "{{ 1 + ('a' | safe) }}",
    "{% for x in [1] %}{{ loop.cycle() }}{% endfor %}",
    "{{ (1, 2).copy() }}",
]


# What only mobe refuses, since it would print or be something else.
UNSUPPORTED = [
    "{{ [1] | select }}",
    "{% for x in [1] %}{{ loop }}{% endfor %}",
    "{% for x in [1] %}{{ loop | length }}{% endfor %}",
    "{% for x in [1] %}{{ loop['index'] }}{% endfor %}",
    "{% for x in [1] %}{% set l = loop %}{{ l.index }}{% endfor %}",
    "{% macro f() %}{% endmacro %}{{ f.name }}",
    "{{ {'a': 1}.keys() == {'a': 2}.keys() }}",
    "{{ 123456789012345678901 + 1 }}",
    "{{ 123456789012345678901 * 1.0 }}",
    "{{ 123456789012345678901 is even }}",
    "{{ '{:.3}'.format(1.5) }}",
    "{{ '{:n}'.format(1) }}",
    "{{ 15 | round(-1) }}",
    "{{ ([{'a': 1}] | groupby('a'))[0].grouper }}",
    "{{ [nothing] | unique | list }}",
    "{{ 300 is sameas 300 }}",
    "{{ 'a' | xmlattr }}",
    "{{ (-8) ** 0.5 }}",
    "{{ 'stra\u00dfe'.title() }}{{ '\u00dfa'.title() }}",
    "{{ '\ufb01x' | capitalize }}",
    "{{ ('a' | safe).replace('a', '<') }}",
    "{{ ('%s' | safe) % '<' }}",
    "{{ ('{}' | safe).format('<') }}",
    "{{ true.real }}{{ (1).real }}",
    "{% macro f() %}{{ varargs }}{% endmacro %}{{ f() }}",
    "{{ cycler(1, 2) }}",
    "{{ ''.upper == ''.upper }}",
    "{{ '\\\u00e9' }}",
    "{% set a = [1] | select %}{% set b = a | map('string') %}{{ a | list }}{{ b | list }}",
]


@pytest.mark.parametrize("template", UNSUPPORTED)
def test_unsupported(ours, template):
    assert "chat template: line 1: " in ours(template, [user("x")], code=1)


@pytest.mark.parametrize("template", REFUSED)
def test_refused(ours, template):
    assert not compare(ours, template, CONVERSATIONS["hostile"])


# What mobe refuses though jinja2 might do it: it must say so in one line.
BOUNDED = {
    "time": "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}",
    "size": "{% set ns = namespace(x='x') %}{% for i in range(60) %}"
    "{% set ns.x = ns.x + ns.x %}{% endfor %}",
    "shared lists": "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}"
    "{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}",
    "repeat": "{{ 'x' * 100000000000 }}",
    "indent": "{{ [[1]] | tojson(indent=100000000) }}",
    "replace": "{{ ('x' * 100000).replace('', 'x' * 100000) }}",
    "join": "{{ (['x'] * 10000) | join('x' * 100000) }}",
    "nested values": "{% set ns = namespace(x=[]) %}{% for i in range(2000) %}"
    "{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x }}",
    "recursion": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "parentheses": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "lists": "{{ " + "[" * 5000 + "]" * 5000 + " }}",
    "not": "{{ " + "not " * 5000 + "1 }}",
    "minus": "{{ " + "-" * 5000 + "1 }}",
    "chain": "{{ x" + ".x" * 5000 + " }}",
    "sum": "{{ 1" + " + 1" * 5000 + " }}",
    "filters": "{{ 1" + " | string" * 5000 + " }}",
    "blocks": "{% if 1 %}" * 5000 + "{% endif %}" * 5000,
    "integers": "{{ 9223372036854775807 + 1 }}",
    "power": "{{ 10 ** 1000000000 }}",
    "import": "{% import 'x' as y %}",
    "include": "{% include '/etc/passwd' %}",
    "block": "{% block a %}{% endblock %}",
    "casefold": "{{ 'a'.casefold() }}",
    "width": "{{ '{:1000000000}'.format(1) }}{{ '%1000000000d' % 1 }}",
    "precision": "{{ '{:.1000000000f}'.format(1.0) }}",
    "zfill": "{{ 'a'.zfill(1000000000) }}",
    "sort": "{% set x = range(99999) | list %}{% for i in x %}{% set y = x | sort %}{% endfor %}",
    "batch": "{{ [1] | batch(1000000000, 0) | list }}",
    "slice": "{{ [1] | slice(1000000000) | list }}",
}


@pytest.mark.parametrize("name", BOUNDED)
def test_bounded(ours, name):
    message = ours(BOUNDED[name], [user("x")], code=1)
    assert "chat template: line 1: " in message and message.count("\n") == 1
    assert len(message) < 500


def test_named_templates(mobe, folder, tmp_path):
    config = dict(TOKENS)
    config["chat_template"] = [
        {"name": "tool_use", "template": "T{{ tools | length }}"},
        {"name": "default", "template": "D{{ bos_token }}"},
    ]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    chat = tmp_path / "chat.json"
    command = ["chat", tmp_path, "--messages", chat, "--prompt-only"]
    chat.write_text(json.dumps([user("x")]))
    assert mobe(*command) == "D<s>"
    chat.write_text(json.dumps({"messages": [user("x")], "tools": TOOLS}))
    assert mobe(*command) == "T2"
    # A file of its own comes first.
    (tmp_path / "chat_template.jinja").write_text("J{{ eos_token }}")
    assert mobe(*command) == "J</s>"


def test_no_template(mobe, folder, tmp_path):
    chat = tmp_path / "chat.json"
    chat.write_text(json.dumps([user("x")]))
    message = mobe("chat", folder, "--messages", chat, "--prompt-only", code=1)
    assert "has no chat template" in message and "--template" in message


BAD = [[], {}, "x", [1], {"messages": 1}, None, {"messages": [user("x")], "tools": "x"}]


@pytest.mark.parametrize("messages", BAD)
def test_bad_messages(mobe, folder, tmp_path, messages):
    chat, template = tmp_path / "chat.json", tmp_path / "template.jinja"
    chat.write_text(json.dumps(messages))
    template.write_text("x")
    command = ["chat", folder, "--messages", chat, "--template", template]
    message = mobe(*command, "--prompt-only", code=1)
    assert ": the " in message or "expected a list of messages" in message
    assert message.count("\n") == 1


@pytest.mark.parametrize(
    "config, mapped",
    [
        ({"bos_token": "<B>"}, {"bos_token": "<MB>", "eos_token": {"content": "<ME>"}}),
        ({"bos_token": None}, {"bos_token": "<MB>"}),
        ({"added_tokens_decoder": {}, "bos_token": "<B>"}, {"eos_token": "<ME>"}),
        ({"extra_special_tokens": {"image_token": "<img>"}}, {}),
        ({"tokenizer_class": "Qwen2Tokenizer", "bos_token": None}, {}),
        ({"tokenizer_class": "LlamaTokenizerFast", "eos_token": "<E>"}, {}),
        (
            {"additional_special_tokens": ["<1>", "<2>"]},
            {"additional_special_tokens": ["<2>", "<3>"]},
        ),
    ],
)
def test_special_tokens_are_those_of_transformers(mobe, models, tmp_path, config, mapped):
    """Where files and class name different ones."""
    folder = tmp_path / "model"
    folder.mkdir()
    names = [f"{name}_token" for name in "bos eos unk pad image".split()]
    template = "|".join("{{ %s }}" % name for name in names)
    template += "{% for token in additional_special_tokens or [] %}{{ token }},{% endfor %}"
    for name in ("config.json", "tokenizer.json"):
        (folder / name).write_bytes((models / "mini-qwen3-moe" / name).read_bytes())
    config = {"tokenizer_class": "PreTrainedTokenizerFast", **config}
    config["chat_template"] = template
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "special_tokens_map.json").write_text(json.dumps(mapped))
    messages = folder / "messages.json"
    messages.write_text(json.dumps([user("x")]))
    ours = mobe("chat", folder, "--messages", messages, "--prompt-only", "--json")["prompt"]

    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert ours == tokenizer.apply_chat_template([user("x")], tokenize=False)


def test_special_tokens_of_a_wrong_type(mobe, folder, tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    for tokens, message in (
        ("abc", '"additional_special_tokens" is "abc", expected a list of tokens'),
        ([None], '"additional_special_tokens" has null, expected a token'),
    ):
        config = {"chat_template": "x", "additional_special_tokens": tokens}
        (model / "tokenizer_config.json").write_text(json.dumps(config))
        chat = tmp_path / "chat.json"
        chat.write_text(json.dumps([user("x")]))
        assert message in mobe("chat", model, "--messages", chat, "--prompt-only", code=1)


NAMED = {"default": "CD{{ bos_token }}", "tool_use": "CT{{ tools | length }}", "rag": "CR"}
LISTED = [{"name": name, "template": text} for name, text in NAMED.items()]
# What lies in a model's folder: chat_template of tokenizer_config.json, the text of
# chat_template.jinja, and additional_chat_templates/.
PLACES = [
    ("CD", None, {}),
    (LISTED, None, {}),
    (NAMED, None, {}),
    (LISTED[1:], None, {}),
    (None, "RD", {}),
    ("CD", "RD", {}),
    (LISTED, "RD", {}),
    ("CD", None, {"tool_use": "AT"}),
    (LISTED, None, {"tool_use": "AT"}),
    (None, None, {"tool_use": "AT", "default": "AD"}),
    (None, "RD", {"tool_use": "AT", "rag": "AR"}),
    (None, "RD", {"default": "AD"}),
]


@pytest.mark.parametrize("config, root, more", PLACES)
def test_templates_are_found_where_transformers_finds_them(
    mobe, models, tmp_path, config, root, more
):
    from transformers import AutoTokenizer

    folder = tmp_path / "model"
    (folder / "additional_chat_templates").mkdir(parents=True)
    for name in ("config.json", "tokenizer.json"):
        (folder / name).write_bytes((models / "mini-qwen3-moe" / name).read_bytes())
    tokens = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>"}
    tokens.update({"chat_template": config} if config else {})
    (folder / "tokenizer_config.json").write_text(json.dumps(tokens))
    if root:
        (folder / "chat_template.jinja").write_text(root)
    for name, text in more.items():
        (folder / f"additional_chat_templates/{name}.jinja").write_text(text)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    chat = tmp_path / "chat.json"
    for tools in (None, TOOLS):
        for name in (None, "rag"):
            try:
                found = tokenizer.get_chat_template(name, tools)
                expected = tokenizer.apply_chat_template(
                    [user("x")], tools=tools, chat_template=found, tokenize=False
                )
            except ValueError:
                expected = None
            if expected == name == "rag":
                expected = None  # taken for a template
            chat.write_text(json.dumps({"messages": [user("x")], "tools": tools}))
            command = ["chat", folder, "--messages", chat, "--prompt-only"]
            command += ["--template", name] if name else []
            prompt = mobe(*command, code=0 if expected else 1)
            assert prompt == expected or not expected, (name, tools)


def test_lost_templates_are_not_passed_over(mobe, tmp_path):
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": "C"}))
    (tmp_path / "additional_chat_templates").symlink_to("../lost")
    chat = tmp_path / "chat.json"
    chat.write_text(json.dumps([user("x")]))
    error = mobe("chat", tmp_path, "--messages", chat, "--prompt-only", code=1)
    assert "additional_chat_templates: cannot be reached: No such file" in error


def test_a_processors_template_is_the_last_one_to_be_read(mobe, folder, tmp_path):
    (tmp_path / "chat_template.json").write_text(json.dumps({"chat_template": "P"}))
    chat = tmp_path / "chat.json"
    chat.write_text(json.dumps([user("x")]))
    command = ["chat", tmp_path, "--messages", chat, "--prompt-only"]
    assert mobe(*command) == "P"
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": "C"}))
    assert mobe(*command) == "C"


def test_arguments_in_a_string_are_parsed(ours):
    template = "{{ messages[1].tool_calls[0].function.arguments | tojson }}"
    for given, expected in (
        ('{"where": "K\u00f6ln", "n": 123456789012345678901}', None),
        ("", "{}"),
        (None, "{}"),
    ):
        messages = [user("x"), answer(None, tool_calls=[call("f", given)])]
        assert ours(template, messages) == (expected or given)
    messages = [user("x"), answer(None, tool_calls=[call("f", "{'a': 1}")])]
    message = ours(template, messages, code=1)
    assert "messages[1].tool_calls[0]: arguments: invalid JSON" in message


def test_a_template_that_wants_a_text_gets_the_arguments_as_they_are(ours):
    template = "{{ '(' + messages[0].tool_calls[0].function.arguments + ')' }}"
    messages = [answer(None, tool_calls=[call("f", '{"a":1}')])]
    assert ours(template, messages) == '({"a":1})'


def test_thoughts_arrive_under_each_name(ours):
    names = ["reasoning", "reasoning_content", "thinking"]
    for given in names:
        messages = [answer("Yes.", **{given: "Hm"})]
        for read in names:
            for template in ("{{ m.%s }}", "{{ m['%s'] }}", "{{ m.get('%s') }}"):
                template = "{% set m = messages[0] %}" + template % read
                assert ours(template, messages) == "Hm"
        # What shows all of a message shows what was given.
        assert ours("{{ messages[0] | length }}{{ thinking }}", messages) == "3"


def test_many_keys(mobe, folder, tmp_path):
    """Added tokens are many; a message of many keys would take minutes."""
    model = tmp_path / "model"
    model.mkdir()
    added = {str(i): {"content": f"<{i}>"} for i in range(200_000)}
    config = {"chat_template": "x", "added_tokens_decoder": added}
    (model / "tokenizer_config.json").write_text(json.dumps(config))
    chat = tmp_path / "chat.json"
    chat.write_text(json.dumps([user("x")]))
    options = ["chat", model, "--messages", chat, "--prompt-only"]
    assert mobe(*options) == "x"
    chat.write_text(json.dumps([{str(i): i for i in range(10_001)}]))
    assert "an object of more than 10000 keys" in mobe(*options, code=1)
