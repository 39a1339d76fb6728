// The freeze map: the backbone's blocks as columns, the stages as rows. A click sets where training begins.

import { h, scrolling } from "./dom.js";
import { count } from "./format.js";

const SAID = { frozen: "frozen", trained: "trained", partly: "partly frozen", head: "head, trained" };
const MEANING = [
  ["frozen", "frozen: nothing in it moves"],
  ["trained", "trained"],
  ["partly", "partly frozen"],
  ["head", "the new head"],
];

/**
 * The map of a plan. `choose(stage, block)` is called with a stage's index and the first block that it is to
 * train; without it the map only shows. One cell is in the tab order, and arrow keys go to the others.
 */
export function freezeMap(plan, choose) {
  const { blocks, stages } = plan;
  const heads = blocks.map((block) => h("th", { scope: "col", title: `${block.name}: ${count(block.parameters)} parameters` }, h("span", {}, block.name)));
  const rows = stages.map((stage, row) =>
    h("tr", {}, h("th", { scope: "row", title: stage.name }, stage.name), stage.blocks.map((state, column) => cell(plan, row, column, state, choose))),
  );
  const table = h(
    "table",
    { class: "freeze-map", on: { keydown: walk } },
    h("caption", { class: "sr" }, "What each stage freezes and trains. Choosing a block freezes all before it."),
    h("thead", {}, h("tr", {}, h("td", {}), heads)),
    h("tbody", {}, rows),
  );
  const states = new Set(stages.flatMap((stage) => stage.blocks));
  const legend = MEANING.filter(([state]) => states.has(state)).map(([state, text]) => h("li", {}, h("i", { class: state }), text));
  return [scrolling("Freeze map", table), h("ul", { class: "legend" }, legend)];
}

function cell(plan, row, column, state, choose) {
  const block = plan.blocks[column];
  const stage = plan.stages[row];
  const said = `${stage.name}, ${block.name}: ${SAID[state]}, ${count(block.parameters)} parameters`;
  const shared = { class: state, title: said, "aria-label": said };
  if (!choose) return h("td", {}, h("button", { ...shared, type: "button", disabled: true }));
  return h(
    "td",
    {},
    h("button", {
      ...shared,
      type: "button",
      tabindex: row === 0 && column === 0 ? "0" : "-1",
      "data-focus": `${row}/${column}`,
      "data-row": row,
      "data-column": column,
      on: { click: () => choose(row, column) },
    }),
  );
}

const STEPS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };

function walk(event) {
  const step = STEPS[event.key];
  const at = event.target.dataset;
  if (!step || at.row === undefined) return;
  const [row, column] = [Number(at.row) + step[0], Number(at.column) + step[1]];
  const next = event.currentTarget.querySelector(`[data-row="${row}"][data-column="${column}"]`);
  if (!next) return;
  event.preventDefault();
  for (const one of event.currentTarget.querySelectorAll("button")) one.tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
}

/** The policy that freezes all blocks before one. */
export function policyBefore(block) {
  if (block.head) return { policy: "backbone" };
  return block.boundary === null ? { policy: "none" } : { policy: "before", module: block.boundary };
}
