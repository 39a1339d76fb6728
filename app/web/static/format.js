// Numbers, times and sizes as people read them.

/** 0.9312, 3.1e-5: four digits that count, or a dash for what is no number. */
export function number(value, digits = 4) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size < 1e-3 || size >= 1e6) return value.toExponential(2).replace("e+", "e");
  if (Number.isInteger(value) || size >= 1000) return Math.round(value).toLocaleString("en");
  return value.toFixed(size >= 100 ? Math.min(digits, 1) : digits);
}

/** A rate: as few digits as say it. */
export function rate(value) {
  if (value === null || value === undefined) return "–";
  return Number(value.toPrecision(4)).toString();
}

/** 93.1 %. */
export function percent(share, digits = 1) {
  if (share === null || share === undefined || !Number.isFinite(share)) return "–";
  return `${(100 * share).toFixed(digits)}\u00a0%`;
}

/** A metric's value: shares as per cent, losses as they are. */
export function metricValue(name, value) {
  return name?.endsWith("loss") ? number(value) : percent(value);
}

/** val_accuracy → validation accuracy. */
export function metricName(name) {
  return name.replace(/^val_/, "validation ").replace(/^train_/, "training ").replaceAll("_", " ");
}

/** 850 ms, 42 s, 3 min 05 s, 2 h 10 min, 3 d 4 h. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "–";
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${String(whole % 60).padStart(2, "0")} s`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${String(Math.floor((whole % 3600) / 60)).padStart(2, "0")} min`;
  return `${Math.floor(whole / 86400)} d ${Math.floor((whole % 86400) / 3600)} h`;
}

/** 11.2 MB. */
export function bytes(count) {
  if (count === null || count === undefined) return "–";
  const units = ["bytes", "kB", "MB", "GB", "TB"];
  let at = 0;
  let value = count;
  while (value >= 999.5 && at < units.length - 1) {
    value /= 1000;
    at += 1;
  }
  return `${at === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[at]}`;
}

/** 11.2 M parameters. */
export function count(value) {
  if (value === null || value === undefined) return "–";
  if (value >= 999_500) return `${(value / 1e6).toFixed(1)} M`;
  if (value >= 10_000) return `${Math.round(value / 1000)} k`;
  return value.toLocaleString("en");
}

/** A Unix time, in the reader's zone. */
export function time(seconds) {
  if (!seconds) return "–";
  const date = new Date(seconds * 1000);
  const day = date.toDateString() === new Date().toDateString();
  const clock = date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });
  return day ? clock : `${date.toLocaleDateString([], { year: "numeric", month: "short", day: "numeric" })} ${clock}`;
}

/** 1 image, 2 images. */
export function plural(many, one, several = `${one}s`) {
  return `${many === null ? "–" : many.toLocaleString("en")} ${many === 1 ? one : several}`;
}
