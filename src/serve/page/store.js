// Conversations, in the browser's storage, each under a key of its own: two tabs
// then don't overwrite each other's. One is
//   {id, kind: "chat" | "text", title, renamed, changed, draft, error,
//    messages: [{role, content, thoughts, calls, end, stats}]}   of a chat
//    begin, stats                                       of a text, its draft
// where `error` says why the last answer failed.

const kPrefix = "mobe.conversation.";
const kUntitled = "New conversation";

export const conversations = new Map();

function take(key, json) {
  try {
    const conversation = JSON.parse(json);
    conversations.set(conversation.id, conversation);
  } catch {
    localStorage.removeItem(key);
  }
}

// Calls `changed` with the id of one that another tab has changed.
export function loadConversations(changed) {
  for (const key of Object.keys(localStorage)) {
    if (key.startsWith(kPrefix)) take(key, localStorage.getItem(key));
  }
  addEventListener("storage", ({ key, newValue }) => {
    if (!key?.startsWith(kPrefix)) return;
    const id = key.slice(kPrefix.length);
    if (newValue === null) conversations.delete(id);
    else take(key, newValue);
    changed(id);
  });
}

// crypto.randomUUID is there for https and this machine only.
function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(8));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

// It is stored once it holds something.
export function newConversation(kind) {
  return { id: newId(), kind, title: kUntitled, changed: Date.now(), draft: "", messages: [] };
}

export const isEmpty = ({ messages, draft }) => messages.length === 0 && draft === "";

function titleOf({ title, renamed, kind, draft, messages }) {
  if (renamed) return title;
  const text = kind === "text" ? draft : (messages[0]?.content ?? draft);
  return text.trim().replace(/\s+/g, " ").slice(0, 60) || kUntitled;
}

// Set by page.js: is told when the storage is full, and when it no longer is.
let tellFull = () => {};
let isFull = false;
export function setTellFull(call) {
  tellFull = call;
}

function setFull(now) {
  if (now !== isFull) tellFull(now);
  isFull = now;
}

export function save(conversation) {
  conversation.title = titleOf(conversation);
  conversation.changed = Date.now();
  conversations.set(conversation.id, conversation);
  try {
    localStorage.setItem(kPrefix + conversation.id, JSON.stringify(conversation));
    setFull(false);
  } catch {
    setFull(true);
  }
}

// For what changes with each key that is pressed.
let waiting = null;
function saveWaiting() {
  const conversation = waiting;
  waiting = null;
  if (conversation) save(conversation);
}
addEventListener("pagehide", saveWaiting);
export function saveSoon(conversation, then) {
  if (waiting !== null && waiting !== conversation) saveWaiting();
  if (waiting === null) {
    setTimeout(() => {
      saveWaiting();
      then();
    }, 300);
  }
  waiting = conversation;
}

export function remove(id) {
  if (waiting?.id === id) waiting = null;
  conversations.delete(id);
  localStorage.removeItem(kPrefix + id);
}

// The latest first.
export function listed() {
  return [...conversations.values()].sort((a, b) => b.changed - a.changed);
}
