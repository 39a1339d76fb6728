// What can be done with a job where it stands: cancel, pause, resume, retry, branch, delete.

import { post, remove } from "./api.js";
import { openBranch } from "./branch.js";
import { fill, h } from "./dom.js";
import { ended } from "./status.js";

const PAUSABLE = new Set(["queued", "running"]);
const CANCELLABLE = new Set(["queued", "running", "pausing", "paused"]);
const RETRYABLE = new Set(["failed", "cancelled"]);

/** The buttons; `update(job, checkpoints)` gives those that fit the job. Answers are given to `told`. */
export function jobControls(allowed, told) {
  const place = h("div", { class: "actions" });
  const problem = h("p", { class: "problem", role: "alert" });
  let shown = "";

  function button(text, act, kind) {
    const click = async () => {
      problem.textContent = "";
      for (const one of place.querySelectorAll("button")) one.disabled = true;
      try {
        await act();
      } catch (error) {
        problem.textContent = error.message;
      } finally {
        for (const one of place.querySelectorAll("button")) one.disabled = false;
      }
    };
    return h("button", { type: "button", class: kind, "data-focus": text, on: { click } }, text);
  }

  function update(job, checkpoints) {
    const state = `${job.status} ${checkpoints.length > 0}`;
    if (state === shown) return;
    shown = state;
    const call = (name) => async () => told(await post(`/v1/jobs/${job.id}/${name}`));
    const away = (name) => async () => location.assign(`/jobs/${(await post(`/v1/jobs/${job.id}/${name}`)).id}`);
    const removal = async () => {
      if (!confirm("Delete this job with its checkpoints? This cannot be undone.")) return;
      await remove(`/v1/jobs/${job.id}`);
      location.assign("/");
    };
    const controls = [
      PAUSABLE.has(job.status) && button("Pause", call("pause")),
      job.status === "paused" && button("Resume", call("resume"), "primary"),
      CANCELLABLE.has(job.status) && button("Cancel", call("cancel"), "danger"),
      RETRYABLE.has(job.status) && button("Try again", away("retry"), "primary"),
      checkpoints.length > 0 && button("Branch", async () => openBranch(job, checkpoints)),
      h("a", { class: "button", href: `/new?from=${job.id}` }, "Use as a template"),
      ended(job) && button("Delete", removal, "danger"),
    ];
    fill(place, allowed ? controls : h("span", { class: "muted small-text" }, "This key may look, not change anything."));
  }
  return { element: h("div", {}, place, problem), update };
}
