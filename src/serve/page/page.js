// Starts the page. What is shown is in the address: #model, or #ID of a
// conversation.
import { describe, getJson, setAskForKey } from "./api.js";
import { setUpChat, showChat } from "./chat.js";
import { byId } from "./dom.js";
import { showList } from "./list.js";
import { showModel } from "./model.js";
import { runs } from "./run.js";
import { openSettings, setUpSettings } from "./settings.js";
import {
  conversations,
  isEmpty,
  listed,
  loadConversations,
  newConversation,
  remove,
  setTellFull,
} from "./store.js";
import { setUpText, showText } from "./text.js";

const kRetry = 1000;  // milliseconds
const kFull = "The browser's storage is full: what is new is lost with this tab. Delete something.";

let props = null;
let current = null;  // the conversation

const kindOfModel = () => (props.chat ? "chat" : "text");

function notice(text) {
  if (byId("notice").textContent === text) return;  // nor read it aloud again
  byId("notice").textContent = text;
  byId("notice").hidden = text === "";
}

function showOnly(id) {
  for (const name of ["chat", "text", "model"]) byId(name).hidden = name !== id;
  for (const [tab, isShown] of [["model", id === "model"], ["chat", id !== "model"]]) {
    if (isShown) byId(`${tab}-tab`).setAttribute("aria-current", "page");
    else byId(`${tab}-tab`).removeAttribute("aria-current");
  }
}

const fieldOf = ({ kind }) => byId(kind === "text" ? "draft" : "message");

function show(conversation) {
  if (current && current !== conversation && isEmpty(current)) remove(current.id);
  current = conversation;
  showOnly(conversation.kind);
  if (conversation.kind === "text") showText(conversation);
  else showChat(conversation);
  byId("chat-tab").href = `#${conversation.id}`;
  history.replaceState(null, "", `#${conversation.id}`);
  showList(conversation.id);
}

// A place that names nothing is that of the latest conversation.
async function route() {
  const place = location.hash.slice(1);
  toggleList(false);
  if (place === "model") {
    showOnly("model");
    byId("model").focus();
    // Memory changes.
    props = await getJson("/props").catch(() => props);
    showModel(props);
    return;
  }
  const found = place === current?.id ? current : conversations.get(place);
  show(found ?? listed()[0] ?? newConversation(kindOfModel()));
}

function startNew() {
  const conversation = newConversation(kindOfModel());
  history.pushState(null, "", `#${conversation.id}`);
  show(conversation);
  toggleList(false);
  fieldOf(conversation).focus();
}

function toggleList(open) {
  document.body.classList.toggle("listing", open);
  byId("show-list").setAttribute("aria-expanded", String(open));
}

function onEscape(event) {
  if (event.key !== "Escape" || document.querySelector("dialog[open]")) return;
  if (document.body.classList.contains("listing")) {
    toggleList(false);
    byId("show-list").focus();
  } else {
    runs.get(current?.id)?.stop();
  }
}

function askForKey(wasWrong) {
  const dialog = byId("key");
  byId("key-wrong").hidden = !wasWrong;
  byId("key-value").value = "";
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    const close = () => resolve(dialog.returnValue ? byId("key-value").value : null);
    dialog.addEventListener("close", close, { once: true });
  });
}

// Waits for a server that still loads its model.
async function loadProps() {
  for (;;) {
    try {
      const loaded = await getJson("/props");
      notice("");
      return loaded;
    } catch (error) {
      notice(error.status === 503 ? "The model is being loaded…" : describe(error));
      if (error.status === 401) await new Promise(() => {});  // until a reload asks again
      await new Promise((resolve) => setTimeout(resolve, kRetry));
    }
  }
}

const drawList = () => showList(current?.id);

// What another tab made of a conversation.
function takeOver(id) {
  const changed = conversations.get(id);
  if (changed && id === current?.id && !runs.has(id)) {
    if (byId("model").hidden) show(changed);
    else current = changed;
  }
  drawList();
}

function setUp() {
  setAskForKey(askForKey);
  setTellFull((isFull) => notice(isFull ? kFull : ""));
  loadConversations(takeOver);
  setUpChat(drawList);
  setUpText(drawList);
  byId("show-list").addEventListener("click", () =>
    toggleList(!document.body.classList.contains("listing")),
  );
  for (const stop of document.querySelectorAll(".stop")) {
    stop.addEventListener("click", () => {
      runs.get(current.id)?.stop();
      fieldOf(current).focus();  // the button goes
    });
  }
  byId("skip").addEventListener("click", (event) => {
    event.preventDefault();
    if (current) fieldOf(current).focus();
  });
  addEventListener("keydown", onEscape);
}

async function start() {
  setUp();
  props = await loadProps();
  byId("model-name").textContent = props.model;
  document.title = `${props.model} – mobe`;
  setUpSettings(props);
  byId("new").addEventListener("click", startNew);
  byId("show-settings").addEventListener("click", openSettings);
  addEventListener("hashchange", route);
  await route();
  if (current) fieldOf(current).focus();
}

start();
