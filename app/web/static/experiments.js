// All experiments, and how each stands.

import { get, path } from "./api.js";
import { add, empty, grid, h } from "./dom.js";
import { plural, time } from "./format.js";
import { badge } from "./status.js";

const ROWS = 25;

export async function show(main) {
  document.title = "Experiments · Thaw";
  const after = new URLSearchParams(location.search).get("after");
  const { data, has_more: more, last_id: last } = await get(path("/v1/experiments", { limit: ROWS, after }));
  add(main, h("div", { class: "title" }, h("h1", {}, "Experiments")));
  if (data.length === 0) {
    return add(main, empty("No experiment yet. One trains several variants of a spec with several seeds, and says which is better.", h("p", {}, "Start one with ", h("code", {}, "thaw experiment run FILE"), " or ", h("code", {}, "POST /v1/experiments"), ".")));
  }
  const heads = ["Experiment", "Status", "Variants", "Seeds", "Jobs done", "Answer", "Started"];
  add(main, [
    h("div", { class: "panel" }, grid("Experiments, newest first", heads, data.map(row), { texts: [1, 2, 4, 5, 6] })),
    more && h("p", {}, h("a", { class: "button", href: path("/experiments", { after: last }) }, "Older experiments")),
  ]);
}

function row(one) {
  const done = one.progress.succeeded + one.progress.failed + one.progress.cancelled;
  return [
    h("a", { href: `/experiments/${one.id}` }, one.name ?? one.id),
    badge(one.status),
    one.variants.map(({ name }) => name).join(", "),
    one.seeds.length,
    `${done} of ${plural(one.jobs.length, "job")}`,
    done ? one.answer : "",
    h("span", { class: "muted nowrap" }, time(one.created_at)),
  ];
}
