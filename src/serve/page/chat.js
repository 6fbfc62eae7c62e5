// The conversation that is shown: its messages, and the field below them.
import { announce, button, byId, el, throttled } from "./dom.js";
import { AnswerView, UserView, sendOnEnter } from "./messages.js";
import { run, runs } from "./run.js";
import { sampling, systemPrompt } from "./settings.js";
import { save, saveSoon } from "./store.js";

// What is read aloud whole when it has come; of longer ones only that they have.
const kAloud = 500;
const kNear = 60;  // pixels from the end, in which one still follows it

let shown = null;  // the conversation
let failure = null;  // the line below its messages
let onSaved = () => {};

function messagesFor(conversation) {
  const system = systemPrompt();
  const messages = conversation.messages.map(({ role, content, calls }) =>
    calls?.length > 0 ? { role, content, tool_calls: calls } : { role, content },
  );
  return system === "" ? messages : [{ role: "system", content: system }, ...messages];
}

function takeDelta(message, { delta }) {
  message.content += delta.content ?? "";
  message.thoughts += delta.reasoning_content ?? "";
  for (const { id, type, function: called } of delta.tool_calls ?? []) {
    message.calls.push({ id, type, function: called });
  }
  return Boolean(delta.content || delta.reasoning_content || delta.tool_calls);
}

// Has the model answer the last message, which is the user's.
function ask(conversation) {
  const body = { messages: messagesFor(conversation), ...sampling("chat") };
  const message = { role: "assistant", content: "", thoughts: "", calls: [] };
  conversation.messages.push(message);
  run(conversation, {
    path: "/v1/chat/completions",
    body,
    take: (choice) => takeDelta(message, choice),
    end: (reason) => {
      message.end = reason;
      const { content, thoughts, calls } = message;
      if (content === "" && thoughts === "" && calls.length === 0) {
        conversation.messages.pop();
        conversation.error ??= reason === "stopped" ? undefined : "The model answered nothing.";
      }
    },
  });
  message.stats = runs.get(conversation.id).stats;
  announce("The model answers");
  keep(conversation);
  render();
}

function keep(conversation) {
  save(conversation);
  onSaved();
}

// Cuts the conversation before a message, puts `content` there, and asks.
function goOnFrom(conversation, index, content) {
  conversation.messages.length = index;
  if (content !== undefined) conversation.messages.push({ role: "user", content });
  ask(conversation);
  byId("message").focus();
}

function viewOf(conversation, message, index) {
  return message.role === "user"
    ? new UserView(message, (text) => goOnFrom(conversation, index, text))
    : new AnswerView(message, () => goOnFrom(conversation, index));
}

const isAtEnd = (box) => box.scrollTop + box.clientHeight >= box.scrollHeight - kNear;

function render() {
  const box = byId("messages");
  const views = shown.messages.map((message, k) => viewOf(shown, message, k));
  failure = el("div", { class: "failure", role: "alert" });
  box.replaceChildren(...views.map(({ root }) => root), failure);
  showState();
  box.scrollTop = box.scrollHeight;
  const current = runs.get(shown.id);
  if (current) follow(current, views.at(-1));
}

// Shows what comes, and at its end what has become of the conversation.
function follow(current, view) {
  const box = byId("messages");
  const conversation = shown;
  const update = throttled(() => {
    const followed = isAtEnd(box);
    view.update();
    if (followed) box.scrollTop = box.scrollHeight;
  });
  current.changed = (ended) => {
    if (!ended) {
      update();
      return;
    }
    onSaved();
    if (shown !== conversation) return;
    const followed = isAtEnd(box);
    if (conversation.messages.includes(view.message)) view.update();
    else view.root.remove();
    showState();
    if (followed) box.scrollTop = box.scrollHeight;
    announceEnd(conversation, view.message);
  };
}

function announceEnd({ error }, { content }) {
  if (error) return;  // the line about it is an alert
  const words = content.split(/\s+/).length;
  announce(content.length <= kAloud ? content : `The answer has come: ${words} words`);
}

// Whether an answer is being written, and what is missing.
function showState() {
  const current = runs.get(shown.id);
  const section = byId("chat");
  section.classList.toggle("running", current !== undefined);
  section.querySelector(".stop").hidden = !current;
  byId("send").hidden = Boolean(current);
  byId("messages").setAttribute("aria-busy", String(Boolean(current)));
  failure.replaceChildren();
  const last = shown.messages.at(-1);
  if (current || !(shown.error || last?.role === "user")) return;
  const index = shown.messages.length - (last?.role === "assistant" ? 1 : 0);
  failure.append(
    el("span", {}, shown.error ?? "This message has no answer."),
    button(shown.error ? "Try again" : "Answer", () => goOnFrom(shown, index)),
  );
}

function send() {
  const content = byId("message").value;
  if (content.trim() === "" || runs.has(shown.id)) return;
  byId("message").value = shown.draft = "";
  goOnFrom(shown, shown.messages.length, content);
}

export function showChat(conversation) {
  shown = conversation;
  byId("message").value = conversation.draft;
  render();
}

// `saved` is called when the list of conversations may have changed.
export function setUpChat(saved) {
  onSaved = saved;
  const form = byId("composer");
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    send();
  });
  sendOnEnter(byId("message"), form);
  byId("message").addEventListener("input", () => {
    shown.draft = byId("message").value;
    saveSoon(shown, onSaved);
  });
}
