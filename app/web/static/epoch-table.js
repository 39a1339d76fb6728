// The epochs as a table, the newest first.

import { h, keyed, scrolling } from "./dom.js";
import { bytes, duration, metricName, metricValue, number, rate } from "./format.js";

/** The table; `update(epochs)` with all epoch records, in order. */
export function epochTable() {
  const head = h("thead", {});
  const body = h("tbody", {});
  const table = h("table", {}, h("caption", { class: "sr" }, "Epochs, newest first"), head, body);
  let columns = "";
  let rows = null;
  return {
    element: scrolling("Epochs", table, { tall: true }),
    update(epochs) {
      const figures = figuresOf(epochs);
      if (JSON.stringify(figures) !== columns) {
        columns = JSON.stringify(figures);
        head.replaceChildren(headOf(figures));
        body.replaceChildren();
        rows = keyed(body, (epoch) => epoch.global_epoch, (epoch) => row(epoch, figures));
      }
      rows([...epochs].reverse());
    },
  };
}

/** Which figures epochs have: `[split, name]`, in the order of the splits. */
export function figuresOf(epochs) {
  const names = new Map();
  for (const split of ["train", "val", "val_ema"]) for (const epoch of epochs) for (const name of Object.keys(epoch[split] ?? {})) names.set(`${split} ${name}`, [split, name]);
  return [...names.values()];
}

function headOf(figures) {
  const named = ([split, name]) => `${{ train: "train", val: "val", val_ema: "average" }[split]} ${metricName(name)}`;
  const names = ["Epoch", "Stage", ...figures.map(named), "Learning rate", "Images/s", "Time", "Memory"];
  return h("tr", {}, names.map((name, index) => h("th", { scope: "col", class: index !== 1 && "num" }, name)));
}

function row(epoch, figures) {
  const rates = Object.entries(epoch.lr);
  const said = rates.length === 1 ? rate(rates[0][1]) : rates.map(([group, value]) => `${group} ${rate(value)}`).join(", ");
  const seconds = Object.values(epoch.seconds).reduce((sum, one) => sum + one, 0);
  return h(
    "tr",
    {},
    h("th", { scope: "row", class: "num" }, epoch.global_epoch),
    h("td", {}, `${epoch.stage} ${epoch.epoch}`),
    figures.map(([split, name]) => h("td", { class: "num" }, figure(epoch, split, name))),
    h("td", { class: "num small-text" }, said),
    h("td", { class: "num" }, number(epoch.images_per_second, 0)),
    h("td", { class: "num" }, duration(seconds)),
    h("td", { class: "num" }, epoch.peak_memory_bytes ? bytes(epoch.peak_memory_bytes) : "–"),
  );
}

function figure(epoch, split, name) {
  const value = epoch[split]?.[name];
  if (value === null && epoch.nonfinite) return "not finite";
  return metricValue(name, value);
}
