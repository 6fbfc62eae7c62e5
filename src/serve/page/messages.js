// How the messages of a conversation look.
import { button, copyButton, el } from "./dom.js";
import { LiveMarkdown } from "./live.js";
import { statsLine } from "./run.js";

const kEnds = {
  length: "The answer is cut off: it has as many tokens as it may.",
  stopped: "Stopped.",
};

function pretty(json) {
  try {
    return JSON.stringify(JSON.parse(json), null, 2);
  } catch {
    return json;
  }
}

function callBlock({ function: { name, arguments: given } }) {
  return el(
    "div",
    { class: "call" },
    el("p", {}, "Calls the tool ", el("code", {}, name)),
    el("pre", {}, el("code", {}, pretty(given))),
  );
}

// A message of the user. `onEdit` gets the new text.
export class UserView {
  constructor(message, onEdit) {
    this.message = message;
    this.onEdit = onEdit;
    this.body = el("div", { class: "said" }, message.content);
    this.edit = button("Edit", () => this.open());
    this.buttons = el("div", { class: "buttons cuts" }, this.edit);
    this.root = el(
      "article",
      { class: "user" },
      el("h2", {}, "You"),
      this.body,
      this.buttons,
    );
  }

  open() {
    const area = el("textarea", { "aria-label": "Edit the message" });
    area.value = this.message.content;
    const close = () => {
      form.remove();
      this.body.hidden = this.buttons.hidden = false;
      this.edit.focus();
    };
    const form = el(
      "form",
      {
        class: "edit",
        onsubmit: (event) => {
          event.preventDefault();
          if (area.value.trim() !== "") this.onEdit(area.value);
        },
      },
      area,
      el("p", {}, "What follows this message will be gone."),
      el(
        "div",
        { class: "buttons" },
        el("button", { class: "primary" }, "Send again"),
        button("Cancel", close),
      ),
    );
    form.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.stopPropagation();
      close();
    });
    sendOnEnter(area, form);
    this.body.hidden = this.buttons.hidden = true;
    this.root.append(form);
    area.focus();
  }
}

// Not while an input method composes a character with it.
export function sendOnEnter(area, form) {
  area.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    form.requestSubmit();
  });
}

// An answer, which may grow: update() shows what the message has got.
export class AnswerView {
  constructor(message, onAgain) {
    this.message = message;
    this.thoughts = el("div", { class: "said" });
    this.folded = el("details", { hidden: true }, el("summary", {}, "Thoughts"), this.thoughts);
    this.body = el("div", { class: "markdown" });
    this.markdown = new LiveMarkdown(this.body);
    this.calls = el("div");
    this.end = el("p", { class: "ending" });
    this.stats = el("span", { class: "stats" });
    this.root = el(
      "article",
      { class: "answer" },
      el("h2", {}, "Model"),
      this.folded,
      this.body,
      this.calls,
      this.end,
      el(
        "div",
        { class: "buttons" },
        copyButton(() => message.content),
        el("span", { class: "cuts" }, button("Regenerate", onAgain)),
        this.stats,
      ),
    );
    this.update();
  }

  update() {
    const { content, thoughts, calls, end, stats } = this.message;
    this.markdown.set(content);
    const shown = this.thoughts.textContent.length;
    this.folded.hidden = thoughts === "";
    if (thoughts.length > shown) this.thoughts.append(thoughts.slice(shown));
    for (const call of calls.slice(this.calls.children.length)) {
      this.calls.append(callBlock(call));
    }
    this.end.textContent = kEnds[end] ?? "";
    this.stats.textContent = statsLine(stats);
  }
}
