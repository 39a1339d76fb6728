// Where a job's time goes: reading images, training, validating, saving.

import { fill, h, svg } from "./dom.js";
import { duration, number } from "./format.js";

const PARTS = [
  ["train", "training"],
  ["data", "waiting for images"],
  ["val", "validating"],
  ["checkpoint", "saving"],
];

/** The bar and its legend; `update(job, epochs)`. */
export function timeSpent() {
  const place = h("div", {});
  return {
    element: place,
    update(job, epochs) {
      if (epochs.length === 0) return;
      const sums = new Map();
      for (const { seconds } of epochs) for (const [name, value] of Object.entries(seconds)) sums.set(name, (sums.get(name) ?? 0) + value);
      const parts = [...PARTS.filter(([name]) => sums.has(name)).map(([name, text]) => [text, sums.get(name)])];
      const inside = parts.reduce((sum, [, value]) => sum + value, 0);
      const whole = job.started_at ? (job.finished_at ?? epochs.at(-1).created_at) - job.started_at : inside;
      if (whole - inside > 0.02 * whole) parts.push(["all else: starting, features, the report", whole - inside]);
      fill(place, stack(parts), legend(parts), speed(epochs));
    },
  };
}

function stack(parts) {
  const sum = parts.reduce((total, [, value]) => total + value, 0) || 1;
  let at = 0;
  const pieces = parts.map(([, value], index) => {
    const width = (1000 * value) / sum;
    const piece = svg("rect", { x: at, y: 0, width, height: 18, class: `c${index + 1}` });
    at += width;
    return piece;
  });
  const said = parts.map(([text, value]) => `${text} ${Math.round((100 * value) / sum)} per cent`).join(", ");
  return svg("svg", { class: "stack", viewBox: "0 0 1000 18", preserveAspectRatio: "none", role: "img", "aria-label": said }, pieces);
}

function legend(parts) {
  const sum = parts.reduce((total, [, value]) => total + value, 0) || 1;
  return h("ul", { class: "legend" }, parts.map(([text, value], index) => h("li", {}, h("i", { class: `c${index + 1}` }), `${text} ${duration(value)}, ${Math.round((100 * value) / sum)} %`)));
}

function speed(epochs) {
  const stages = new Map(epochs.map((epoch) => [epoch.stage, epoch.images_per_second]));
  const said = [...stages].map(([stage, value]) => `${number(value, 0)} in ${stage}`).join(", ");
  return h("p", { class: "muted small-text" }, `Images per second, in each stage's last epoch: ${said}.`);
}
