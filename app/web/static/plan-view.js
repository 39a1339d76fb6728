// What a spec would do, before it does anything: blocks, rates, costs, warnings.

import { chart } from "./charts.js";
import { fill, h } from "./dom.js";
import { bytes, count, duration, plural, rate } from "./format.js";
import { freezeMap } from "./freeze-map.js";

/** The view. `choose(stage, block)` is called with indices when a block of the map is chosen. */
export function planView(choose) {
  const map = h("div", {});
  const facts = h("div", {});
  const notes = h("div", {});
  const stages = h("div", {});
  const rates = chart("The learning rate of each parameter group over all epochs, on a logarithmic axis", { low: true });
  const state = h("p", { class: "muted small-text", role: "status" }, "Drawing the plan…");
  const shown = h("div", { hidden: true }, map, h("h3", {}, "Learning rates"), rates.element, notes, facts, stages);
  return {
    element: h("section", { class: "panel plan", "aria-label": "Plan" }, h("h2", {}, "Plan"), state, shown),
    show(plan) {
      state.textContent = summary(plan);
      shown.hidden = false;
      fill(map, freezeMap(plan, choose));
      fill(notes, plan.warnings.map((text) => h("p", { class: "notice warning" }, text)));
      fill(facts, figures(plan));
      fill(stages, details(plan));
      return rates.draw(ratesOf(plan));
    },
    wait(sentence) {
      state.textContent = sentence;
    },
  };
}

function summary(plan) {
  const epochs = plan.stages.reduce((sum, stage) => sum + stage.epochs, 0);
  const { seconds, because } = plan.estimate ?? { seconds: null, because: "" };
  const time = seconds === null ? `How long it will take is not known: ${because}.` : `About ${duration(seconds)}, ${because}.`;
  return `${plural(plan.stages.length, "stage")}, ${plural(epochs, "epoch")}. ${time.replace(/\.\.$/, ".")}`;
}

function figures(plan) {
  const cached = plan.stages.find((stage) => stage.features)?.features;
  const facts = [
    ["Images", `${plan.images.train.toLocaleString("en")} to train, ${plan.images.val.toLocaleString("en")} to validate`],
    ["Parameters", count(plan.backbone.parameters)],
    ["Best by", plan.metric.replace("val_", "validation ").replaceAll("_", " ")],
    ["Image size", `${plan.training_preprocessing.crop} px`],
    ["Head", `${plan.head.action}: ${plan.head.reason}`],
    ["Computed once", cached ? `${plan.head.modules.includes(cached.before) ? "all features" : `all before ${cached.before}`}, ${bytes(cached.bytes)} in ${cached.kept === "memory" ? "memory" : "a file"}` : "nothing"],
  ];
  return h("dl", { class: "facts" }, facts.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}

function details(plan) {
  return plan.stages.map((stage) =>
    h(
      "details",
      {},
      h("summary", {}, `${stage.name}: ${plural(stage.epochs, "epoch")}, ${count(stage.trained_parameters)} of ${count(plan.backbone.parameters)} parameters trained`),
      h(
        "ul",
        { class: "lines small-text" },
        h("li", {}, `Optimizer: ${stage.optimizer}`),
        h("li", {}, `Images: ${stage.augmentation === "none" ? "plain" : stage.augmentation}, ${plural(stage.steps_per_epoch, "step")} an epoch`),
        h("li", {}, `BatchNorm: ${stage.batch_norm}`),
        stage.features && h("li", {}, `Computed once: what comes before ${stage.features.before} (${bytes(stage.features.bytes)}), which saves ${Math.round(100 * stage.features.saving)} % of each epoch's work`),
        stage.groups.map((group) => h("li", {}, `Group ${group.name}: ${group.modules.join(", ")} (${count(group.parameters)} parameters, factor ${rate(group.factor)})`)),
        stage.options.map((text) => h("li", {}, text)),
      ),
    ),
  );
}

/** The rates as a chart: each group a line that breaks where a stage does not train it. */
export function ratesOf({ stages }) {
  const lines = new Map();
  const bands = [];
  let before = 0;
  for (const stage of stages) {
    for (const group of stage.groups) {
      const line = lines.get(group.name) ?? { name: group.name, x: [], y: [], colour: lines.size, hover: "%{y:.3g}" };
      lines.set(group.name, line);
      for (const { epoch, first, last } of stage.lr) {
        line.x.push(before + epoch - 1, before + epoch);
        line.y.push(first[group.name] || null, last[group.name] || null);
      }
      line.x.push(before + stage.epochs);
      line.y.push(null);
    }
    bands.push({ from: before, to: before + stage.epochs, name: stage.name });
    before += stage.epochs;
  }
  return { lines: [...lines.values()], bands, x: "epochs", y: "learning rate", log: true };
}
