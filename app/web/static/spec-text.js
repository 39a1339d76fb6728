// The spec as text, both ways, and as what a terminal or a program would send.

import { post } from "./api.js";
import { calmly, copier, h } from "./dom.js";
import { storedKey } from "./key.js";

/** The texts of a draft: JSON or YAML that can be edited, and buttons that copy calls. */
export function specText(draft) {
  let kind = "json";
  let typing = false;
  const area = h("textarea", { class: "code", rows: "16", spellcheck: "false", id: "spec-text", "aria-describedby": "spec-text-problem", on: { input: typed } });
  const problem = h("p", { class: "problem", id: "spec-text-problem", role: "alert" });
  const kinds = h("div", { class: "segmented", role: "group", "aria-label": "Text format" }, ["json", "yaml"].map((name) => kindButton(name)));

  function kindButton(name) {
    return h("button", { type: "button", "aria-pressed": String(name === kind), on: { click: () => choose(name) } }, name.toUpperCase());
  }

  function choose(name) {
    kind = name;
    for (const button of kinds.children) button.setAttribute("aria-pressed", String(button.textContent.toLowerCase() === name));
    write();
  }

  const read = calmly(async () => {
    typing = true;
    try {
      const { spec } = await post("/v1/specs/convert", { text: area.value });
      problem.textContent = "";
      draft.replace(spec);
    } catch (error) {
      problem.textContent = error.message;
    } finally {
      typing = false;
    }
  }, 400);

  function typed() {
    read();
  }

  /** Writes the draft into the field, unless the reader is the one who writes there. */
  const write = calmly(async () => {
    if (typing || (document.activeElement === area && !problem.textContent && area.dataset.own === "yes")) return;
    area.value = kind === "json" ? JSON.stringify(draft.spec, null, 2) : (await post("/v1/specs/convert", { spec: draft.spec })).yaml;
    problem.textContent = "";
  }, 100);

  area.addEventListener("focus", () => (area.dataset.own = "yes"));
  area.addEventListener("blur", () => {
    area.dataset.own = "";
    if (!problem.textContent) write();
  });
  draft.addEventListener("value", () => write());
  draft.addEventListener("shape", () => write());
  write();
  return h(
    "details",
    { class: "panel", id: "as-text" },
    h("summary", {}, "As text: JSON, YAML, curl, Python"),
    h("div", { class: "actions" }, kinds, copier("Copy as curl", () => asCurl(draft.spec)), copier("Copy as Python", () => asPython(draft.spec))),
    h("p", {}),
    h("label", { for: "spec-text", class: "sr" }, "The spec as text"),
    area,
    problem,
  );
}

/** The call in a shell. Quotes within a quoted text end it, stand escaped, and begin it anew. */
export function asCurl(spec) {
  const body = JSON.stringify(spec, null, 2).replaceAll("'", "'\\''");
  const key = storedKey() ? ' \\\n  -H "Authorization: Bearer $THAW_API_KEY"' : "";
  return `curl ${location.origin}/v1/jobs${key} \\\n  -H 'Content-Type: application/json' \\\n  -d '${body}'\n`;
}

/** The call in Python. JSON is what `json.loads` takes, whatever Python would make of its words. */
export function asPython(spec) {
  return [
    "import json",
    "import os",
    "",
    "import httpx",
    "",
    `spec = json.loads(${pythonText(JSON.stringify(spec))})`,
    'key = os.environ.get("THAW_API_KEY")',
    'headers = {"Authorization": f"Bearer {key}"} if key else {}',
    `response = httpx.post(${pythonText(`${location.origin}/v1/jobs`)}, json=spec, headers=headers)`,
    "response.raise_for_status()",
    'print(response.json()["id"])',
    "",
  ].join("\n");
}

/** A text as Python writes it: JSON's way of writing one is valid there. */
const pythonText = (text) => JSON.stringify(text);
