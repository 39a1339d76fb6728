// The report of a job: what its best checkpoint gets right and wrong, and which labels may be wrong.

import { ApiError, get } from "./api.js";
import { calibration } from "./calibration.js";
import { download } from "./checkpoint-list.js";
import { classTable } from "./class-table.js";
import { confusion, yesNo } from "./confusion.js";
import { add, empty, grid, h, section } from "./dom.js";
import { metricName, number, percent, plural } from "./format.js";
import { gallery } from "./gallery.js";
import { jobHead } from "./job-head.js";
import { suspects } from "./suspects.js";

export async function show(main, { job: id }) {
  const base = `/v1/jobs/${encodeURIComponent(id)}`;
  const job = await get(base);
  document.title = `Report on ${job.name ?? job.id} · Thaw`;
  add(main, jobHead(job, "report"));
  let report;
  try {
    report = await get(`${base}/report`);
  } catch (error) {
    if (!(error instanceof ApiError) || error.status !== 404) throw error;
    return add(main, empty(`${error.message}.`, h("p", {}, h("a", { href: `/jobs/${job.id}` }, "See how the job stands"))));
  }
  const cell = section("Photographs", h("p", { class: "muted" }, "Choose a cell of the confusion matrix to see its photographs."));
  add(main, [overview(report, job), h("div", { class: "columns" }, matrix(report, base, cell), classes(report)), report.kind === "several_labels" ? null : cell]);
  if (report.calibration) add(main, calibration(report.calibration));
  add(main, mistakes(report, base));
  if (report.kind === "one_label") add(main, suspects(base, report));
  if (report.old_classes) add(main, oldClasses(report.old_classes));
}

const KIND = { one_label: "of the photographs are right", several_labels: "mean average precision", embedding: "of the photographs find one of their class first" };

function overview(report, job) {
  const { figures, images, checkpoint } = report;
  const first = report.kind === "several_labels" ? figures.map : (figures.recall_at_1 ?? figures.accuracy);
  const rest = Object.entries(figures).filter(([, value]) => value !== null);
  const facts = rest.map(([name, value]) => [named(name), name === "loss" || name === "variance" ? number(value) : percent(value)]);
  facts.push(["Validation images", images.toLocaleString("en")], ["Checkpoint", `${checkpoint.stage}, epoch ${checkpoint.global_epoch}`]);
  return h(
    "section",
    { class: "panel", "aria-label": "Summary" },
    h("p", { class: "answer" }, `${percent(first)} ${KIND[report.kind]}; ${plural(report.mistake_count, "mistake")} on ${images.toLocaleString("en")}.`),
    report.nonfinite > 0 && h("p", { class: "notice warning" }, `For ${plural(report.nonfinite, "image")} the network gives no finite numbers.`),
    h("dl", { class: "facts" }, facts.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)))),
    h("p", {}),
    h("div", { class: "actions small-text" }, download(`/v1/jobs/${job.id}/report`, `${job.id}-report.json`, "Report as JSON", "this job"), download(`/v1/jobs/${job.id}/report/predictions`, `${job.id}-predictions.parquet`, "Predictions as Parquet", "this job")),
  );
}

const named = (name) => metricName(name).replace(/^./, (one) => one.toUpperCase()).replace("f1", "F1").replace(/ at (\d|r)/, " at $1").replace("Map", "mAP");

function matrix(report, base, cell) {
  if (report.kind === "several_labels") return section("Confusion", yesNo(report));
  if (report.confusion === null) return section("Confusion", h("p", {}, "There are too many classes to show; the predictions have all."));
  return section("Confusion", confusion(report, base, cell));
}

const classes = (report) => section("Classes", classTable(report.per_class));

function mistakes(report, base) {
  const title = { one_label: "Most confident mistakes", several_labels: "Most confident mistakes", embedding: "Nearest mistakes" }[report.kind];
  if (report.mistake_count === 0) return section(title, h("p", { class: "muted" }, "There are none."));
  return section(title, gallery(base, { wrong: true, sort: "confidence" }, report.kind));
}

function oldClasses({ images, before, after, after_among_old: among, per_class: rows }) {
  const heads = ["Class", "Images", "Before", "After, among the old", "After", "Change"];
  return section(
    "What became of the old classes",
    h("p", {}, `On ${plural(images, "image")} of classes that the weights knew: ${percent(before)} before, ${percent(among)} after among the old classes, ${percent(after)} among all.`),
    grid("Old classes", heads, rows.map((row) => [row.name, row.support, ...[row.before, row.after_among_old, row.after, row.change].map((one) => percent(one))])),
  );
}
