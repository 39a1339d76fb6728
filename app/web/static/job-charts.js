// How a job learns: losses, metrics and rates over its epochs, with its stages as bands.

import { chart } from "./charts.js";
import { h, section } from "./dom.js";
import { figuresOf } from "./epoch-table.js";
import { metricName } from "./format.js";

const WORDS = { train: "training", val: "validation", val_ema: "moving average" };
const DASH = { train: "dot", val: "solid", val_ema: "dash" };

/** The charts; `draw(epochs)` with all epoch records, in order. */
export function jobCharts() {
  const loss = chart("Loss on the training and the validation images by epoch");
  const metrics = chart("Metrics on the training and the validation images by epoch");
  const rates = chart("The learning rate of each parameter group by epoch, on a logarithmic axis");
  const charts = h(
    "div",
    { class: "columns three" },
    section("Loss", loss.element),
    section("Metrics", metrics.element),
    section("Learning rates", rates.element),
  );
  charts.hidden = true;
  return {
    element: charts,
    async draw(epochs) {
      if (epochs.length === 0) return;
      charts.hidden = false;
      const bands = bandsOf(epochs);
      const shared = { bands, x: "epoch", range: [0.5, Math.max(epochs.at(-1).global_epoch, 2) + 0.5] };
      await Promise.all([
        loss.draw({ ...shared, y: "loss", lines: figures(epochs, (name) => name === "loss") }),
        metrics.draw({ ...shared, share: true, lines: figures(epochs, (name) => name !== "loss" && name !== "variance") }),
        rates.draw({ ...shared, y: "learning rate", log: true, lines: rateLines(epochs) }),
      ]);
    },
  };
}

/** The stages that the epochs are of, as bands around their epochs. */
export function bandsOf(epochs) {
  const bands = new Map();
  for (const { stage, stage_index: index, global_epoch: epoch } of epochs) {
    const band = bands.get(index) ?? { from: epoch - 0.5, name: stage };
    bands.set(index, { ...band, to: epoch + 0.5 });
  }
  return [...bands.values()];
}

function figures(epochs, wanted) {
  const names = figuresOf(epochs).filter(([, name]) => wanted(name));
  const colours = [...new Set(names.map(([, name]) => name))];
  const single = colours.length === 1;
  return names.map(([split, name]) => ({
    name: single ? WORDS[split] : `${WORDS[split]} ${metricName(name)}`,
    x: epochs.map((epoch) => epoch.global_epoch),
    y: epochs.map((epoch) => epoch[split]?.[name] ?? null),
    colour: single ? (split === "train" ? 1 : split === "val" ? 0 : 2) : colours.indexOf(name),
    dash: DASH[split],
    mode: epochs.length < 3 ? "lines+markers" : "lines",
    hover: wanted("loss") ? "%{y:.4f}" : "%{y:.1%}",
  }));
}

function rateLines(epochs) {
  const groups = [...new Set(epochs.flatMap((epoch) => Object.keys(epoch.lr)))];
  return groups.map((group, index) => ({
    name: group,
    x: epochs.map((epoch) => epoch.global_epoch),
    y: epochs.map((epoch) => epoch.lr[group] || null),
    colour: index,
    mode: epochs.length < 3 ? "lines+markers" : "lines",
    hover: "%{y:.3g}",
  }));
}
