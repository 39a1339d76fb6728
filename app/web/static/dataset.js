// A dataset: its classes and splits, what its images look like, and what is wrong with its files.

import { get, maySubmit, part, path, watch } from "./api.js";
import { add, fill, h, section, svg } from "./dom.js";
import { plural } from "./format.js";
import { picture } from "./pictures.js";

const EVERY = 1000;
const SAMPLES = 24;

export async function show(main, { dataset: name }) {
  document.title = `${name} · Thaw`;
  const base = `/v1/datasets/${part(name)}`;
  const first = await get(path(base, { wait: 0 }));
  const allowed = await maySubmit();
  const check = h("div", {});
  const sizes = h("p", { class: "muted" });
  const start = h("a", { class: "button primary", href: path("/new", { dataset: name }) }, "Train on it");
  add(main, [
    h("div", { class: "title" }, h("div", {}, h("div", { class: "crumbs" }, h("a", { href: "/datasets" }, "Datasets")), h("h1", {}, name)), allowed && start),
    h("div", { class: "columns" }, section("Classes", classes(first), sizes), section("Problems", check)),
    samples(first),
  ]);
  await watch(
    path(base, { wait: 0 }),
    (dataset) => {
      fill(check, problems(dataset));
      fill(sizes, said(dataset.sizes));
      return dataset.check.status === "running" || dataset.check.status === "failed" ? undefined : false;
    },
    { every: EVERY },
  );
}

const said = (sizes) => sizes && `Images have ${sizes.smallest.join(" × ")} to ${sizes.largest.join(" × ")} pixels, in the median ${sizes.median.join(" × ")}.`;

function classes({ classes: names, counts, images, multi_label: several }) {
  const splits = Object.keys(counts);
  const most = Math.max(1, ...splits.flatMap((split) => Object.values(counts[split])));
  return [
    h("p", {}, `${plural(images, "image")} in ${plural(names.length, "class", "classes")}${several ? ", any number of them an image" : ""}.`),
    h("div", { class: "bars" }, names.map((name) => row(name, splits, counts, most))),
    h("ul", { class: "legend" }, splits.map((split) => h("li", {}, h("i", { class: split === "val" ? "c2" : "c1" }), split === "val" ? "to validate" : "to train"))),
  ];
}

function row(name, splits, counts, most) {
  const numbers = splits.map((split) => counts[split][name] ?? 0);
  const bars = splits.map((split, index) => svg("rect", { x: 0, y: index * 7, width: (100 * numbers[index]) / most, height: 5, class: split }));
  return [h("span", {}, name), svg("svg", { viewBox: `0 0 100 ${7 * splits.length - 2}`, preserveAspectRatio: "none", "aria-hidden": "true" }, bars), h("span", { class: "num" }, numbers.join(" + "))];
}

function problems({ problems: found, check }) {
  const status = {
    running: `Looking at the files: ${check.done.toLocaleString("en")}${check.total === null ? "" : ` of ${check.total.toLocaleString("en")}`}…`,
    done: found.length ? null : `All ${plural(check.total, "file")} were looked at: nothing is wrong.`,
    failed: check.message,
  }[check.status];
  return [
    status && h("p", { class: check.status === "failed" ? "problem" : "muted", role: "status" }, status),
    check.status === "running" && check.total && h("progress", { max: check.total, value: check.done, "aria-label": "files looked at" }),
    found.map(problem),
  ];
}

function problem({ severity, message, files, count }) {
  const more = count > files.length && files.length > 0 ? h("li", {}, `and ${(count - files.length).toLocaleString("en")} more`) : null;
  return h(
    "div",
    { class: `notice ${severity}` },
    h("p", {}, message),
    files.length > 0 && h("details", { open: files.length <= 5 }, h("summary", {}, plural(count, "file")), h("ul", {}, files.map((file) => h("li", {}, h("code", {}, file))), more)),
  );
}

function samples({ name, counts, classes: names }) {
  const place = h("ul", { class: "thumbs" });
  const more = h("button", { type: "button", on: { click: () => load() } }, "More images");
  const problem = h("p", { class: "problem", role: "alert" });
  const select = (id, label, values) => {
    const element = h("select", { id, on: { change: restart } }, h("option", { value: "" }, "all"), values.map((value) => h("option", { value }, value)));
    return [h("div", {}, h("label", { for: id }, label), element), element];
  };
  const [splitField, split] = select("sample-split", "Split", Object.keys(counts));
  const [classField, chosen] = select("sample-class", "Class", names);
  let after = null;
  let turn = 0;

  async function load() {
    const own = ++turn;
    try {
      const page = await get(path("/v1/images", { dataset: name, split: split.value, class: chosen.value, after, limit: SAMPLES }));
      if (own !== turn) return;
      after = page.last_id;
      more.hidden = !page.has_more;
      add(place, page.data.map((image) => h("li", {}, picture(name, image.id, image.file, 168), h("span", {}, image.labels.join(", ")))));
    } catch (error) {
      problem.textContent = error.message;
    }
  }

  function restart() {
    after = null;
    place.replaceChildren();
    load();
  }
  load();
  return section("Images", h("div", { class: "filters" }, splitField, classField), place, problem, h("p", {}), more);
}
