// Markdown of a text that grows. What is behind a finished block can't change
// it, so only the last blocks are made again, and of code that is still being
// written only what is new is added.
import { parse, render } from "./markdown.js";

export class LiveMarkdown {
  constructor(root) {
    this.root = root;
    this.text = "";
    this.start = 0;  // of the first block that may change
    this.open = [];  // nodes from there on
    this.code = null;  // the last of them, if it is code
  }

  // `text` begins with what was set before.
  set(text) {
    if (text.length === this.text.length) return;
    this.text = text;
    const tail = text.slice(this.start);
    const blocks = parse(tail);
    if (this.extendCode(blocks)) return;
    for (const node of this.open) node.remove();
    this.open = blocks.map(render);
    this.root.append(...this.open);
    this.remember(blocks);
    // A line that isn't whole may yet belong to the block before it.
    const last = blocks.at(-1);
    const kept = last && !tail.includes("\n", last.start) ? 2 : 1;
    const done = blocks.length - kept;
    if (done <= 0) return;
    this.open.splice(0, done);
    if (this.code) this.code.start -= blocks[done].start;
    this.start += blocks[done].start;
  }

  remember(blocks) {
    const last = blocks.at(-1);
    if (last?.kind !== "code") {
      this.code = null;
      return;
    }
    const { start, language, text } = last;
    this.code = { start, language, text, node: this.open.at(-1).querySelector("code") };
  }

  extendCode(blocks) {
    const last = blocks.at(-1);
    const { code } = this;
    if (!code || blocks.length !== this.open.length || last.kind !== "code") return false;
    if (last.start !== code.start || last.language !== code.language) return false;
    if (!last.text.startsWith(code.text)) return false;
    code.node.firstChild.appendData(last.text.slice(code.text.length));
    code.text = last.text;
    return true;
  }
}
