// What stands above each page about a job: what it is, and the ways to its other pages.

import { h } from "./dom.js";

/** The head of a job's page. `here` is "", "report" or "try". */
export function jobHead(job, here, ...beside) {
  const tabs = [
    ["", "Training"],
    ["report", "Report"],
    ["try", "Try it"],
  ];
  return [
    h(
      "div",
      { class: "title" },
      h(
        "div",
        {},
        h("div", { class: "crumbs" }, h("a", { href: "/" }, "Jobs"), " / ", job.id),
        h("h1", {}, job.name ?? job.id),
      ),
      ...beside,
    ),
    h(
      "nav",
      { class: "tabs", "aria-label": "About this job" },
      tabs.map(([name, text]) => h("a", { href: `/jobs/${job.id}${name && "/"}${name}`, "aria-current": name === here && "page" }, text)),
    ),
  ];
}
