// How it is trained: a recipe, or stages that can be added, removed and reordered.

import { h } from "./dom.js";
import { alternatives } from "./draft.js";
import { partField } from "./form.js";
import { stageForm } from "./stage-form.js";

const NEW_STAGE = {
  epochs: 10,
  freeze: { policy: "none" },
  optimizer: { name: "sgd", momentum: 0.9 },
  lr: { schedule: { name: "cosine", lr: 0.001, end_lr: 0 } },
  augmentation: { name: "standard" },
};
const SAID = {
  two_stage: "first the head, then everything",
  joint: "everything at once, the head faster",
  linear_probe: "the head alone",
  gradual: "block after block, from the head down",
  triplet: "an embedding, by comparing images",
};

/** The form. `toStages` gives the stages that the spec's recipe stands for, as the plan has them. */
export function trainingForm(draft, schemas, toStages) {
  const staged = Array.isArray(draft.get("stages"));
  return [
    h(
      "div",
      { class: "segmented form-part", role: "group", "aria-label": "Recipe or stages" },
      choice("A recipe", !staged, () => toRecipe(draft)),
      choice("Stages by hand", staged, () => stagesByHand(draft, toStages)),
    ),
    h("p", { class: "problem", id: "training-problem", "data-param": staged ? "stages" : "recipe", "data-for": "training-problem" }),
    staged ? stages(draft, schemas) : recipe(draft, schemas),
  ];
}

const choice = (text, pressed, click) =>
  h("button", { type: "button", "aria-pressed": String(pressed), "data-focus": text, on: { click: () => !pressed && click() } }, text);

function toRecipe(draft) {
  delete draft.spec.stages;
  draft.set("recipe", draft.laidAside ?? { name: "two_stage" }, { shape: true });
}

/** Writes the recipe's stages out, so that each can be changed. */
export async function stagesByHand(draft, toStages) {
  if (Array.isArray(draft.get("stages"))) return;
  const stages = await toStages();
  if (Array.isArray(draft.get("stages"))) return; // a second click was quicker
  draft.laidAside = draft.get("recipe");
  delete draft.spec.recipe;
  draft.set("stages", stages ?? [structuredClone(NEW_STAGE)], { shape: true });
}

function recipe(draft, schemas) {
  const kinds = alternatives(schemas.JobSpec.properties.recipe).filter((one) => one.$ref);
  const name = draft.get("recipe")?.name;
  return h(
    "div",
    { class: "fields" },
    partField(draft, "recipe", "recipe", { oneOf: kinds }, schemas, { label: "Recipe", hint: SAID[name] && `${SAID[name][0].toUpperCase()}${SAID[name].slice(1)}.` }),
  );
}

function stages(draft, schemas) {
  const list = draft.get("stages");
  const changed = (next) => draft.set("stages", next, { shape: true });
  const moves = {
    swap(one, other) {
      const next = [...list];
      [next[one], next[other]] = [next[other], next[one]];
      changed(next);
    },
    remove: (index) => changed(list.filter((_, at) => at !== index)),
  };
  const add = () => changed([...list, structuredClone(NEW_STAGE)]);
  return [
    list.map((_, index) => stageForm(draft, index, list.length, schemas, moves)),
    h("button", { type: "button", "data-focus": "add stage", on: { click: add } }, "Add a stage"),
  ];
}
