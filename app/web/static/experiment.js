// An experiment: the answer in a sentence, the table, the paired differences, the curves over each other.

import { get, maySubmit, path, post, watch } from "./api.js";
import { chart } from "./charts.js";
import { add, copyable, fill, grid, h, section } from "./dom.js";
import { duration, metricName, metricValue, number, plural } from "./format.js";
import { badge, ended } from "./status.js";

const EVERY = 2000;
const POINTS = 400;
const AT_ONCE = 100; // jobs that one call gives the curves of

export async function show(main, { experiment: id }) {
  const base = `/v1/experiments/${encodeURIComponent(id)}`;
  const [first, allowed] = await Promise.all([get(base), maySubmit()]);
  document.title = `${first.name ?? first.id} · Thaw`;
  const top = h("section", { class: "panel", "aria-label": "Answer" });
  const table = h("div", {});
  const pairs = h("div", {});
  const jobs = h("div", {});
  const curves = chart(`${metricName(first.metric)} of all variants by epoch; a line for each seed`);
  const problem = h("p", { class: "problem", role: "alert" });
  const cancel = h("button", { type: "button", class: "danger", on: { click: () => post(`${base}/cancel`).catch((error) => (problem.textContent = error.message)) } }, "Cancel what is left");
  const pairSection = section("Differences, seed by seed", pairs);
  add(main, [
    h("div", { class: "title" }, h("div", {}, h("div", { class: "crumbs" }, h("a", { href: "/experiments" }, "Experiments"), " / ", first.id), h("h1", {}, first.name ?? first.id)), allowed && cancel),
    problem,
    top,
    section("Variants", table),
    pairSection,
    section("Curves", curves.element),
    section("Jobs", jobs),
    section("What differs", first.variants.map(({ name, patch }) => [h("h3", {}, name), copyable(JSON.stringify(patch, null, 2))])),
  ]);
  await watch(
    base,
    async (one) => {
      const done = one.jobs.filter(ended).length;
      cancel.hidden = ended(one);
      pairSection.hidden = one.comparisons.every(({ n }) => n === 0);
      fill(top, h("p", { class: "answer" }, one.answer), h("p", { class: "muted" }, badge(one.status), `  ${done} of ${plural(one.jobs.length, "job")} done.`), h("p", { class: "muted small-text" }, `Compared by: ${one.test}.`));
      fill(table, variants(one));
      fill(pairs, differences(one));
      fill(jobs, trials(one));
      await draw(curves, one);
      return ended(one) ? false : undefined;
    },
    { every: EVERY },
  );
}

function variants({ table, metric }) {
  const heads = ["Variant", metricName(metric), "Seeds", "Best epoch", "Time", "Failed"];
  const spread = (row) => (row.std === null ? metricValue(metric, row.mean) : `${metricValue(metric, row.mean)} ± ${points(metric, row.std)}`);
  const row = (one) => [one.n ? spread(one) : "–", one.n, number(one.best_epoch, 1), duration(one.seconds), one.failed];
  return grid("Variants", heads, table.map((one) => [one.variant, ...row(one)]));
}

/** A difference of shares in points, of losses as it is. */
const points = (metric, value) => (metric.endsWith("loss") ? number(value) : (100 * value).toFixed(1));

function differences({ comparisons, metric }) {
  const unit = metric.endsWith("loss") ? "" : " points";
  const signed = (value) => (value === null ? "–" : `${value > 0 ? "+" : value < 0 ? "−" : ""}${points(metric, Math.abs(value))}`);
  const row = (one) => [`${one.a} − ${one.b}`, one.mean_difference === null ? "–" : `${signed(one.mean_difference)}${one.std_difference === null ? "" : ` ± ${points(metric, one.std_difference)}`}${unit}`, one.n, number(one.p_adjusted ?? one.p_value, 3), one.p_value === null ? "not known" : one.differs ? "more than the noise" : "within the noise"];
  return grid("Paired differences", ["Pair", "Difference", "Seeds", "p", "Verdict"], comparisons.map(row));
}

function trials({ jobs, metric }) {
  const heads = ["Job", "Variant", "Seed", "Status", metricName(metric), "Time"];
  return grid("Jobs", heads, jobs.map((one) => [h("a", { href: `/jobs/${one.id}` }, one.id), one.variant, one.seed, badge(one.status), metricValue(metric, one.value), duration(one.seconds)]), { texts: [1, 3] });
}

async function draw(curves, one) {
  const ids = one.jobs.map(({ id }) => id);
  const chunks = Array.from({ length: Math.ceil(ids.length / AT_ONCE) }, (_, index) => ids.slice(index * AT_ONCE, (index + 1) * AT_ONCE));
  const pages = await Promise.all(chunks.map((job) => get(path("/v1/curves", { job, points: POINTS }))));
  const found = new Map(pages.flatMap(({ data }) => data).map((curve) => [curve.id, curve.points]));
  const names = one.variants.map(({ name }) => name);
  const shown = new Set();
  const lines = one.jobs.filter(({ id }) => found.get(id)?.length).map(({ id, variant }) => {
    const points = found.get(id);
    const hidden = shown.has(variant);
    shown.add(variant);
    return { name: variant, hidden, x: points.map(([x]) => x), y: points.map(([, y]) => y), colour: names.indexOf(variant), width: 1.5, mode: points.length < 3 ? "lines+markers" : "lines", hover: one.metric.endsWith("loss") ? "%{y:.4f}" : "%{y:.1%}" };
  });
  if (lines.length) await curves.draw({ lines, x: "epoch", y: metricName(one.metric), share: !one.metric.endsWith("loss"), range: [0.5, Math.max(2, ...lines.flatMap(({ x }) => x)) + 0.5] });
}
