// How all of the page's nodes are made. Nothing here or elsewhere parses HTML:
// texts become text nodes, whatever they hold.

const kSvg = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") {
      node.addEventListener(name.slice(2), value);  // onclick: "click"
    } else if (value === true) {
      node.setAttribute(name, "");
    } else if (value !== false && value != null) {
      node.setAttribute(name, value);
    }
  }
  node.append(...children);
  return node;
}

export function el(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(kSvg, tag), attributes, children);
}

export function byId(id) {
  return document.getElementById(id);
}

export function button(text, onclick, attributes = {}) {
  return el("button", { type: "button", onclick, ...attributes }, text);
}

// What a screen reader says next.
export function announce(text) {
  byId("status").textContent = text;
}

// Calls `render` for each frame in which it was asked for, but lets the page
// rest four times as long as it takes, so that a long answer leaves it usable.
export function throttled(render) {
  let asked = false;
  let cost = 0;
  const run = () => {
    asked = false;
    const begin = performance.now();
    render();
    cost = performance.now() - begin;
  };
  return () => {
    if (asked) return;
    asked = true;
    setTimeout(() => requestAnimationFrame(run), 4 * cost);
  };
}

// navigator.clipboard is for https and this machine only.
async function copy(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = el("textarea", { class: "hidden" });
  area.value = text;
  document.body.append(area);
  area.select();
  const copied = document.execCommand("copy");
  area.remove();
  if (!copied) throw new Error("refused");
}

// A button that copies what `text` gives, and says so.
export function copyButton(text) {
  const node = button("Copy", async () => {
    try {
      await copy(text());
      node.textContent = "Copied";
    } catch {
      node.textContent = "Not allowed";
    }
    announce(node.textContent);
    setTimeout(() => (node.textContent = "Copy"), 2000);
  });
  return node;
}
