// Markdown within a line: emphasis, code, links. Its time grows with the text's
// length and no faster, whatever a model writes.
import { el } from "./dom.js";

// A mark, or an address that stands alone.
const kSpecial =
  /\\[!-/:-@[-`{-~]|`+|\*+|_+|~~|!?\[|\]|\n|https?:\/\/[^\s<>"`*\]|]{1,2000}/gi;
const kTarget =
  /\(\s{0,9}<?(https?:\/\/(?:[^\s<>()]|\([^\s<>()]{0,500}\)){1,2000})>?(?:\s{1,9}"[^"\n]{0,500}")?\s{0,9}\)/iy;
const kWord = /[\p{L}\p{N}_]/u;
const kTags = { "*": "em", "**": "strong", "_": "em", "__": "strong", "~~": "del" };
// Deeper than this marks are text: nobody reads that, and browsers fail on
// thousands of nodes inside each other.
const kDepth = 16;

// Only what is plainly an address of the web becomes a link.
function link(address, ...children) {
  const attributes = { href: address, target: "_blank", rel: "noopener noreferrer" };
  return el("a", attributes, ...children);
}

// The parser: frames[i] is an open mark with the nodes behind it, frames[0] the
// whole.
class Inline {
  constructor(text) {
    this.text = text;
    this.at = 0;
    this.frames = [{ mark: "", nodes: new DocumentFragment() }];
    this.held = "";  // text that has no node yet: many small ones take long
    this.unclosed = new Set();  // lengths of ` marks that have no second
  }

  // Where the next node goes, with all text that is before it.
  flush() {
    const { nodes } = this.frames.at(-1);
    if (this.held !== "") nodes.append(this.held);
    this.held = "";
    return nodes;
  }

  add(node) {
    this.flush().append(node);
  }

  parse() {
    kSpecial.lastIndex = 0;
    for (let found; (found = kSpecial.exec(this.text)); kSpecial.lastIndex = this.at) {
      this.held += this.text.slice(this.at, found.index);
      this.at = found.index + found[0].length;
      this.mark(found[0], found.index);
    }
    this.held += this.text.slice(this.at);
    this.dropTo(0);
    return this.flush();
  }

  mark(mark, at) {
    if (mark[0] === "\\") this.held += mark[1];
    else if (mark === "\n") this.add(el("br"));
    else if (mark[0] === "`") this.code(mark);
    else if (mark.endsWith("[")) this.open(mark);
    else if (mark === "]") this.closeLink();
    else if (mark[0] === "h" || mark[0] === "H") this.address(mark);
    else this.emphasis(mark, at);
  }

  code(mark) {
    if (!this.unclosed.has(mark.length)) {
      const run = /`+/g;
      run.lastIndex = this.at;
      for (let found; (found = run.exec(this.text)); ) {
        if (found[0].length !== mark.length) continue;
        const code = this.text.slice(this.at, found.index).replaceAll("\n", " ");
        const spaced = code.startsWith(" ") && code.endsWith(" ") && code.trim() !== "";
        this.add(el("code", {}, spaced ? code.slice(1, -1) : code));
        this.at = run.lastIndex;
        return;
      }
      this.unclosed.add(mark.length);
    }
    this.held += mark;
  }

  address(address) {
    const ends = address.includes("(") ? /[.,;:!?']+$/ : /[.,;:!?')]+$/;
    const trimmed = address.replace(ends, "");
    this.add(/:\/\/./.test(trimmed) ? link(trimmed, trimmed) : trimmed);
    this.held += address.slice(trimmed.length);
  }

  open(mark) {
    if (this.frames.length > kDepth) {
      this.held += mark;
      return;
    }
    this.flush();
    this.frames.push({ mark, nodes: new DocumentFragment() });
  }

  // Marks of frames above frames[index] are text.
  dropTo(index) {
    while (this.frames.length > index + 1) {
      const nodes = this.flush();
      this.held = this.frames.pop().mark;
      this.add(nodes);
    }
  }

  closeLink() {
    const index = this.frames.findLastIndex(({ mark }) => mark.endsWith("["));
    kTarget.lastIndex = this.at;
    const target = index > 0 && kTarget.exec(this.text);
    if (!target) {
      if (index > 0) this.dropTo(index - 1);
      this.held += "]";
      return;
    }
    this.at = kTarget.lastIndex;
    this.dropTo(index);
    const nodes = this.flush();
    this.frames.pop();
    // An image would be a request to elsewhere: it is a link, too.
    const inner = nodes.querySelector("a") ? nodes.textContent : nodes;
    this.add(link(target[1], inner));
  }

  // The frame that `left` marks close: for two of them rather one of two.
  opener(sign, left) {
    const last = (fits) =>
      this.frames.findLastIndex(({ mark }) => mark[0] === sign && fits(mark.length));
    const pair = left === 2 ? last((length) => length === 2) : -1;
    return pair > 0 ? pair : last((length) => length <= left);
  }

  emphasis(mark, at) {
    const before = this.text[at - 1] ?? " ";
    const after = this.text[this.at] ?? " ";
    const within = mark[0] === "_" && kWord.test(before) && kWord.test(after);
    const canOpen = /\S/.test(after) && !within;
    const canClose = /\S/.test(before) && !within;
    for (let left = mark.length; left > 0; ) {
      const index = canClose ? this.opener(mark[0], left) : -1;
      if (index > 0) {
        this.dropTo(index);
        const nodes = this.flush();
        const inner = this.frames.pop().mark;
        this.add(el(kTags[inner], {}, nodes));
        left -= inner.length;
      } else if (canOpen && left <= 3) {
        const part = mark[0].repeat(Math.min(left, 2));
        this.open(part);
        left -= part.length;
      } else {
        this.held += mark[0].repeat(left);
        left = 0;
      }
    }
  }
}

export function inline(text) {
  return new Inline(text).parse();
}
