// The spec that is being written: one plain object, changed by the paths that the API's problems name, too.

import { get } from "./api.js";

const steps = (param) => param.split(".").map((step) => (/^\d+$/.test(step) ? Number(step) : step));

/** A spec in the making. Its listeners hear "value" when a field changed, and "shape" when fields come or go. */
export class Draft extends EventTarget {
  constructor(spec) {
    super();
    this.spec = spec;
  }

  /** The value at a path such as `stages.0.lr.schedule.lr`; undefined where there is none. */
  get(param) {
    return steps(param).reduce((node, step) => node?.[step], this.spec);
  }

  /** Puts a value there; undefined takes the field away. `shape` says that other fields stand there now. */
  set(param, value, { shape = false } = {}) {
    const path = steps(param);
    const last = path.pop();
    let node = this.spec;
    for (const step of path) {
      if (typeof node[step] !== "object" || node[step] === null) node[step] = {};
      node = node[step];
    }
    if (value === undefined) delete node[last];
    else node[last] = value;
    this.changed(shape);
  }

  /** Puts another spec in the place of this one. */
  replace(spec) {
    this.spec = spec;
    this.changed(true);
  }

  changed(shape) {
    this.dispatchEvent(new Event(shape ? "shape" : "value"));
  }
}

let asked = null;

/** The schemas of a spec's parts, from the page about the API: what fields there are, what they mean. */
export async function loadSchemas() {
  asked ??= get("/openapi.json");
  return (await asked).components.schemas;
}

/** What a spec leaves out: fields that say what they would say anyway. */
export function tidy(value, schema, schemas) {
  const known = resolve(schema, schemas, value);
  if (!known?.properties || typeof value !== "object" || value === null || Array.isArray(value)) return value;
  const kept = Object.entries(value).filter(([name, one]) => {
    const property = known.properties[name];
    return !(property && "default" in property && same(property.default, one)) && !emptyList(one);
  });
  return Object.fromEntries(kept.map(([name, one]) => [name, tidy(one, known.properties[name] ?? {}, schemas)]));
}

const emptyList = (value) => Array.isArray(value) && value.length === 0;
const sorted = (value) =>
  value && typeof value === "object" && !Array.isArray(value)
    ? Object.fromEntries(Object.keys(value).sort().map((name) => [name, sorted(value[name])]))
    : value;
const same = (one, other) => JSON.stringify(sorted(one)) === JSON.stringify(sorted(other));

/** The schema behind a reference; of several the one that the value names. */
export function resolve(schema, schemas, value) {
  if (schema?.$ref) return schemas[schema.$ref.split("/").at(-1)];
  if (!schema?.oneOf && !schema?.anyOf) return schema;
  return alternatives(schema).map((one) => resolve(one, schemas)).find((one) => one?.properties && chosenBy(one, value));
}

/** What a field may be, choices within choices laid flat. */
export const alternatives = (schema) => (schema.oneOf ?? schema.anyOf ?? [schema]).flatMap((one) => (one.oneOf || one.anyOf ? alternatives(one) : [one]));

function chosenBy(schema, value) {
  const tag = tagOf(schema);
  return tag === null || schema.properties[tag].const === value?.[tag];
}

/** The field by which a part says which of several it is. */
export function tagOf(schema) {
  const found = Object.entries(schema.properties ?? {}).find(([, property]) => "const" in property);
  return found ? found[0] : null;
}
