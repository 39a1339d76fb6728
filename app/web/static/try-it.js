// Trying a job's model: drop a photograph, see what it says.

import { ApiError, get, path, send } from "./api.js";
import { add, empty, fill, h, section, svg } from "./dom.js";
import { duration, percent } from "./format.js";
import { onFile } from "./datasets.js";
import { jobHead } from "./job-head.js";

export async function show(main, { job: id }) {
  const base = `/v1/jobs/${encodeURIComponent(id)}`;
  const [job, { data: checkpoints }] = await Promise.all([get(base), get(`${base}/checkpoints`)]);
  document.title = `Try ${job.name ?? job.id} · Thaw`;
  add(main, jobHead(job, "try"));
  if (checkpoints.length === 0) return add(main, empty("There is no checkpoint to try yet. The first one is written at the end of the first epoch.", h("p", {}, h("a", { href: `/jobs/${job.id}` }, "Watch it train"))));
  const names = checkpoints.map((one) => [one.id, `${one.stage}, epoch ${one.epoch}${one.best ? " (best)" : one.last ? " (last)" : ""}`]);
  const choice = h("select", { id: "checkpoint", value: (checkpoints.find((one) => one.best) ?? checkpoints[0]).id }, names.map(([value, text]) => h("option", { value }, text)));
  const file = h("input", { id: "photograph", type: "file", accept: "image/*", class: "sr" });
  const area = h("div", { class: "drop" }, h("p", {}, "Drop a photograph here, or ", h("label", { for: "photograph" }, file, "choose one"), "."), h("p", { class: "muted small-text" }, "It is sent to this server alone, and not kept."));
  const answer = h("div", { role: "status" });
  let last = null;
  const ask = async (photograph) => {
    last = photograph;
    const shown = URL.createObjectURL(photograph);
    const image = h("img", { src: shown, alt: `the photograph ${photograph.name}` });
    const said = h("div", {}, h("p", { class: "muted" }, "Asking the model. The first question waits until it is loaded."));
    fill(answer, h("div", { class: "tried" }, image, said));
    try {
      const address = path(`${base}/predict`, { checkpoint: choice.value, top: 10 });
      const headers = { "Content-Type": photograph.type || "application/octet-stream" };
      const { data } = await send("POST", address, { body: photograph, headers });
      fill(said, result(data));
    } catch (error) {
      const details = error instanceof ApiError ? error.details.map(({ message }) => message).join(" ") : "";
      fill(said, h("p", { class: "notice error" }, details || error.message));
    }
  };
  choice.addEventListener("change", () => last && ask(last));
  onFile(area, file, ask);
  add(main, section("Try it", h("div", { class: "filters" }, h("div", {}, h("label", { for: "checkpoint" }, "Checkpoint"), choice)), h("p", {}), area, h("p", {}), answer));
}

function result({ data: [found], seconds }) {
  const took = h("p", { class: "muted small-text" }, `Read in ${duration(seconds.decode)}, answered in ${duration(seconds.model)}.`);
  if (found.embedding) return [h("p", { class: "answer" }, `An embedding of ${found.embedding.length} numbers.`), h("pre", { tabindex: "0" }, found.embedding.slice(0, 12).map((one) => one.toFixed(4)).join("\n")), took];
  const best = found.classes[0];
  const said = found.labels ? (found.labels.length ? found.labels.join(", ") : "None of the classes.") : `${best.class}, ${percent(best.probability)}`;
  return [
    h("p", { class: "answer" }, said),
    h("div", { class: "bars" }, found.classes.map(({ class: name, probability }) => [
      h("span", {}, name),
      svg("svg", { viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" }, svg("rect", { width: 100 * probability, height: 10, class: "train" })),
      h("span", { class: "num" }, percent(probability)),
    ])),
    took,
  ];
}
