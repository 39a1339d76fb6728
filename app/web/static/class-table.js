// The figures of each class; a click on a column's name sorts by it.

import { fill, h, scrolling } from "./dom.js";
import { number, percent } from "./format.js";

const COLUMNS = [
  ["name", "Class"],
  ["precision", "Precision"],
  ["recall", "Recall"],
  ["f1", "F1"],
  ["average_precision", "Average precision"],
  ["threshold", "Threshold"],
  ["support", "Images"],
];

/** The table of a report's `per_class`. */
export function classTable(rows) {
  const columns = COLUMNS.filter(([name]) => rows.length > 0 && name in rows[0]);
  const place = scrolling("Figures of each class", null, { tall: true });
  let by = "name";
  let down = false;
  const sort = (name) => {
    down = by === name ? !down : name !== "name";
    by = name;
    draw();
  };
  const draw = () => {
    const order = [...rows].sort((a, b) => (a[by] < b[by] ? -1 : a[by] > b[by] ? 1 : 0) * (down ? -1 : 1));
    const head = columns.map(([name, text]) =>
      h("th", { scope: "col", class: name !== "name" && "num", "aria-sort": by === name && (down ? "descending" : "ascending") }, h("button", { type: "button", class: "small", "data-focus": name, on: { click: () => sort(name) } }, `${text}${by === name ? (down ? " ↓" : " ↑") : ""}`)),
    );
    const body = order.map((row) => h("tr", {}, columns.map(([name]) => (name === "name" ? h("th", { scope: "row" }, row.name) : h("td", { class: "num" }, shown(name, row[name]))))));
    fill(place, h("table", {}, h("caption", { class: "sr" }, "Figures of each class"), h("thead", {}, h("tr", {}, head)), h("tbody", {}, body)));
  };
  draw();
  return place;
}

function shown(name, value) {
  if (name === "support") return value.toLocaleString("en");
  return name === "threshold" ? number(value, 3) : percent(value);
}
