// The checkpoints of a job: sizes, checksums, downloads.

import { path, save } from "./api.js";
import { copyText, fill, grid, h } from "./dom.js";
import { bytes, metricName, metricValue } from "./format.js";
import { storedKey } from "./key.js";

const FORMATS = [
  [null, "safetensors", "weights"],
  ["onnx", "onnx.zip", "ONNX"],
  ["exported", "exported.zip", "torch.export"],
];

/** The list; `update(job, checkpoints)`. */
export function checkpointList() {
  const place = h("div", {});
  let shown = "";
  return {
    element: place,
    update(job, checkpoints) {
      const told = JSON.stringify(checkpoints);
      if (told === shown) return;
      shown = told;
      fill(place, checkpoints.length ? table(job, checkpoints) : h("p", { class: "muted" }, "None yet: the first one is written at the end of the first epoch."));
    },
  };
}

function table(job, checkpoints) {
  const heads = ["Epoch", metricName(checkpoints[0].metric ?? "metric"), "Size", "SHA-256", "Download"];
  return grid("Checkpoints", heads, checkpoints.map((one) => row(job, one)), { texts: [3, 4] });
}

function row(job, one) {
  const marks = [one.best && "best", one.last && "last"].filter(Boolean).join(", ");
  const address = `/v1/jobs/${job.id}/checkpoints/${one.id}/download`;
  return [
    [`${one.stage} ${one.epoch}`, marks && h("span", { class: "muted" }, ` ${marks}`)],
    metricValue(one.metric, one.value),
    bytes(one.size),
    digest(one.sha256),
    h("div", { class: "actions" }, FORMATS.map(([format, ending, text]) => download(path(address, { format }), `${one.id}.${ending}`, text, `${one.stage} ${one.epoch}`))),
  ];
}

function digest(sha256) {
  const button = h("button", { type: "button", class: "small", title: sha256, "aria-label": `copy the SHA-256 ${sha256}` }, h("code", {}, `${sha256.slice(0, 12)}…`));
  button.addEventListener("click", () => copyText(sha256));
  return button;
}

/** A link; with a key a button that fetches the file with it, and says how it stands. */
export function download(address, name, text, about) {
  if (!storedKey()) return h("a", { href: address, download: name, "aria-label": `${text} of ${about}` }, text);
  const button = h("button", { type: "button", class: "small", "aria-label": `${text} of ${about}` }, text);
  button.addEventListener("click", async () => {
    button.disabled = true;
    button.textContent = "Fetching…";
    try {
      await save(address, name);
      button.textContent = text;
    } catch (error) {
      button.textContent = error.message;
    } finally {
      button.disabled = false;
    }
  });
  return button;
}
