// Fields for a spec's parts, made from the API's schemas: a field that the API learns is a field here.

import { h } from "./dom.js";
import { alternatives, resolve, tagOf } from "./draft.js";

let numbered = 0;

/** batch_norm → Batch norm. */
export const titled = (name) => {
  const words = name.replaceAll("_", " ").replace(/\blr\b/g, "learning rate").replace(/\bema\b/, "EMA");
  return words[0].toUpperCase() + words.slice(1);
};

/**
 * One field with its label, and the place for its problems.
 *
 * `kind`: "text", "number", "choice", "flag" or "json". `options` are those of a choice: texts or `[value, text]`.
 */
export function field(draft, { param, label, kind = "text", options, hint, placeholder, wide, list, shape = false, onset }) {
  numbered += 1;
  const id = `f${numbered}`;
  const value = draft.get(param);
  const set = (next) => (onset ? onset(next) : draft.set(param, next, { shape }));
  const shared = { id, "data-focus": param, "aria-describedby": `${id}-problem${hint ? ` ${id}-hint` : ""}` };
  const control = CONTROLS[kind]({ shared, value, set, options, placeholder, list });
  return h(
    "div",
    { class: wide && "wide" },
    kind === "flag" ? h("label", { for: id }, control, " ", label) : [h("label", { for: id }, label), control],
    hint && h("p", { class: "hint", id: `${id}-hint` }, hint),
    h("p", { class: "problem", id: `${id}-problem`, "data-param": param, "data-for": id }),
  );
}

const CONTROLS = {
  text: ({ shared, value, set, placeholder, list }) =>
    h("input", { ...shared, value: value ?? "", placeholder, list, autocomplete: "off", on: { input: (e) => set(e.target.value || undefined) } }),
  number: ({ shared, value, set, placeholder }) =>
    h("input", {
      ...shared,
      value: value ?? "",
      placeholder,
      inputmode: "decimal",
      autocomplete: "off",
      on: { input: (e) => set(read(e.target.value)) },
    }),
  json: ({ shared, value, set, placeholder }) =>
    h("input", {
      ...shared,
      value: value === undefined ? "" : typeof value === "string" ? value : JSON.stringify(value),
      placeholder,
      autocomplete: "off",
      spellcheck: "false",
      on: { input: (e) => set(readJson(e.target.value)) },
    }),
  choice: ({ shared, value, set, options }) => {
    const pairs = options.map((one) => (Array.isArray(one) ? one : [one, one]));
    const at = pairs.findIndex(([one]) => JSON.stringify(one) === JSON.stringify(value));
    return h(
      "select",
      { ...shared, value: String(at), on: { change: (e) => set(pairs[Number(e.target.value)]?.[0]) } },
      at < 0 && h("option", { value: "-1" }, value === undefined ? "" : JSON.stringify(value)),
      pairs.map(([, text], index) => h("option", { value: String(index) }, text)),
    );
  },
  flag: ({ shared, value, set }) =>
    h("input", { ...shared, type: "checkbox", checked: value === true, on: { change: (e) => set(e.target.checked) } }),
};

