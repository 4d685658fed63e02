// Draws numbers over time as a line, with its last value in words.

import { el, svg } from "./dom.js";

const WIDTH = 300, HEIGHT = 60;

/** A figure of points [time, value or null]; `text` writes a value. */
export function line(title, points, text) {
  const known = points.filter(([, value]) => value !== null);
  const latest = known.length ? text(known.at(-1)[1]) : "nothing";
  const highest = Math.max(1e-9, ...known.map(([, value]) => value));
  const first = points[0]?.[0] ?? 0, last = points.at(-1)?.[0] ?? 1;
  const place = ([time, value]) => `${(((time - first) / (last - first || 1)) * WIDTH).toFixed(1)},${(HEIGHT - 2 - (value / highest) * (HEIGHT - 4)).toFixed(1)}`;
  const picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": `${title}: now ${latest}, at most ${text(highest)}` },
    svg("polyline", { points: known.map(place).join(" ") }));
  return el("figure", {}, el("figcaption", {}, `${title}: `, el("strong", {}, latest)), picture);
}
