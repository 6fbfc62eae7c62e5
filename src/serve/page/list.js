// The conversations at the side.
import { button, byId, el } from "./dom.js";
import { runs } from "./run.js";
import { listed, remove, save } from "./store.js";

let drawn = "";  // what is there, so that it is not made again under the user's hands
let renaming = null;

function rename(conversation, again) {
  const input = el("input", { "aria-label": "Name of the conversation", maxlength: 100 });
  input.value = conversation.title;
  const close = (keep) => {
    if (renaming === null) return;
    renaming = null;
    const title = input.value.trim();
    if (keep && title !== "") {
      conversation.title = title;
      conversation.renamed = true;
      save(conversation);
    }
    drawn = "";
    again();
  };
  input.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== "Escape") return;
    event.preventDefault();
    event.stopPropagation();
    close(event.key === "Enter");
    byId("conversations").querySelector("[aria-current]")?.focus();
  });
  input.addEventListener("blur", () => close(true));
  renaming = conversation.id;
  byId("conversations").querySelector("[aria-current]").replaceWith(input);
  input.select();
  input.focus();
}

function row(conversation, isCurrent, again) {
  const { id, title } = conversation;
  const link = el("a", { href: `#${id}`, "aria-current": isCurrent ? "true" : null }, title);
  if (!isCurrent) return el("li", {}, link);
  const drop = () => {
    if (!confirm(`Delete “${title}”?`)) return;
    runs.get(id)?.stop();
    remove(id);
    location.hash = "";
    byId("new").focus();
  };
  return el(
    "li",
    {},
    link,
    el(
      "div",
      { class: "buttons" },
      button("Rename", () => rename(conversation, again)),
      button("Delete", drop),
    ),
  );
}

// `current`: the id of the conversation that is shown.
export function showList(current) {
  if (renaming !== null) return;
  const all = listed();
  const now = JSON.stringify([current, ...all.map(({ id, title }) => [id, title])]);
  if (now === drawn) return;
  drawn = now;
  const again = () => showList(current);
  byId("conversations").replaceChildren(
    ...all.map((conversation) => row(conversation, conversation.id === current, again)),
  );
}
