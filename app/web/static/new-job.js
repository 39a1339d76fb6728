// A new job: the spec as a form, and beside it the plan, live.

import { all, ApiError, get, maySubmit, path, post } from "./api.js";
import { backboneForm } from "./backbone-form.js";
import { datasetForm } from "./dataset-form.js";
import { add, calmly, fill, h } from "./dom.js";
import { Draft, loadSchemas, tidy } from "./draft.js";
import { field, partFields } from "./form.js";
import { policyBefore } from "./freeze-map.js";
import { planView } from "./plan-view.js";
import { placeProblems } from "./problems.js";
import { specText } from "./spec-text.js";
import { stagesByHand, trainingForm } from "./training-form.js";

const ELSEWHERE = ["name", "metadata", "dataset", "backbone", "recipe", "stages", "range_test"];
const FAVOURITES = ["resnet18", "mobilenet_v1", "resnet50"];

export async function show(main) {
  document.title = "New job · Thaw";
  const [schemas, { data: backbones }, datasets, allowed] = await Promise.all([
    loadSchemas(),
    get("/v1/backbones"),
    all("/v1/datasets"),
    maySubmit(),
  ]);
  const draft = new Draft(await firstSpec(datasets, backbones, schemas));
  const plan = planView(chooseBlock);
  const rest = h("div", {});
  const submit = h("button", { type: "button", class: "primary", disabled: !allowed, on: { click: () => send() } }, "Start the job");
  const refused = h("p", { class: "problem", role: "alert" });
  const ending = [rest, h("div", { class: "actions" }, submit, !allowed && h("span", { class: "muted" }, "This key may look, not submit.")), refused];
  const form = formOf(draft, { schemas, backbones, datasets, toStages }, ending);
  let planned = null;

  /** Draws the plan of the draft; of several that are under way the last one counts. */
  let turn = 0;
  async function draw() {
    turn += 1;
    const own = turn;
    try {
      const answer = await post("/v1/jobs/plan", draft.spec);
      if (own !== turn) return;
      planned = answer;
      placeProblems(main, rest, []);
      await plan.show(answer);
    } catch (error) {
      if (own !== turn) return;
      planned = null;
      if (!(error instanceof ApiError)) return plan.wait(error.message);
      placeProblems(main, rest, error.details.length ? error.details : [error]);
      plan.wait("There is no plan while something is to mend.");
    }
  }

  async function toStages() {
    if (planned === null) await draw();
    const stages = planned?.resolved_spec.stages;
    return stages?.map((stage) => tidy(stage, { $ref: "StageSpec" }, schemas));
  }

  async function chooseBlock(stage, block) {
    if (planned === null) return; // the map is of a spec that has changed since
    const policy = policyBefore(planned.blocks[block]);
    await stagesByHand(draft, toStages);
    draft.set(`stages.${stage}.freeze`, policy, { shape: true });
  }

  async function send() {
    submit.disabled = true;
    refused.textContent = "";
    try {
      // One key for one press: an answer that was lost on the way does not start a second job.
      const job = await post("/v1/jobs", draft.spec, { headers: { "Idempotency-Key": crypto.randomUUID?.() ?? `${Date.now()} ${Math.random()}` } });
      location.assign(`/jobs/${job.id}`);
    } catch (error) {
      submit.disabled = false;
      placeProblems(main, rest, error.details ?? []);
      refused.textContent = error.message;
    }
  }

  const redraw = calmly(draw, 250);
  for (const kind of ["value", "shape"]) {
    draft.addEventListener(kind, () => {
      planned = null;
      turn += 1; // a plan that is under way is of what was there before
      redraw();
    });
  }
  add(main, [
    h("div", { class: "title" }, h("h1", {}, "New job")),
    h(
      "div",
      { class: "new-job" },
      h("div", {}, form, specText(draft)),
      h("div", {}, plan.element),
    ),
  ]);
  await draw();
}

function formOf(draft, { schemas, backbones, datasets, toStages }, ending) {
  const training = h("div", {});
  const backbone = h("div", {});
  const more = h("div", {});
  const render = () => {
    draft.opened = new Set([...document.querySelectorAll("details[data-keep][open]")].map((one) => one.dataset.keep));
    fill(backbone, backboneForm(draft, backbones));
    fill(training, trainingForm(draft, schemas, toStages));
    fill(more, moreForm(draft, schemas));
  };
  draft.addEventListener("shape", render);
  render();
  return h(
    "form",
    { class: "panel", on: { submit: (event) => event.preventDefault() } },
    h("div", {}, field(draft, { param: "name", label: "Name", placeholder: "ants and bees" })),
    h("h3", {}, "Photographs"),
    datasetForm(draft, datasets),
    h("h3", {}, "Network"),
    backbone,
    h("h3", {}, "Training"),
    training,
    more,
    h("p", {}),
    ending,
  );
}

function moreForm(draft, schemas) {
  const dataset = partFields(draft, "dataset", schemas.DatasetSpec, schemas, ["path"]);
  return h(
    "details",
    { "data-keep": "job more", open: draft.opened?.has("job more") },
    h("summary", {}, "More about the job"),
    h(
      "div",
      { class: "fields" },
      dataset,
      partFields(draft, "", schemas.JobSpec, schemas, ELSEWHERE),
      field(draft, { param: "metadata", label: "Metadata", kind: "json", hint: 'as JSON: {"team": "zoo"}' }),
    ),
  );
}

/** What the form begins with: another job's spec (`?from=`), else the recipe that is right for most. */
async function firstSpec(datasets, backbones, schemas) {
  const asked = new URLSearchParams(location.search);
  if (asked.has("from")) {
    const job = await get(path(`/v1/jobs/${encodeURIComponent(asked.get("from"))}`));
    return tidy(job.spec, { $ref: "JobSpec" }, schemas);
  }
  const names = backbones.map(({ name }) => name);
  const name = FAVOURITES.find((one) => names.includes(one)) ?? names[0] ?? "";
  const weights = backbones.find((one) => one.name === name)?.weights[0] ?? null;
  return {
    dataset: { path: asked.get("dataset") ?? datasets[0]?.name ?? "" },
    backbone: { name, weights },
    recipe: { name: "two_stage" },
  };
}
