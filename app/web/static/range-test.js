// What a search for a learning rate found: its curve, and the rate in a sentence.

import { chart } from "./charts.js";
import { fill, h, section } from "./dom.js";
import { rate } from "./format.js";

/** The part of the page; `update(job)`. */
export function rangeTest() {
  const curve = chart("The loss at each learning rate, on a logarithmic axis");
  const said = h("p", { class: "answer" });
  const element = section("Learning rate", said, curve.element);
  element.hidden = true;
  let shown = false;
  return {
    element,
    update(job) {
      const found = job.result?.range_test;
      if (!found || shown) return;
      shown = true;
      element.hidden = false;
      fill(said, found.suggestion ? `A learning rate of ${rate(found.suggestion)} for stage ${found.stage}.` : found.reason);
      const x = found.curve.map((point) => point.lr);
      const line = (name, index) => ({ name, x, y: found.curve.map((point) => point[name]), colour: index });
      curve.draw({ lines: [line("loss", 1), line("smoothed", 0)], x: "learning rate", y: "loss", integers: false, logX: true });
    },
  };
}
