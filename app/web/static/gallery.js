// Photographs of a report with what was said of them.

import { get, path } from "./api.js";
import { add, h } from "./dom.js";
import { number, percent } from "./format.js";
import { picture } from "./pictures.js";

const MANY = 12;

/** The photographs that a query of the report's images gives, a page at a time. */
export function gallery(base, query, kind) {
  const list = h("ul", { class: "gallery" });
  const problem = h("p", { class: "problem", role: "alert" });
  const more = h("button", { type: "button", hidden: true, on: { click: load } }, "More");
  let after = null;

  async function load() {
    more.disabled = true;
    try {
      const page = await get(path(`${base}/report/images`, { ...query, after, limit: MANY }));
      after = page.last_id;
      add(list, page.data.map((image) => h("li", {}, picture(image.dataset, image.id, image.file), said(image, kind))));
      more.hidden = !page.has_more;
      if (page.data.length === 0 && list.children.length === 0) problem.textContent = "There are no photographs to show.";
    } catch (error) {
      problem.textContent = error.message;
    } finally {
      more.disabled = false;
    }
  }
  load();
  return [list, problem, h("p", {}), more];
}

function said(image, kind) {
  const file = h("p", { class: "muted small-text" }, image.file);
  if (kind === "several_labels") return [h("p", {}, `${image.label} ${image.mistake === "given" ? "was given wrongly" : "was missed"}, `, h("strong", {}, percent(image.probability))), file];
  if (kind === "embedding") return [h("p", {}, `${image.label}, nearest is ${image.prediction}`), h("p", { class: "muted small-text" }, `distance ${number(image.distance, 3)} to ${image.neighbour}`), file];
  const right = image.label === image.prediction;
  return [h("p", {}, right ? [image.label, " "] : [`${image.label}, taken for `, h("strong", {}, image.prediction), " "], percent(image.probability)), file];
}
