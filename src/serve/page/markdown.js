// Markdown as DOM nodes. Written by hand: the packaged libraries write HTML,
// which has to be parsed and cleaned again before a browser may see what a model
// wrote. Here there is no HTML at any time, so nothing to clean. It knows what
// models write: paragraphs, headings, lists, quotes, tables, rules, fenced code.
import { copyButton, el } from "./dom.js";
import { inline } from "./inline.js";

const kFence = /^ {0,3}(`{3,}|~{3,})([^`]*)$/;
const kHeading = /^ {0,3}(#{1,6})(?:[ \t]+(.*))?$/;
const kRule = /^ {0,3}([-*_])(?:[ \t]*\1){2,}[ \t]*$/;
const kQuote = /^ {0,3}> ?/;
const kItem = /^ {0,3}([-*+]|\d{1,9}[.)])(?:[ \t]+|$)/;
const kDashes =
  /^ {0,3}\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$/;
// Deeper quotes and lists are paragraphs.
const kDepth = 8;

const isBlank = (line) => line.trim() === "";
const indentOf = (line) => line.length - line.trimStart().length;

function linesOf(text) {
  const lines = [];
  for (let at = 0; at < text.length; ) {
    const end = text.indexOf("\n", at);
    const stop = end < 0 ? text.length : end;
    const line = text
      .slice(at, stop)
      .replace(/\r$/, "")
      .replace(/^\t+/, (tabs) => "    ".repeat(tabs.length));
    lines.push({ line, at });
    at = stop + 1;
  }
  return lines;
}

const isTable = (lines, i) =>
  lines[i].line.includes("|") &&
  i + 1 < lines.length &&
  kDashes.test(lines[i + 1].line) &&
  cellsOf(lines[i].line).length === cellsOf(lines[i + 1].line).length;

// What ends a paragraph without a blank line.
function interrupts(lines, i) {
  const { line } = lines[i];
  if (kFence.test(line) || kHeading.test(line) || kQuote.test(line)) return true;
  if (kRule.test(line) || isTable(lines, i)) return true;
  const item = kItem.exec(line);
  return item !== null && item[0].length < line.length && /^([-*+]|1\D)/.test(item[1]);
}

// Each reader below returns a block and the index of the line behind it.

function readCode(lines, i) {
  const [, mark, language] = kFence.exec(lines[i].line);
  const indent = indentOf(lines[i].line);
  const code = [];
  for (++i; i < lines.length; ++i) {
    const { line } = lines[i];
    const end = kFence.exec(line);
    if (end && end[1].startsWith(mark) && isBlank(end[2])) {
      ++i;
      break;
    }
    code.push(line.slice(Math.min(indent, indentOf(line))));
  }
  return [{ kind: "code", language: language.trim(), text: code.join("\n") }, i];
}

function readQuote(lines, i, depth) {
  const inner = [];
  for (; i < lines.length && kQuote.test(lines[i].line); ++i) {
    inner.push(lines[i].line.replace(kQuote, ""));
  }
  return [{ kind: "quote", blocks: parse(inner.join("\n"), depth + 1) }, i];
}

function cellsOf(line) {
  const cells = line.trim().replace(/^\|/, "").split(/(?<!\\)\|/);
  if (cells.length > 1 && isBlank(cells.at(-1))) cells.pop();
  return cells.map((cell) => cell.trim().replaceAll("\\|", "|"));
}

function readTable(lines, i) {
  const head = cellsOf(lines[i].line);
  const sides = cellsOf(lines[i + 1].line).map((dashes) =>
    dashes.endsWith(":") ? (dashes.startsWith(":") ? "center" : "end") : "start",
  );
  const rows = [];
  for (i += 2; i < lines.length && lines[i].line.includes("|"); ++i) {
    rows.push(head.map((_, k) => cellsOf(lines[i].line)[k] ?? ""));
  }
  return [{ kind: "table", head, sides, rows }, i];
}

