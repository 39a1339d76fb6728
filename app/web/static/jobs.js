// All jobs: how each stands, live. A page has few rows, however many jobs there are.

import { get, path, watch } from "./api.js";
import { add, empty, fill, h, keyed, scrolling } from "./dom.js";
import { duration, metricName, metricValue, time } from "./format.js";
import { spark } from "./spark.js";
import { badge, bar, elapsed, ended, place } from "./status.js";

const ROWS = 25;
const STATUSES = ["queued", "running", "pausing", "paused", "cancelling", "succeeded", "failed", "cancelled"];
const EVERY = 2000;

export async function show(main) {
  document.title = "Jobs · Thaw";
  const asked = new URLSearchParams(location.search);
  const table = tableOf();
  const list = h("div", {});
  let watching = new AbortController();

  function restart() {
    watching.abort();
    watching = new AbortController();
    const query = new URLSearchParams(asked);
    history.replaceState(null, "", query.size ? `/?${query}` : "/");
    return follow(asked, list, table, watching.signal).catch((error) => fill(list, h("p", { class: "problem" }, error.message)));
  }

  add(main, [
    h("div", { class: "title" }, h("h1", {}, "Jobs"), h("a", { class: "button primary", href: "/new" }, "New job")),
    filters(asked, restart),
    list,
  ]);
  await restart();
}

function filters(asked, changed) {
  const pair = [...asked].find(([name]) => name.startsWith("metadata["));
  const set = (name, value) => {
    for (const key of [...asked.keys()]) if (key === name || key === "after") asked.delete(key);
    if (value) asked.set(name, value);
    changed();
  };
  const status = h(
    "select",
    { id: "status", value: asked.get("status") ?? "", on: { change: () => set("status", status.value) } },
    h("option", { value: "" }, "any"),
    STATUSES.map((name) => h("option", { value: name }, name)),
  );
  const metadata = h("input", {
    id: "metadata",
    placeholder: "team=zoo",
    value: pair ? `${pair[0].slice(9, -1)}=${pair[1]}` : "",
    on: {
      change: () => {
        for (const key of [...asked.keys()]) if (key.startsWith("metadata[")) asked.delete(key);
        const [key, ...value] = metadata.value.split("=");
        set(`metadata[${key.trim()}]`, value.join("=").trim());
      },
    },
  });
  return h(
    "div",
    { class: "filters" },
    h("div", {}, h("label", { for: "status" }, "Status"), status),
    h("div", {}, h("label", { for: "metadata" }, "Metadata"), metadata),
  );
}

function tableOf() {
  const body = h("tbody", {});
  const heads = ["Job", "Status", "Progress", "Best", "Curve", "Took", "Submitted"];
  const right = new Set(["Best", "Took", "Submitted"]);
  const head = heads.map((name) => h("th", { scope: "col", class: right.has(name) && "num" }, name));
  const element = h("table", { class: "jobs" }, h("caption", { class: "sr" }, "Jobs, newest first"), h("thead", {}, h("tr", {}, head)), body);
  return { element: h("div", { class: "panel" }, scrolling("Jobs", element)), update: keyed(body, ({ job }) => job.id, row) };
}

function row({ job, curve }) {
  const title = job.name ?? job.id;
  const spec = job.resolved_spec;
  const best = job.best;
  return h(
    "tr",
    {},
    h(
      "td",
      { class: "name" },
      h("a", { href: `/jobs/${job.id}`, "data-focus": job.id }, title),
      h("div", { class: "muted small-text" }, `${spec.backbone.name} on ${spec.dataset.path}`),
    ),
    h("td", {}, badge(job.status)),
    h("td", { class: "going" }, going(job)),
    h("td", { class: "num" }, best ? [metricValue(best.metric, best.value), h("div", { class: "muted small-text" }, metricName(best.metric))] : ""),
    h("td", {}, spark(curve)),
    h("td", { class: "num" }, ended(job) && job.started_at ? duration(elapsed(job)) : ""),
    h("td", { class: "num muted" }, time(job.created_at)),
  );
}

function going(job) {
  if (ended(job)) return job.status === "failed" ? h("span", { class: "small-text" }, job.error?.code ?? "") : "";
  return [bar(job), h("div", { class: "muted small-text" }, job.progress ? place(job) : job.status_reason)];
}

async function follow(asked, list, table, signal) {
  const curves = new Map();
  const address = path(`/v1/jobs?${asked}${asked.size ? "&" : ""}limit=${ROWS}`);
  const pages = h("nav", { class: "actions", "aria-label": "More jobs" });
  await watch(
    address,
    async ({ data, has_more: more, last_id: last }) => {
      await learnCurves(data, curves, signal);
      if (signal.aborted) return false;
      if (data.length === 0) return void fill(list, nothing(asked));
      table.update(data.map((job) => ({ job: summary(job), curve: curves.get(job.id)?.curve })));
      fill(pages, turn(asked, more ? last : null));
      if (!list.contains(table.element)) fill(list, table.element, pages);
    },
    { every: EVERY, signal },
  );
}

/** What a row shows of a job: what it does not show may change without the row being made anew. */
function summary({ id, name, status, status_reason, progress, best, error, created_at, started_at, finished_at, resolved_spec }) {
  const { dataset, backbone, stages } = resolved_spec;
  return { id, name, status, status_reason, progress, best, error, created_at, started_at, finished_at, resolved_spec: { dataset, backbone, stages } };
}

/** Fetches the curves of jobs that have got further since. */
async function learnCurves(jobs, curves, signal) {
  const state = (job) => `${job.status} ${job.progress?.stage_index} ${job.progress?.epoch}`;
  const wanted = jobs.filter((job) => job.started_at && curves.get(job.id)?.state !== state(job));
  if (wanted.length === 0) return;
  const { data } = await get(path("/v1/curves", { job: wanted.map((job) => job.id) }), { signal });
  const found = new Map(data.map((curve) => [curve.id, curve]));
  for (const job of wanted) curves.set(job.id, { state: state(job), curve: found.get(job.id) });
}

function turn(asked, last) {
  const older = new URLSearchParams(asked);
  older.set("after", last);
  const newest = new URLSearchParams(asked);
  newest.delete("after");
  return [
    asked.has("after") && h("a", { class: "button", href: `/?${newest}`, "data-focus": "newest" }, "Newest jobs"),
    last !== null && h("a", { class: "button", href: `/?${older}`, "data-focus": "older" }, "Older jobs"),
  ];
}

function nothing(asked) {
  if (asked.size) return empty("No job is like that.", h("p", {}, h("a", { href: "/" }, "Show all jobs")));
  return empty(
    "No job yet. A job takes your photographs and a trained network, and teaches it your classes.",
    h("p", {}, h("a", { class: "button primary", href: "/new" }, "Start the first one")),
  );
}
