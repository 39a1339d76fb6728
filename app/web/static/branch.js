// A branch: a new job that starts from a checkpoint of this one, with another plan for what follows.

import { post } from "./api.js";
import { h } from "./dom.js";
import { metricValue } from "./format.js";

const START = { recipe: { name: "joint", epochs: 10 } };

/** Opens the dialog. */
export function openBranch(job, checkpoints) {
  const choice = h(
    "select",
    { id: "branch-checkpoint" },
    checkpoints.map((one) => h("option", { value: one.id }, named(one))),
  );
  choice.value = checkpoints.find((one) => one.best)?.id ?? checkpoints[0].id;
  const text = h("textarea", { id: "branch-patch", class: "code", rows: "9", spellcheck: "false", value: JSON.stringify(START, null, 2), "aria-describedby": "branch-problem" });
  const problem = h("p", { class: "problem", id: "branch-problem", role: "alert" });
  const dialog = h(
    "dialog",
    { "aria-labelledby": "branch-title", on: { close: () => dialog.remove() } },
    h(
      "form",
      { on: { submit: start } },
      h("h2", { id: "branch-title" }, "Branch from a checkpoint"),
      h("p", { class: "muted" }, "A new job begins with the weights and the head of the checkpoint. This one goes on as if nothing had happened."),
      h("label", { for: "branch-checkpoint" }, "Checkpoint"),
      choice,
      h("label", { for: "branch-patch" }, "What is to be different from this job's spec, as JSON"),
      text,
      problem,
      h(
        "div",
        { class: "actions" },
        h("button", { class: "primary" }, "Start the branch"),
        h("button", { type: "button", on: { click: () => dialog.close() } }, "Close"),
      ),
    ),
  );

  async function start(event) {
    event.preventDefault();
    problem.textContent = "";
    try {
      const body = { checkpoint: choice.value, patch: JSON.parse(text.value) };
      location.assign(`/jobs/${(await post(`/v1/jobs/${job.id}/branch`, body)).id}`);
    } catch (error) {
      const details = error.details?.map(({ param, message }) => `${param}: ${message}`).join("; ");
      problem.textContent = details || error.message;
    }
  }
  document.body.append(dialog);
  dialog.showModal();
}

function named({ stage, epoch, best, last, metric, value }) {
  const marks = [best && "best", last && "last"].filter(Boolean).join(", ");
  return `${stage}, epoch ${epoch}${metric ? `, ${metricValue(metric, value)}` : ""}${marks ? ` (${marks})` : ""}`;
}
