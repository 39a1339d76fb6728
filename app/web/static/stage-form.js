// One stage as a form: what is frozen, at which rates the rest is trained, on which views.

import { h } from "./dom.js";
import { field, partField, partFields } from "./form.js";

const UP_FRONT = ["name", "epochs", "freeze", "lr", "optimizer", "augmentation", "early_stopping"];

/** The form of the stage at `index` of `count`. `moves` are what can be done with it as a whole. */
export function stageForm(draft, index, count, schemas, moves) {
  const param = `stages.${index}`;
  const { properties } = schemas.StageSpec;
  const part = (name, options) => partField(draft, `${param}.${name}`, name.split(".").at(-1), properties[name], schemas, options);
  const schedule = schemas.LrPlan.properties.schedule;
  return h(
    "fieldset",
    { class: "stage" },
    h("legend", {}, `Stage ${index + 1}`),
    h(
      "div",
      { class: "fields" },
      field(draft, { param: `${param}.name`, label: "Name", placeholder: `stage ${index + 1}` }),
      field(draft, { param: `${param}.epochs`, label: "Epochs", kind: "number" }),
      part("freeze", { label: "Freeze" }),
      partField(draft, `${param}.lr.schedule`, "schedule", schedule, schemas, { label: "Learning rate" }),
      part("optimizer"),
      part("augmentation"),
      part("early_stopping"),
    ),
    h(
      "details",
      { "data-keep": `${param} more`, open: draft.opened?.has(`${param} more`) },
      h("summary", {}, "More about this stage"),
      h(
        "div",
        { class: "fields" },
        partFields(draft, `${param}.lr`, schemas.LrPlan, schemas, ["schedule"]),
        partFields(draft, param, schemas.StageSpec, schemas, UP_FRONT),
      ),
    ),
    h(
      "div",
      { class: "actions" },
      button("Up", `move stage ${index + 1} up`, index > 0, () => moves.swap(index, index - 1)),
      button("Down", `move stage ${index + 1} down`, index < count - 1, () => moves.swap(index, index + 1)),
      button("Remove", `remove stage ${index + 1}`, count > 1, () => moves.remove(index)),
    ),
  );
}

function button(text, said, enabled, click) {
  const shared = { type: "button", class: "small", "aria-label": said, "data-focus": said, disabled: !enabled };
  return h("button", { ...shared, on: { click } }, text);
}
