// Which page this is, and what stands around all of them.

import { ApiError, caller } from "./api.js";
import { add, empty, fill, h } from "./dom.js";
import { forgetKey, storedKey } from "./key.js";

const PAGES = [
  [/^\/$/, () => import("./jobs.js")],
  [/^\/new$/, () => import("./new-job.js")],
  [/^\/jobs\/(?<job>[^/]+)$/, () => import("./job.js")],
  [/^\/jobs\/(?<job>[^/]+)\/report$/, () => import("./report.js")],
  [/^\/jobs\/(?<job>[^/]+)\/try$/, () => import("./try-it.js")],
  [/^\/datasets$/, () => import("./datasets.js")],
  [/^\/datasets\/(?<dataset>.+)$/, () => import("./dataset.js")],
  [/^\/experiments$/, () => import("./experiments.js")],
  [/^\/experiments\/(?<experiment>[^/]+)$/, () => import("./experiment.js")],
];

/** The page at an address, with what its path names. */
function find(address) {
  for (const [pattern, load] of PAGES) {
    const match = pattern.exec(address);
    if (match) {
      const named = Object.entries(match.groups ?? {}).map(([name, value]) => [name, decodeURIComponent(value)]);
      return { load, named: Object.fromEntries(named) };
    }
  }
  return null;
}

/** Says what went wrong in the page's place; everything else would be a page that stays empty. */
function broken(main, error) {
  const missing = error instanceof ApiError && error.status === 404;
  document.title = "Thaw";
  fill(
    main,
    empty(
      h("strong", {}, missing ? "There is nothing here." : "This page could not be shown."),
      h("p", { class: "problem" }, error.message),
      error.requestId && h("p", { class: "muted" }, `The server's log has more under ${error.requestId}.`),
      h("p", {}, h("a", { href: "/" }, "All jobs")),
    ),
  );
}

function markPlace() {
  const top = `/${location.pathname.split("/")[1]}`;
  for (const link of document.querySelectorAll("header nav a")) {
    const own = link.getAttribute("href");
    if (own === top || (own === "/" && top === "/jobs")) link.setAttribute("aria-current", "page");
  }
}

async function showCaller() {
  if (!storedKey()) return;
  const { owner, scope } = await caller();
  const what = { read: "may look", submit: "may submit", admin: "may do everything" }[scope];
  fill(
    document.getElementById("caller"),
    h("span", { class: "muted" }, `${owner ? `${owner}: ` : ""}this key ${what}`),
    h("button", { type: "button", class: "small", on: { click: forgetKey } }, "Forget it"),
  );
}

document.addEventListener("thaw:connection", ({ detail }) => {
  const place = document.getElementById("connection");
  fill(place, !detail && h("p", {}, "The server does not answer. Nothing is lost; asking again…"));
});

async function start() {
  const main = document.getElementById("main");
  markPlace();
  const page = find(location.pathname);
  if (page === null) return broken(main, new Error(`There is no page ${location.pathname}.`));
  window.addEventListener("unhandledrejection", ({ reason }) => {
    if (reason?.name !== "AbortError") add(document.getElementById("connection"), h("p", {}, String(reason?.message ?? reason)));
  });
  try {
    const { show } = await page.load();
    await Promise.all([show(main, page.named), caller().then(showCaller)]);
  } catch (error) {
    broken(main, error);
  }
}

start();
