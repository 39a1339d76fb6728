// A small curve: how a metric went, without axes.

import { metricName, metricValue } from "./format.js";
import { h, svg } from "./dom.js";

const WIDTH = 120;
const HEIGHT = 30;

/** The curve of `[epoch, value]` points; nothing where there are fewer than two. */
export function spark(curve) {
  const points = (curve?.points ?? []).filter(([, value]) => value !== null);
  if (points.length < 2) return h("span", { class: "muted" }, "");
  const [xs, ys] = [points.map(([x]) => x), points.map(([, y]) => y)];
  const [left, right, low, high] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  const at = ([x, y]) => [
    (WIDTH * (x - left)) / (right - left || 1),
    high === low ? HEIGHT / 2 : HEIGHT - 2 - ((HEIGHT - 4) * (y - low)) / (high - low),
  ];
  const line = points.map((point) => at(point).map((v) => v.toFixed(1)).join(" ")).join(" L ");
  const [x, y] = at(points.at(-1));
  const said = `${metricName(curve.metric)} from ${metricValue(curve.metric, ys[0])} to ${metricValue(curve.metric, ys.at(-1))}`;
  return svg(
    "svg",
    { class: "spark", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": said },
    svg("path", { d: `M ${line}` }),
    svg("circle", { cx: x.toFixed(1), cy: y.toFixed(1), r: 2.2 }),
  );
}
