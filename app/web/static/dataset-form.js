// Which photographs: a dataset, its classes and counts, and what some of its images look like.

import { get, part, path } from "./api.js";
import { calmly, fill, h } from "./dom.js";
import { field } from "./form.js";
import { plural } from "./format.js";
import { picture } from "./pictures.js";

const SHOWN = 6; // images, and classes that are named

/** The field, and below it what the dataset holds. */
export function datasetForm(draft, datasets) {
  const about = h("div", { "aria-live": "polite" });
  let shown = null;
  const update = calmly(async () => {
    const name = draft.get("dataset.path");
    if (name === shown) return;
    shown = name;
    const known = datasets.find((dataset) => dataset.name === name);
    fill(about, known ? await describe(known) : null);
  }, 150);
  draft.addEventListener("value", update);
  draft.addEventListener("shape", update);
  update();
  if (datasets.length === 0) {
    return [h("p", {}, "There is no dataset yet. ", h("a", { href: "/datasets" }, "Send one"), ": a zip archive with a folder for each class."), field(draft, { param: "dataset.path", label: "Dataset" })];
  }
  const names = datasets.map(({ name }) => name);
  const other = draft.get("dataset.path");
  if (other && !names.includes(other)) names.unshift(other);
  return [field(draft, { param: "dataset.path", label: "Dataset", kind: "choice", options: names }), about];
}

async function describe(dataset) {
  const { counts, classes, name } = dataset;
  const total = (split) => Object.values(counts[split] ?? {}).reduce((sum, one) => sum + one, 0);
  const splits = Object.keys(counts).map((split) => `${plural(total(split), "image")} in ${split}`);
  const named = classes.slice(0, SHOWN).map((one) => `${one} ${(counts.train?.[one] ?? 0) + (counts.val?.[one] ?? 0)}`);
  const more = classes.length > SHOWN ? ` and ${classes.length - SHOWN} more` : "";
  return [
    h("p", { class: "small-text muted" }, `${plural(classes.length, "class", "classes")}: ${named.join(", ")}${more}. ${splits.join(", ")}. `, h("a", { href: `/datasets/${part(name)}` }, "Look closer")),
    h("ul", { class: "thumbs" }, (await samples(dataset)).map((image) => h("li", {}, picture(name, image.id, image.labels.join(", "), 168), h("span", {}, image.labels.join(", "))))),
  ];
}

/** A few images, of different classes where there are some. */
async function samples({ name, classes }) {
  const some = classes.slice(0, SHOWN);
  const each = Math.max(1, Math.floor(SHOWN / Math.max(1, some.length)));
  const asked = some.map((one) => get(path("/v1/images", { dataset: name, class: one, limit: each })));
  const found = await Promise.allSettled(asked);
  return found.flatMap(({ value }) => value?.data ?? []);
}
