// Whether the probabilities are to be believed: how often answers of each confidence are right.

import { chart } from "./charts.js";
import { h, section } from "./dom.js";
import { percent } from "./format.js";

/** The part of the page. */
export function calibration({ bins, error, count }) {
  const full = bins.filter((bin) => bin.count > 0);
  const drawn = chart("How often answers of each confidence are right, against what they promise", { low: true });
  const line = {
    name: "share that is right",
    x: full.map((bin) => bin.mean_confidence),
    y: full.map((bin) => bin.accuracy),
    text: full.map((bin) => `${bin.count} answers`),
    mode: "lines+markers",
    colour: 0,
    hover: "%{y:.1%} right of %{text}",
  };
  requestAnimationFrame(() => drawn.draw({ lines: [line], x: "probability of the answer", y: "share that is right", integers: false, share: true, diagonal: true, range: [0, 1.02] }));
  const mean = full.reduce((sum, bin) => sum + bin.count * (bin.mean_confidence - bin.accuracy), 0) / (count || 1);
  const verdict = error < 0.03 ? "They can be believed." : mean > 0 ? "The network is surer than it should be." : "The network is less sure than it could be.";
  return section("Calibration", h("p", {}, `Probabilities are off by ${percent(error)} on average. ${verdict} On the dotted line they would be exact.`), h("div", { class: "square" }, drawn.element));
}
