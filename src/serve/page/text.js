// A text that the model goes on with, for models without a chat template: one
// field, which holds what the user wrote and what the model did.
import { announce, byId, throttled } from "./dom.js";
import { run, runs, statsLine } from "./run.js";
import { sampling } from "./settings.js";
import { save, saveSoon } from "./store.js";

let shown = null;
let onSaved = () => {};

const part = (selector) => byId("text").querySelector(selector);

function keep(conversation) {
  save(conversation);
  onSaved();
}

function goOn() {
  const conversation = shown;
  if (conversation.draft === "" || runs.has(conversation.id)) return;
  conversation.begin = conversation.draft.length;
  run(conversation, {
    path: "/v1/completions",
    body: { prompt: conversation.draft, ...sampling("text") },
    take: ({ text }) => {
      conversation.draft += text;
      return text !== "";
    },
    end: () => {},
  });
  conversation.stats = runs.get(conversation.id).stats;
  announce("The model goes on");
  keep(conversation);
  showText(conversation);
  byId("draft").focus();
}

// Takes back what the model wrote last, and lets it write anew.
function again() {
  shown.draft = shown.draft.slice(0, shown.begin);
  goOn();
}

function update() {
  const area = byId("draft");
  const followed = area.scrollTop + area.clientHeight >= area.scrollHeight - 60;
  if (area.value !== shown.draft) area.value = shown.draft;
  if (followed) area.scrollTop = area.scrollHeight;
  part(".stats").textContent = statsLine(shown.stats);
}

function showState() {
  const current = runs.get(shown.id);
  byId("draft").readOnly = Boolean(current);
  byId("continue").hidden = Boolean(current);
  part(".stop").hidden = !current;
  byId("again").disabled = Boolean(current) || !(shown.begin < shown.draft.length);
  part(".failure").textContent = shown.error ?? "";
  part(".failure").hidden = !shown.error;
}

export function showText(conversation) {
  shown = conversation;
  update();
  showState();
  const current = runs.get(conversation.id);
  if (!current) return;
  const soon = throttled(() => shown === conversation && update());
  current.changed = (ended) => {
    if (!ended) {
      soon();
      return;
    }
    onSaved();
    if (shown !== conversation) return;
    update();
    showState();
    if (!conversation.error) announce(conversation.draft.slice(conversation.begin).slice(0, 500));
  };
}

export function setUpText(saved) {
  onSaved = saved;
  byId("writer").addEventListener("submit", (event) => {
    event.preventDefault();
    goOn();
  });
  byId("again").addEventListener("click", again);
  const area = byId("draft");
  area.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !event.ctrlKey) return;
    event.preventDefault();
    goOn();
  });
  area.addEventListener("input", () => {
    shown.draft = area.value;
    delete shown.begin;  // where the model's part began is not known any more
    saveSoon(shown, onSaved);
    showState();
  });
}
