// The chart of errors: a line for each kind of matrix over the layers.
import { svg } from "./dom.js";

export const percent = (share, digits) => `${(100 * share).toFixed(digits)}\u00a0%`;

const kHeight = 260;
const kLeft = 58;
const kRight = 12;
const kTop = 12;
const kBottom = 40;

// The least of 1, 2, 5 times a power of ten that divides `most` into no more
// than `parts`.
function stepFor(most, parts) {
  const power = 10 ** Math.floor(Math.log10(most / parts));
  return [1, 2, 5, 10].map((k) => k * power).find((step) => most / step <= parts);
}

function ticks(least, most, parts) {
  const step = stepFor(most - least || 1, parts);
  const values = [];
  for (let k = Math.ceil(least / step); k * step <= most + step / 1e6; ++k) values.push(k * step);
  return values;
}

// Points of different kinds differ by form, too.
function point(kind, x, y, label) {
  const paths = [
    `M${x - 3} ${y}a3 3 0 1 0 6 0a3 3 0 1 0 -6 0`,
    `M${x - 3} ${y - 3}h6v6h-6z`,
    `M${x} ${y - 4}l4 7h-8z`,
  ];
  return svg("path", { class: "point", d: paths[kind % 3] }, svg("title", {}, label));
}

// `series`: [{name, points: [{layer, error}]}]. The number of pixels is the
// page's, so that letters stay as large as the others.
export function errorChart(series, width) {
  const points = series.flatMap((one) => one.points);
  const layers = points.map(({ layer }) => layer);
  const [first, last] = [Math.min(...layers), Math.max(...layers)];
  const most = Math.max(...points.map(({ error }) => error), 1e-9);
  const top = stepFor(most, 5) * Math.ceil(most / stepFor(most, 5));
  const inner = width - kLeft - kRight;
  const x = (layer) => kLeft + (inner * (layer - first + 0.5)) / (last - first + 1);
  const y = (error) => kHeight - kBottom - ((kHeight - kTop - kBottom) * error) / top;
  const label = (at, value, anchor) => svg("text", { ...at, "text-anchor": anchor }, value);

  const digits = top < 0.01 ? 3 : top < 0.1 ? 1 : 0;
  const grid = ticks(0, top, 5).flatMap((value) => [
    svg("path", { class: "grid", d: `M${kLeft} ${y(value)}h${inner}` }),
    label({ x: kLeft - 6, y: y(value) + 4 }, percent(value, digits), "end"),
  ]);
  const below = ticks(first, last, Math.min(last - first + 1, inner / 40))
    .filter(Number.isInteger)
    .map((layer) => label({ x: x(layer), y: kHeight - kBottom + 16 }, layer, "middle"));
  const lines = series.map(({ name, points: own }, k) => {
    const path = own.map(({ layer, error }) => `${x(layer)} ${y(error)}`).join("L");
    return svg(
      "g",
      { class: `series-${k % 6}` },
      svg("path", { class: "line", d: `M${path}` }),
      ...own.map(({ layer, error }) =>
        point(k, x(layer), y(error), `${name}, layer ${layer}: ${percent(error, 2)}`),
      ),
    );
  });
  return svg(
    "svg",
    {
      class: "chart",
      width,
      height: kHeight,
      role: "img",
      "aria-label": `Relative error of layers ${first} to ${last}, ${series
        .map(({ name }) => name)
        .join(", ")}; the table below has the numbers`,
    },
    ...grid,
    ...below,
    label({ x: kLeft + inner / 2, y: kHeight - 6 }, "layer", "middle"),
    ...lines,
  );
}

export function keyOf(kind) {
  return svg(
    "svg",
    { class: `chart series-${kind % 6}`, width: 28, height: 12, "aria-hidden": "true" },
    svg("path", { class: "line", d: "M0 6H28" }),
    point(kind, 14, 6, ""),
  );
}