/** A number; what is none stays a text, so that the API says what is wrong with it. */
function read(text) {
  const bare = text.trim();
  if (bare === "") return undefined;
  return /^[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$/i.test(bare) ? Number(bare) : bare;
}

function readJson(text) {
  if (text.trim() === "") return undefined;
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

/** Fields for all properties of a part but those in `skip`. */
export function partFields(draft, param, schema, schemas, skip = []) {
  return Object.entries(schema.properties)
    .filter(([name, property]) => !("const" in property) && !skip.includes(name))
    .map(([name, property]) => propertyField(draft, `${param}${param && "."}${name}`, name, property, schemas));
}

function propertyField(draft, param, name, property, schemas) {
  const several = alternatives(property);
  if (several.some((one) => one.$ref)) return partField(draft, param, name, property, schemas);
  const nullable = several.some((one) => one.type === "null");
  const plain = several.find((one) => one.type !== "null");
  const hint = property.description === "A learning rate." ? undefined : property.description; // the label says so
  const shared = { param, label: titled(name), hint, placeholder: shownDefault(property) };
  if (plain.enum) {
    const options = plain.enum.map((value) => [value, value]);
    const left = property.default ?? undefined;
    const first = nullable ? [[undefined, "none"]] : [[undefined, left === undefined ? "" : `${left} (default)`]];
    return field(draft, { ...shared, kind: "choice", options: [...first, ...options.filter(([value]) => value !== left)] });
  }
  if (plain.type === "boolean") {
    const [yes, no] = [[true, "yes"], [false, "no"]];
    const rest = property.default === true ? no : yes;
    const usual = property.default === true ? "yes (default)" : "no (default)";
    return field(draft, { ...shared, kind: "choice", options: [[undefined, usual], rest] });
  }
  if (plain.type === "integer" || plain.type === "number") return field(draft, { ...shared, kind: "number" });
  if (plain.type === "string") return field(draft, { ...shared, kind: "text" });
  return field(draft, { ...shared, kind: "json", hint: shared.hint ?? "as JSON" });
}

const shownDefault = ({ default: usual }) =>
  usual === undefined || usual === null ? undefined : typeof usual === "object" ? JSON.stringify(usual) : String(usual);

/** What fields of a part begin with that have no default. */
const STARTS = {
  lr: 0.001, end_lr: 0, max_lr: 0.01, every: 10, gamma: 0.1, milestones: [10], values: [[0.001, 10]],
  start: -2, stop: -4, power: 1, factor: 10, modules: [],
};

/** A part that is one of several by its name, or there or not: a choice, and the fields of what is chosen. */
export function partField(draft, param, name, property, schemas, { label = titled(name), hint } = {}) {
  const parts = alternatives(property).filter((one) => one.$ref).map((one) => resolve(one, schemas));
  const value = draft.get(param);
  if (property.$ref && tagOf(parts[0]) === null) {
    return [h("h3", { class: "wide" }, label), ...partFields(draft, param, parts[0], schemas)];
  }
  const options = parts.map((part) => {
    const tag = tagOf(part);
    return [tag ? part.properties[tag].const : "on", part];
  });
  const current = typeof value === "string" ? value : options.find(([, part]) => chosen(part, value))?.[0];
  const usual = usualName(property, parts);
  const names = options.map(([one]) => (one === usual ? [one, `${one} (default)`] : [one, one]));
  if (!usual && property.default !== undefined) names.unshift([undefined, "none"]);
  const choose = (next) => draft.set(param, next === undefined ? undefined : begin(next, options, value), { shape: true });
  const part = options.find(([one]) => one === current)?.[1];
  const inner = part && typeof value === "object" && value !== null ? partFields(draft, param, part, schemas) : [];
  return [
    field({ get: () => current ?? usual }, {
      param,
      label,
      kind: "choice",
      options: names,
      onset: choose,
      hint: hint ?? part?.description?.split("\n")[0] ?? property.description,
    }),
    ...inner,
  ];
}

const chosen = (part, value) => {
  const tag = tagOf(part);
  if (value === null || value === undefined || typeof value !== "object") return false;
  return tag === null || part.properties[tag].const === value[tag];
};

function usualName(property, parts) {
  const usual = property.default;
  if (!usual || typeof usual !== "object") return undefined;
  const tag = parts.map(tagOf).find(Boolean);
  return tag ? usual[tag] : "on";
}

/** A part that was just chosen: what it must have, taken over from the one before where that had it. */
function begin(name, options, before) {
  const part = options.find(([one]) => one === name)[1];
  const tag = tagOf(part);
  const needed = (part.required ?? []).filter((one) => one !== tag);
  const kept = Object.fromEntries(needed.map((one) => [one, structuredClone(before?.[one] ?? carried(one, before) ?? STARTS[one])]));
  return tag ? { [tag]: name, ...kept } : kept;
}

/** A schedule's largest rate goes by several names. */
const carried = (name, before) => (["lr", "max_lr"].includes(name) ? (before?.lr ?? before?.max_lr) : undefined);
