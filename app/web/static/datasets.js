// All datasets, and sending one.

import { all, ApiError, maySubmit, part, path, upload } from "./api.js";
import { add, empty, fill, grid, h, section } from "./dom.js";
import { percent } from "./format.js";

export async function show(main) {
  document.title = "Datasets · Thaw";
  const [datasets, allowed] = await Promise.all([all("/v1/datasets"), maySubmit()]);
  add(main, [
    h("div", { class: "title" }, h("h1", {}, "Datasets")),
    datasets.length ? h("div", { class: "panel" }, table(datasets)) : empty("No dataset yet. Send one below: a zip archive with a folder for each class, or with the folders train and val around them."),
    !allowed && h("p", { class: "muted" }, "This key may look, not send datasets."),
    allowed && sending(datasets.map(({ name }) => name)),
  ]);
}

function table(datasets) {
  const heads = ["Dataset", "Classes", "Images", "To train", "To validate"];
  return grid("Datasets", heads, datasets.map(row), { texts: [1] });
}

function row({ name, classes, images, counts, problems }) {
  const sum = (split) => (counts[split] ? Object.values(counts[split]).reduce((total, one) => total + one, 0).toLocaleString("en") : "–");
  const some = classes.slice(0, 5).join(", ") + (classes.length > 5 ? ` and ${classes.length - 5} more` : "");
  const link = [h("a", { href: `/datasets/${part(name)}` }, name), problems.map(({ message }) => h("div", { class: "problem" }, message))];
  return [link, some || "–", images.toLocaleString("en"), sum("train"), sum("val")];
}

function sending(taken) {
  const name = h("input", { id: "dataset-name", autocomplete: "off", "aria-describedby": "upload-problem" });
  const file = h("input", { id: "dataset-file", type: "file", accept: ".zip,application/zip", class: "sr" });
  const replace = h("input", { id: "dataset-replace", type: "checkbox" });
  const state = h("div", { role: "status" });
  const problem = h("p", { class: "problem", id: "upload-problem", role: "alert" });
  const area = h(
    "div",
    { class: "drop" },
    h("p", {}, "Drop a zip archive here, or ", h("label", { for: "dataset-file" }, file, "choose one"), "."),
    h("p", { class: "muted small-text" }, "A folder for each class, with its images in it; or the folders train and val around them."),
    state,
  );
  onFile(area, file, send);

  async function send(archive) {
    problem.textContent = "";
    const wanted = name.value.trim() || archive.name.replace(/\.zip$/i, "");
    name.value = wanted;
    if (taken.includes(wanted) && !replace.checked) {
      problem.textContent = `There is a dataset ${wanted} already: give this one another name, or let it replace that one.`;
      return;
    }
    const progress = h("progress", { max: 1, value: 0, "aria-label": "sent" });
    const said = h("p", {}, "Sending…");
    fill(state, said, progress);
    try {
      const address = path(`/v1/datasets/${part(wanted)}`, { replace: replace.checked || undefined });
      await upload(address, archive, (share) => {
        progress.value = share;
        said.textContent = share < 1 ? `Sending ${archive.name}: ${percent(share, 0)}` : "Sent; it is being unpacked…";
      });
      location.assign(`/datasets/${part(wanted)}`);
    } catch (error) {
      fill(state);
      problem.textContent = error instanceof ApiError && error.details.length ? error.details.map(({ message }) => message).join(" ") : error.message;
    }
  }
  return section(
    "Send a dataset",
    h("div", { class: "fields" }, h("div", {}, h("label", { for: "dataset-name" }, "Name"), name)),
    h("p", {}, h("label", { for: "dataset-replace" }, replace, " replace a dataset of that name")),
    area,
    problem,
  );
}

/** Takes a file that is dropped on an area or chosen in a field. */
export function onFile(area, input, act) {
  const over = (on) => (event) => {
    event.preventDefault();
    area.classList.toggle("over", on);
  };
  area.addEventListener("dragover", over(true));
  area.addEventListener("dragleave", over(false));
  area.addEventListener("drop", (event) => {
    over(false)(event);
    if (event.dataTransfer.files[0]) act(event.dataTransfer.files[0]);
  });
  input.addEventListener("change", () => {
    if (input.files[0]) act(input.files[0]);
    input.value = "";
  });
}
