// How a job stands, in a word and a bar.

import { h } from "./dom.js";

const ENDED = new Set(["succeeded", "failed", "cancelled"]);

/** Whether a job will not change any more. */
export const ended = (job) => ENDED.has(job.status);

/** The word for a status. */
export const badge = (status) => h("span", { class: `status ${status}` }, status);

/**
 * Which part of its epochs a job has behind it, between 0 and 1. Epochs in progress count from 1, and those of
 * earlier stages are known from the spec.
 */
export function share(job) {
  if (job.status === "succeeded") return 1;
  const { progress } = job;
  if (!progress) return 0;
  const epochs = (job.resolved_spec.stages ?? []).map((stage) => stage.epochs);
  const all = epochs.reduce((sum, one) => sum + one, 0);
  const before = epochs.slice(0, progress.stage_index).reduce((sum, one) => sum + one, 0);
  const within = progress.steps ? Math.min(progress.step / progress.steps, 1) : 0;
  return all ? Math.min((before + progress.epoch - 1 + within) / all, 1) : 0;
}

/** Where a job is: the stage and the epoch. */
export function place(job) {
  const { progress } = job;
  if (!progress) return "";
  return `${progress.stage}, epoch ${progress.epoch} of ${progress.epochs}`;
}

/** The bar of a job's progress. */
export function bar(job) {
  return h("progress", { max: 1, value: share(job), "aria-label": `progress: ${Math.round(100 * share(job))} per cent` });
}

/** Seconds that a job has run for. */
export function elapsed(job) {
  if (!job.started_at) return null;
  return (job.finished_at ?? Date.now() / 1000) - job.started_at;
}
