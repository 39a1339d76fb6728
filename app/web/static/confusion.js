// The confusion matrix: rows are labels, columns predictions. A click on a cell shows its photographs.

import { fill, grid, h, scrolling } from "./dom.js";
import { plural } from "./format.js";
import { gallery } from "./gallery.js";

const MOST = 30; // classes that fit as a matrix

/** The matrix of a report; the photographs of the cell that is chosen go into `place`. */
export function confusion(report, base, place) {
  const { classes, confusion: matrix, kind } = report;
  const columns = kind === "embedding" ? "the nearest other image's class" : "predictions";
  if (classes.length > MOST) return [pairs(report, choose), h("p", { class: "muted small-text" }, `With ${classes.length} classes the matrix is too large to be read: these are its largest cells off the diagonal.`)];

  function choose(label, prediction, button) {
    for (const one of document.querySelectorAll(".confusion button[aria-pressed], .pairs button[aria-pressed]")) one.setAttribute("aria-pressed", "false");
    button.setAttribute("aria-pressed", "true");
    const said = label === prediction ? `${label}, found right` : `${label}, taken for ${prediction}`;
    fill(place, h("h2", {}, `Photographs: ${said}`), gallery(base, { label, prediction }, kind));
    place.scrollIntoView({ block: "nearest" });
  }

  const most = Math.max(1, ...matrix.flatMap((row, i) => row.filter((_, j) => i !== j)));
  const cell = (row, column) => {
    const many = matrix[row][column];
    const said = `${plural(many, "image")} of ${classes[row]}, predicted ${classes[column]}`;
    const kindOf = row === column ? "right" : many === 0 ? "" : many > most / 2 ? "w3" : many > most / 6 ? "w2" : "w1";
    const button = h("button", { type: "button", class: kindOf, "aria-label": said, title: said, "aria-pressed": "false", disabled: many === 0, on: { click: () => choose(classes[row], classes[column], button) } }, many);
    return h("td", { class: "num" }, button);
  };
  return [
    scrolling(
      "Confusion matrix",
      h(
        "table",
        { class: "confusion" },
        h("thead", {}, h("tr", {}, h("td", {}), classes.map((name) => h("th", { scope: "col" }, name)))),
        h("tbody", {}, matrix.map((row, index) => h("tr", {}, h("th", { scope: "row" }, classes[index]), row.map((_, column) => cell(index, column))))),
      ),
    ),
    h("p", { class: "muted small-text" }, `Rows are labels, columns ${columns}.`),
  ];
}

function pairs({ classes, confusion: matrix }, choose) {
  const cells = matrix.flatMap((row, i) => row.map((many, j) => [many, i, j])).filter(([many, i, j]) => many > 0 && i !== j);
  cells.sort((a, b) => b[0] - a[0]);
  const row = ([many, i, j]) => {
    const button = h("button", { type: "button", class: "small", "aria-pressed": "false", on: { click: () => choose(classes[i], classes[j], button) } }, `${classes[i]} taken for ${classes[j]}`);
    return [button, many];
  };
  return h("div", { class: "pairs" }, grid("Confusions", ["Confusion", "Images"], cells.slice(0, 200).map(row), { tall: true }));
}

/** With several labels an image, each class by itself. */
export function yesNo({ classes, confusion: matrices }) {
  const heads = ["Class", "found", "missed", "given wrongly", "rightly left out"];
  const row = (name, [[no, wrong], [missed, found]]) => [name, found, missed, wrong, no];
  return grid("Confusion of each class", heads, classes.map((name, index) => row(name, matrices[index])), { tall: true });
}
