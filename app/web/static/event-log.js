// What happened to a job, the newest first. Ended epochs stand in their table; here they can be hidden.

import { h, keyed } from "./dom.js";
import { time } from "./format.js";

/** The log; `update(events)` with all events, oldest first. */
export function eventLog() {
  const list = h("ol", { class: "log", tabindex: "0", "aria-label": "Events, newest first" });
  const rows = keyed(list, (event) => event.id, row);
  const box = h("input", { type: "checkbox", id: "epochs-too", on: { change: () => show() } });
  let all = [];
  const show = () => rows(all.filter((event) => box.checked || event.type !== "job.epoch").reverse());
  return {
    element: [h("label", { for: "epochs-too" }, box, " ended epochs, too"), list],
    update(events) {
      all = events;
      show();
    },
  };
}

const row = (event) =>
  h("li", { class: event.level }, h("span", { class: "muted nowrap" }, time(event.created_at)), h("span", {}, event.level === "info" ? "" : `${event.level}: `, event.message));
