// Which network, and what it starts from.

import { h } from "./dom.js";
import { field } from "./form.js";
import { count } from "./format.js";

/** The searchable list of networks, and the weights of the one that is chosen. */
export function backboneForm(draft, backbones) {
  const known = backbones.find(({ name }) => name === draft.get("backbone.name"));
  const list = h("datalist", { id: "backbones" }, backbones.map(({ name, parameters }) => h("option", { value: name }, parameters ? `${count(parameters)} parameters` : "")));
  const chooseName = (name) => {
    const before = known?.name;
    draft.set("backbone.name", name);
    const now = backbones.find((one) => one.name === name);
    if (now && now.name !== before) {
      draft.set("backbone.weights", now.weights[0] ?? null, { shape: true });
    }
  };
  return h(
    "div",
    { class: "fields" },
    list,
    h(
      "div",
      {},
      field(draft, {
        param: "backbone.name",
        label: "Backbone",
        list: "backbones",
        onset: chooseName,
        placeholder: "type to search",
        hint: known ? about(known) : `one of ${backbones.length}: type to search`,
      }),
    ),
    weights(draft, known),
  );
}

const about = ({ parameters, image_size: size, problem }) =>
  problem ?? [parameters && `${count(parameters)} parameters`, `${size} × ${size} pixels`].filter(Boolean).join(", ");

function weights(draft, known) {
  const value = draft.get("backbone.weights");
  const kind = value === null ? "random" : typeof value === "object" ? ("job" in value ? "job" : "file") : (value ?? "DEFAULT");
  const named = known?.weights.length ? known.weights : ["DEFAULT"];
  const kinds = { random: null, file: { file: "" }, job: { job: "", checkpoint: "best" } };
  const options = [
    ...named.map((name) => [name, name === "DEFAULT" ? "the best known (DEFAULT)" : name]),
    ["random", "none: from scratch"],
    ["file", "a file below the weights folder…"],
    ["job", "an earlier job…"],
  ];
  const choose = (next) => draft.set("backbone.weights", next in kinds ? structuredClone(kinds[next]) : next, { shape: true });
  return [
    field({ get: () => kind }, { param: "backbone.weights", label: "Starts from", kind: "choice", options, onset: choose }),
    kind === "file" && field(draft, { param: "backbone.weights.file", label: "Weights file", placeholder: "name.safetensors" }),
    kind === "job" && [
      field(draft, { param: "backbone.weights.job", label: "Job", placeholder: "job_…" }),
      field(draft, { param: "backbone.weights.checkpoint", label: "Checkpoint", placeholder: "best" }),
    ],
  ];
}
