// Labels that may be wrong: photographs that the network is sure are of another class. Those that are wrong can
// be exported as a corrected manifest.

import { all, save } from "./api.js";
import { fill, h, section } from "./dom.js";
import { percent, plural } from "./format.js";
import { picture } from "./pictures.js";

const SURE = ["0.99", "0.95", "0.9", "0.8"];
const MOST = 500;

/** The part of the page. */
export function suspects(base, { classes }) {
  const place = h("div", {});
  const chosen = new Map(); // id → class
  const sure = h("select", { id: "sure", value: "0.9", on: { change: load } }, SURE.map((value) => h("option", { value }, percent(Number(value), 0))));
  const state = h("span", { class: "muted", role: "status" });
  const button = h("button", { type: "button", class: "primary", disabled: true, on: { click: take } }, "Export a corrected manifest");
  const problem = h("p", { class: "problem", role: "alert" });

  function said() {
    button.disabled = chosen.size === 0;
    state.textContent = chosen.size ? `${plural(chosen.size, "label")} to be corrected` : "Tick the labels that are wrong.";
  }

  async function load() {
    chosen.clear();
    said();
    problem.textContent = "";
    try {
      const found = await all(`${base}/report/images`, { suspect: sure.value, limit: 100 }, MOST);
      fill(place, found.length ? list(found) : h("p", { class: "muted" }, `No label is contradicted with a probability of ${percent(Number(sure.value), 0)} or more.`));
    } catch (error) {
      problem.textContent = error.message;
    }
  }

  function list(found) {
    return h("ul", { class: "gallery" }, found.map((image) => {
      const set = () => {
        if (box.checked) chosen.set(image.id, choice.value);
        else chosen.delete(image.id);
        said();
      };
      const box = h("input", { type: "checkbox", id: `wrong-${image.id}`, on: { change: set } });
      const choice = h("select", { "aria-label": `right class of ${image.file}`, value: image.prediction, on: { change: set } }, classes.map((name) => h("option", { value: name }, name)));
      return h(
        "li",
        {},
        picture(image.dataset, image.id, image.file),
        h("p", {}, h("label", { for: box.id }, box, ` not ${image.label} but`)),
        choice,
        h("p", { class: "muted small-text" }, `${image.prediction} ${percent(image.probability)}, ${image.label} ${percent(image.probability_of_label)}. ${image.file}`),
      );
    }));
  }

  async function take() {
    problem.textContent = "";
    try {
      await save(`${base}/report/corrections`, "corrected.csv", { method: "POST", json: { labels: Object.fromEntries(chosen) } });
    } catch (error) {
      problem.textContent = error.message;
    }
  }
  load();
  said();
  return section(
    "Suspected wrong labels",
    h("p", { class: "muted" }, "The network has not trained on these photographs, and is sure that they are of another class. Look whether it is right."),
    h("div", { class: "filters" }, h("div", {}, h("label", { for: "sure" }, "Sure by at least"), sure)),
    h("p", {}),
    place,
    h("p", {}),
    h("div", { class: "actions" }, button, state),
    problem,
  );
}