// An item goes on with what is indented as its text is, or by two, as models do
// under "1."; and with lines that begin no block, unless a blank one came before.
function readList(lines, i, depth) {
  const ordered = (mark) => mark.length > 1;
  const first = kItem.exec(lines[i].line)[1];
  const outer = indentOf(lines[i].line);
  const items = [];
  let offset = 0;
  let blank = false;
  for (; i < lines.length; ++i) {
    const { line } = lines[i];
    const indent = indentOf(line);
    const item = kRule.test(line) ? null : kItem.exec(line);
    if (isBlank(line)) {
      blank = true;
      items.at(-1).push("");
      continue;
    }
    if (items.length > 0 && indent >= Math.min(offset, outer + 2)) {
      items.at(-1).push(line.slice(Math.min(indent, offset)));
    } else if (item && ordered(item[1]) === ordered(first)) {
      const mark = indent + item[1].length;
      const spaces = item[0].length - mark;
      offset = mark + (spaces >= 1 && spaces <= 4 ? spaces : 1);
      items.push([line.slice(offset)]);
    } else if (blank || interrupts(lines, i)) {
      break;
    } else {
      items.at(-1).push(line);
    }
    blank = false;
  }
  const blocks = items.map((item) => parse(item.join("\n"), depth + 1));
  const number = ordered(first) ? Number.parseInt(first, 10) : null;
  return [{ kind: "list", number, items: blocks }, i];
}

function readParagraph(lines, i) {
  const begin = i;
  for (++i; i < lines.length; ++i) {
    if (isBlank(lines[i].line) || interrupts(lines, i)) break;
  }
  const text = lines.slice(begin, i).map(({ line }) => line.trim());
  return [{ kind: "paragraph", text: text.join("\n") }, i];
}

function readBlock(lines, i, depth) {
  const { line } = lines[i];
  if (kFence.test(line)) return readCode(lines, i);
  const heading = kHeading.exec(line);
  if (heading) {
    const text = (heading[2] ?? "").trim().replace(/(?:^|[ \t])#{1,99}$/, "");
    return [{ kind: "heading", level: heading[1].length, text }, i + 1];
  }
  if (kRule.test(line)) return [{ kind: "rule" }, i + 1];
  if (depth < kDepth && kQuote.test(line)) return readQuote(lines, i, depth);
  if (depth < kDepth && kItem.test(line)) return readList(lines, i, depth);
  if (isTable(lines, i)) return readTable(lines, i);
  return readParagraph(lines, i);
}

// The blocks of a text, each with where it starts in it.
export function parse(text, depth = 0) {
  const lines = linesOf(text);
  const blocks = [];
  for (let i = 0; i < lines.length; ) {
    if (isBlank(lines[i].line)) {
      ++i;
      continue;
    }
    const start = lines[i].at;
    const [block, next] = readBlock(lines, i, depth);
    blocks.push({ ...block, start });
    i = next;
  }
  return blocks;
}

function renderCode({ language, text }) {
  const code = el("code", {}, text);
  return el(
    "div",
    { class: "code" },
    el("div", { class: "bar" }, el("span", {}, language), copyButton(() => code.textContent)),
    el("pre", {}, code),
  );
}

function renderTable({ head, sides, rows }) {
  const row = (tag, cells) =>
    el("tr", {}, ...cells.map((cell, k) => el(tag, { class: sides[k] }, inline(cell))));
  return el(
    "div",
    { class: "wide" },
    el(
      "table",
      {},
      el("thead", {}, row("th", head)),
      el("tbody", {}, ...rows.map((cells) => row("td", cells))),
    ),
  );
}

// A paragraph that is all of an item, or before a list in it, needs no space
// around it.
function renderItem(blocks) {
  const tight = blocks.every((block, k) => block.kind === (k === 0 ? "paragraph" : "list"));
  return el(
    "li",
    {},
    ...blocks.map((block, k) => (tight && k === 0 ? inline(block.text) : render(block))),
  );
}

// The page's own headings are above those of an answer.
const kHeadings = ["h3", "h4", "h5", "h6", "h6", "h6"];

export function render(block) {
  switch (block.kind) {
    case "code":
      return renderCode(block);
    case "heading":
      return el(kHeadings[block.level - 1], {}, inline(block.text));
    case "rule":
      return el("hr");
    case "quote":
      return el("blockquote", {}, ...block.blocks.map(render));
    case "list":
      return block.number === null
        ? el("ul", {}, ...block.items.map(renderItem))
        : el("ol", { start: block.number }, ...block.items.map(renderItem));
    case "table":
      return renderTable(block);
    default:
      return el("p", {}, inline(block.text));
  }
}
