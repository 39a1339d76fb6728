// A job: how it stands, live, and all that it wrote.

import { all, get, maySubmit, path, watch } from "./api.js";
import { checkpointList } from "./checkpoint-list.js";
import { add, copyable, fill, h, section } from "./dom.js";
import { epochTable } from "./epoch-table.js";
import { eventLog } from "./event-log.js";
import { duration, metricName, metricValue, number, time } from "./format.js";
import { jobCharts } from "./job-charts.js";
import { jobControls } from "./job-controls.js";
import { jobHead } from "./job-head.js";
import { rangeTest } from "./range-test.js";
import { badge, bar, elapsed, ended, place, share } from "./status.js";
import { timeSpent } from "./time-spent.js";

const EVERY = 2000;

export async function show(main, { job: id }) {
  const base = `/v1/jobs/${encodeURIComponent(id)}`;
  const [first, allowed, lines] = await Promise.all([get(base), maySubmit(), get(`${base}/loading`)]);
  document.title = `${first.name ?? first.id} · Thaw`;
  const known = { epochs: [], events: [], checkpoints: [] };
  const parts = partsOf(allowed, first, lines, (job) => parts.standing.update(job, known));
  add(main, parts.all);
  await watch(
    base,
    async (job) => {
      await learn(base, job, known);
      await parts.update(job, known);
      return ended(job) ? false : undefined;
    },
    { every: EVERY },
  );
}

/** Fetches what is new since the last look. Epochs that an attempt wrote anew replace those that stood there. */
async function learn(base, job, known) {
  const last = known.events.at(-1)?.id ?? 0;
  const events = await all(`${base}/events`, { after: last, limit: 1000 });
  known.events.push(...events);
  if (known.read && events.length === 0 && !ended(job)) return;
  const again = events.some(({ type, data }) => type === "job.epoch" && data.global_epoch <= (known.epochs.at(-1)?.global_epoch ?? 0));
  if (again) known.epochs = [];
  if (!known.read || events.some(({ type }) => type === "job.epoch")) {
    const after = known.epochs.at(-1)?.global_epoch ?? 0;
    const { data } = await get(path(`${base}/metrics`, { after_epoch: after }));
    known.epochs.push(...data);
  }
  known.checkpoints = (await get(`${base}/checkpoints`)).data;
  known.read = true;
}

function partsOf(allowed, first, lines, told) {
  const standing = standingOf(first);
  const controls = jobControls(allowed, told);
  const charts = jobCharts();
  const table = epochTable();
  const log = eventLog();
  const found = rangeTest();
  const spent = timeSpent();
  const checkpoints = checkpointList();
  const loading = section("Load the model", copyable(lines.lines));
  const epochs = section("Epochs", table.element);
  const spending = section("Where the time goes", spent.element);
  const kept = section("Checkpoints", checkpoints.element);
  for (const part of [epochs, spending, loading]) part.hidden = true;
  kept.hidden = Boolean(first.resolved_spec.range_test);
  return {
    standing,
    all: [
      jobHead(first, "", controls.element),
      standing.element,
      found.element,
      charts.element,
      h("div", { class: "columns uneven" }, kept, spending),
      epochs,
      section("Events", log.element),
      loading,
      h("details", { class: "panel" }, h("summary", {}, "The spec, with every default filled in"), copyable(JSON.stringify(first.resolved_spec, null, 2))),
    ],
    async update(job, known) {
      standing.update(job, known);
      controls.update(job, known.checkpoints);
      log.update(known.events);
      found.update(job);
      checkpoints.update(job, known.checkpoints);
      if (known.epochs.length === 0) return;
      for (const part of [epochs, spending]) part.hidden = false;
      loading.hidden = known.checkpoints.length === 0;
      table.update(known.epochs);
      spent.update(job, known.epochs);
      await charts.draw(known.epochs);
    },
  };
}

function standingOf(first) {
  const element = h("section", { class: "panel", "aria-label": "Status" });
  const facts = h("dl", { class: "facts" });
  const head = h("div", { role: "status" });
  add(element, [head, facts]);
  return {
    element,
    update(job, known) {
      fill(
        head,
        h("p", {}, badge(job.status), "  ", h("span", { class: job.error ? "problem" : "muted" }, reason(job))),
        job.error && h("p", { class: "notice error" }, h("strong", {}, job.error.code), ": ", job.error.message),
        !ended(job) && job.progress && [bar(job), h("p", { class: "muted small-text" }, `${place(job)}, step ${job.progress.step} of ${job.progress.steps}`)],
      );
      fill(facts, factsOf(job, known).map(([name, value, big]) => h("div", {}, h("dt", {}, name), h("dd", { class: big && "big" }, value))));
    },
  };
}

const reason = (job) => (job.error ? "" : job.status_reason);

function factsOf(job, { epochs }) {
  const spec = job.resolved_spec;
  const branched = job.branched_from && [["Branched from", h("a", { href: `/jobs/${job.parent}` }, job.branched_from)]];
  const retried = job.parent && !job.branched_from && [["Tries again", h("a", { href: `/jobs/${job.parent}` }, job.parent)]];
  return [
    job.best && [`Best ${metricName(job.best.metric)}`, metricValue(job.best.metric, job.best.value), true],
    job.status === "running" && ["Remaining", remaining(job, epochs), true],
    ["Took", duration(elapsed(job)), true],
    job.status === "running" && job.progress && ["Images per second", number(job.progress.images_per_second, 0), true],
    ["Dataset", h("a", { href: `/datasets/${spec.dataset.path}` }, spec.dataset.path)],
    ["Backbone", spec.backbone.name],
    ["Submitted", time(job.created_at)],
    ended(job) ? ["Ended", time(job.finished_at)] : job.estimated_finish && ["Ends about", time(job.estimated_finish)],
    ["Attempt", `${job.attempt} of ${job.max_attempts}`],
    ...(branched || retried || []),
    job.experiment && ["Experiment", h("a", { href: `/experiments/${job.experiment}` }, job.variant)],
    ...Object.entries(job.metadata).map(([name, value]) => [name, value]),
  ].filter(Boolean);
}

/** What is left: as the server knows it, else by the pace of the epochs so far, of each stage as far as it has any. */
function remaining(job, epochs) {
  if (job.estimated_finish) return duration(Math.max(0, job.estimated_finish - Date.now() / 1000));
  const stages = job.resolved_spec.stages;
  const at = job.progress?.stage_index ?? 0;
  const pace = epochs.filter((epoch) => epoch.stage_index === at).at(-1);
  if (!pace || at < stages.length - 1) return `${Math.round(100 * (1 - share(job)))} % of the epochs`;
  const seconds = Object.values(pace.seconds).reduce((sum, one) => sum + one, 0);
  return duration(seconds * (stages[at].epochs - pace.epoch));
}
