// The page about the model: what /props tells, and the report.
import { hasKey, request, describe } from "./api.js";
import { errorChart, keyOf, percent } from "./chart.js";
import { button, byId, el } from "./dom.js";

const count = (value) => value.toLocaleString("en-US");

function bytes(value) {
  const units = ["B", "kB", "MB", "GB", "TB", "PB"];
  let unit = 0;
  for (; value >= 1000 && unit < 5; ++unit) value /= 1000;
  return `${value.toFixed(unit === 0 ? 0 : 2)}\u00a0${units[unit]}`;
}

// The first cell of a row is its head. `more`: "total" when the last row is one.
function table(caption, head, rows, more = "") {
  return el(
    "div",
    { class: "wide" },
    el(
      "table",
      { class: `numbers ${more}` },
      el("caption", {}, caption),
      el("thead", {}, el("tr", {}, ...head.map((cell) => el("th", { scope: "col" }, cell)))),
      el(
        "tbody",
        {},
        ...rows.map(([name, ...cells]) =>
          el("tr", {}, el("th", { scope: "row" }, name), ...cells.map((cell) => el("td", {}, cell))),
        ),
      ),
    ),
  );
}

function section(title, ...children) {
  return el("section", {}, el("h3", {}, title), ...children);
}

function facts(props) {
  const { experts } = props;
  const rows = [
    ["Layers", props.layers],
    ["Vocabulary", count(props.vocabulary)],
    ["Context", `${count(props.context)} tokens`],
    ["Texts computed together", props.sequences],
    ["Chat template", props.chat ? "yes" : "none: it continues texts"],
    ["mobe", props.mobe],
  ];
  if (experts.of_a_layer > 0) {
    rows.splice(
      1,
      0,
      ["Experts of a layer", `${experts.of_a_layer}, ${experts.of_a_token} for each token`],
      ["Experts run", experts.mode],
    );
  }
  if (props.shape) rows.unshift(["Compressed", props.shape]);
  const pairs = rows.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, String(value))]);
  return el("dl", {}, ...pairs);
}

function tile(value, what) {
  return el("div", {}, el("b", {}, value), el("span", {}, what));
}

function sizes(compression) {
  const { parameters_before: before, parameters_after: after } = compression;
  const rows = Object.keys(before)
    .filter((part) => before[part] > 0 || after[part] > 0)
    .map((part) => [
      part,
      count(before[part]),
      count(after[part]),
      before[part] > 0 ? percent(after[part] / before[part], 1) : "",
    ]);
  const sum = (parts) => Object.values(parts).reduce((a, b) => a + b, 0);
  const [all, kept] = [sum(before), sum(after)];
  rows.push(["all", count(all), count(kept), percent(kept / all, 1)]);
  const { bytes_before, bytes_after } = compression;
  return section(
    "Size before and after",
    el(
      "div",
      { class: "tiles" },
      tile(percent(compression.experts_kept, 1), "of the experts' parameters kept"),
      tile(percent(compression.model_kept, 1), "of all parameters kept"),
      tile(`${bytes(bytes_before)} → ${bytes(bytes_after)}`, "on disk"),
    ),
    table("Parameters", ["part", "before", "after", "kept"], rows, "total"),
  );
}

// The errors by kind, in the order of the layers.
function seriesOf(errors) {
  const kinds = [...new Set(errors.map(({ kind }) => kind))];
  return kinds.map((name) => ({
    name,
    points: errors
      .filter(({ kind }) => kind === name)
      .map(({ layer, relative_error: error }) => ({ layer, error }))
      .sort((a, b) => a.layer - b.layer),
  }));
}

function errorTable(errors, series) {
  const layers = [...new Set(errors.map(({ layer }) => layer))].sort((a, b) => a - b);
  const rows = layers.map((layer) => [
    `layer ${layer}`,
    ...series.map(({ points }) => {
      const found = points.find((one) => one.layer === layer);
      return found ? percent(found.error, 2) : "";
    }),
  ]);
  return table("Relative error", ["", ...series.map(({ name }) => name)], rows);
}

function errorSection({ errors }) {
  const series = seriesOf(errors);
  const frame = el("div");
  new ResizeObserver(() => {
    // 0: the page is hidden.
    if (frame.clientWidth > 0) frame.replaceChildren(errorChart(series, frame.clientWidth));
  }).observe(frame);
  return section(
    "Error of each layer",
    el("p", {}, "How far the factored matrices are from the original ones, relative to these."),
    el(
      "p",
      { class: "keys" },
      ...series.map(({ name }, k) => el("span", {}, keyOf(k), " ", name)),
    ),
    frame,
    el("details", {}, el("summary", {}, "As a table"), errorTable(errors, series)),
  );
}

function memorySection({ plan, limit_bytes, limit_by, resident_bytes }) {
  const rows = plan.map(({ what, bytes: size }) => [what, bytes(size)]);
  rows.push(["planned together", bytes(plan.reduce((sum, line) => sum + line.bytes, 0))]);
  rows.push(["in memory now", bytes(resident_bytes)]);
  rows.push([limit_by ? `limit (${limit_by})` : "limit", bytes(limit_bytes)]);
  return section("Memory", table("Plan", ["what", "bytes"], rows));
}

// A frame can't send a key: with one the report is a file to save.
async function saveReport() {
  const blob = await (await request("/report")).blob();
  const address = URL.createObjectURL(blob);
  el("a", { href: address, download: "report.html" }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}

function reportSection() {
  const line = el("p", { role: "status" });
  const show = () => {
    const frame = el("iframe", { src: "/report", title: "Report of the compression" });
    frame.addEventListener("load", () => (line.textContent = ""));
    node.append(frame);
    open.remove();
  };
  const saveIt = () =>
    saveReport().then(
      () => (line.textContent = ""),
      (error) => (line.textContent = describe(error)),
    );
  const open = button(hasKey() ? "Save the report" : "Show the report", () => {
    line.textContent = "The report is being made; that takes some seconds.";
    if (hasKey()) saveIt();
    else show();
  });
  const node = section("Report", open, line);
  return node;
}

export function showModel(props) {
  const nodes = [el("h2", {}, props.model), facts(props)];
  if (props.compression) {
    nodes.push(sizes(props.compression), errorSection(props.compression));
  } else if (!props.factored) {
    nodes.push(el("p", {}, "This model is as it was published: nothing is compressed."));
  } else {
    nodes.push(el("p", {}, "The model is compressed; its folder does not tell how."));
  }
  nodes.push(memorySection(props.memory));
  if (props.factored) nodes.push(reportSection());
  byId("model").replaceChildren(...nodes);
}
