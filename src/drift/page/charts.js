// The pictures: numbers in, SVG out. Text goes in as text nodes alone.

const SVG = "http://www.w3.org/2000/svg";
// Row r of the counts, r >= 1, holds distances from 2^((r - 1)/4 - 14) to 2^(r/4 - 14); row 0 all below.
const PER_DOUBLING = 4, LOWEST_POWER = -14;

export const STATISTICS = {
  w1_log: { name: "whole distribution", dash: "" },
  exceedance: { name: "far movers, beyond p99", dash: "7 3" },
  zero: { name: "no move at all", dash: "2 2.5" },
  volume: { name: "number of customers", dash: "10 3 2 3" },
  creep: { name: "slow creep", dash: "4 2" },
};

export const OUTCOMES = {
  BREACH: "beyond threshold",
  OK: "ok",
  INSUFFICIENT: "too few to judge",
  NO_REFERENCE: "no reference yet",
};

export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children.filter((child) => child !== null));
  return element;
}

/** The hatching that all pictures share; once a page. */
export function definitions() {
  const line = svg("path", { d: "M-1 5 L5 -1 M3 9 L9 3 M-1 13 L13 -1", class: "hatch-line" });
  const hatch = svg("pattern", { id: "hatch", width: 6, height: 6, patternUnits: "userSpaceOnUse" }, line);
  const holder = svg("svg", { width: 0, height: 0, "aria-hidden": "true" }, svg("defs", {}, hatch));
  holder.style.position = "absolute";
  return holder;
}

/** A shape to each outcome, so that colour is not needed. */
export function icon(outcome) {
  const shape = {
    BREACH: () => svg("path", { d: "M8 1 L15.5 15 H0.5 Z", class: "breach" }),
    OK: () => svg("circle", { cx: 8, cy: 8, r: 5, class: "ok" }),
    INSUFFICIENT: () => svg("rect", { x: 2, y: 3, width: 12, height: 10, class: "hatched", fill: "url(#hatch)" }),
    NO_REFERENCE: () => svg("circle", { cx: 8, cy: 8, r: 5, class: "none" }),
  }[outcome];
  return svg("svg", { viewBox: "0 0 16 16", class: "icon", role: "img", "aria-label": OUTCOMES[outcome] ?? "" }, shape ? shape() : null);
}

export const share = (part) => {
  const percent = part * 100;
  const digits = percent !== 0 && Math.abs(percent) < 0.95 ? 2 : Math.abs(percent) < 9.95 ? 1 : 0;
  return `${percent.toFixed(digits)} %`;
};
export const distance = (value) => (value === 0 ? "0" : Number(value.toPrecision(2)).toLocaleString("en", { maximumSignificantDigits: 2 }));
export const whole = (value) => Math.round(value).toLocaleString("en").replaceAll(",", "\u202f");
export const times = (ratio) => (ratio >= 9.95 ? ratio.toFixed(0) : ratio.toFixed(ratio < 0.1 ? 2 : 1));

const unit = () => parseFloat(getComputedStyle(document.documentElement).fontSize) / 14;
const position = (value) => Math.max(-1, (Math.log2(value) - LOWEST_POWER) * PER_DOUBLING);

/** As the monitor's own: between a row's bounds on the log axis. */
function quantile(counts, wanted) {
  const all = counts.zero + counts.rows.reduce((sum, count) => sum + count, 0);
  const rank = wanted * all;
  let below = counts.zero;
  if (all === 0) return null;
  if (rank <= below) return 0;
  for (let row = 0; row < counts.rows.length; row++) {
    const count = counts.rows[row];
    if (count > 0 && rank <= below + count) {
      const high = counts.first_row + row;
      return 2 ** ((high - 1 + (rank - below) / count) / PER_DOUBLING + LOWEST_POWER);
    }
    below += count;
  }
  return null;
}

function rowsOf(all) {
  const filled = all.filter((counts) => counts && counts.rows.length > 0);
  const first = Math.min(24, ...filled.map((counts) => counts.first_row));
  const last = Math.max(56, ...filled.map((counts) => counts.first_row + counts.rows.length - 1));
  return [first, Math.min(last + 1, 60)];
}

function decades(first, last) {
  const ticks = [];
  for (let power = -4; power <= 0; power++) {
    for (const step of [1, 2, 5]) {
      const value = step * 10 ** power;
      const at = position(value);
      if (at >= first - 1 && at <= last && value <= 2) ticks.push({ value, at, is_main: step === 1 });
    }
  }
  return ticks;
}

const text = (x, y, words, attributes = {}) => svg("text", { x, y, ...attributes }, words);

/** Now against the reference: shares of customers by distance, exactly 0 apart. */
export function distribution(holder, now, reference, moved) {
  const u = unit(), width = Math.max(300, holder.clientWidth), narrow = width < 560;
  const left = 40 * u, zeroWidth = (narrow ? 26 : 44) * u, gap = 14 * u, right = 10 * u;
  const top = 50 * u, height = (narrow ? 150 : 190) * u, bottom = top + height;
  const [first, last] = rowsOf([now, reference]);
  const x0 = left + zeroWidth + gap;
  const x = (at) => x0 + ((at - (first - 1)) / (last - first + 1)) * (width - x0 - right);
  const sum = (counts) => counts.zero + counts.rows.reduce((all, count) => all + count, 0);
  const sharesOf = (counts) => (counts ? counts.rows.map((count) => count / Math.max(1, sum(counts))) : []);
  const zeroOf = (counts) => (counts && sum(counts) > 0 ? counts.zero / sum(counts) : 0);
  const a = sharesOf(now), b = sharesOf(reference);
  const most = Math.max(0.02, ...a, ...b, zeroOf(now), zeroOf(reference)) * 1.06;
  const y = (value) => bottom - (value / most) * height;
  const picture = svg("svg", { height: bottom + 36 * u, role: "img", "aria-label": spoken(now, reference) });

  for (const tick of nice(most)) {
    picture.append(svg("line", { x1: left, x2: width - right, y1: y(tick), y2: y(tick), class: "grid" }));
    picture.append(text(left - 5 * u, y(tick) + 4 * u, share(tick).replace(".0", ""), { "text-anchor": "end" }));
  }
  for (const bin of moved) {
    const [from, to] = bin.high === 0 ? [left, left + zeroWidth] : [x(Math.max(first - 1, bin.low > 0 ? position(bin.low) : -1)), x(Math.min(last, position(bin.high)))];
    picture.append(svg("rect", { x: from, y: top, width: Math.max(1, to - from), height, class: "moved" }));
    picture.append(svg("line", { x1: from, x2: to, y1: bottom + 2, y2: bottom + 2, class: "moved-edge" }));
  }
  a.forEach((value, row) => {
    const at = (now.first_row + row);
    if (value > 0) picture.append(svg("rect", { x: x(at - 1) + 0.5, y: y(value), width: Math.max(1, x(at) - x(at - 1) - 1), height: bottom - y(value), class: "now" }));
  });
  if (b.length > 0) {
    let path = `M${x(reference.first_row - 1)} ${bottom}`;
    b.forEach((value, row) => { path += `V${y(value)}H${x(reference.first_row + row)}`; });
    picture.append(svg("path", { d: `${path}V${bottom}`, class: "before" }));
  }
  // Exactly 0 has no place on a log axis.
  const middle = left + zeroWidth / 2, half = zeroWidth * 0.32;
  if (now) picture.append(svg("rect", { x: middle - half, y: y(zeroOf(now)), width: 2 * half, height: bottom - y(zeroOf(now)), class: "now" }));
  if (reference) picture.append(svg("path", { d: `M${middle - half} ${bottom}V${y(zeroOf(reference))}H${middle + half}V${bottom}`, class: "before" }));
  picture.append(svg("line", { x1: left, x2: left + zeroWidth, y1: bottom, y2: bottom, class: "axis" }));
  picture.append(svg("line", { x1: x0, x2: width - right, y1: bottom, y2: bottom, class: "axis" }));
  picture.append(text(middle, bottom + 16 * u, "0", { "text-anchor": "middle" }));
  if (!narrow) picture.append(text(middle, bottom + 30 * u, "no move", { "text-anchor": "middle" }));
  const ticks = decades(first, last), taken = [];
  for (const tick of [...ticks.filter((tick) => tick.is_main), ...ticks.filter((tick) => !tick.is_main)]) {
    picture.append(svg("line", { x1: x(tick.at), x2: x(tick.at), y1: bottom, y2: bottom + (tick.is_main ? 6 : 3) * u, class: "axis" }));
    // As many as there is room for.
    const words = distance(tick.value), half = words.length * 3.6 * u + 2 * u;
    if (taken.some(([from, to]) => x(tick.at) - half < to && x(tick.at) + half > from)) continue;
    taken.push([x(tick.at) - half, x(tick.at) + half]);
    picture.append(text(x(tick.at), bottom + 17 * u, words, { "text-anchor": "middle" }));
  }
  picture.append(text(width - right, bottom + 32 * u, "cosine distance →", { "text-anchor": "end" }));
  whiskers(picture, x, now, "now", top - 12 * u, u);
  whiskers(picture, x, reference, "before", top - 30 * u, u);
  holder.replaceChildren(picture);
}

/** p50, p90 and p99 on a line. */
function whiskers(picture, x, counts, kind, at, u) {
  if (!counts) return;
  const marks = [0.5, 0.9, 0.99].map((wanted) => quantile(counts, wanted)).filter((value) => value !== null && value > 0);
  if (marks.length === 0) return;
  const ends = marks.map((value) => x(position(value)));
  const stroke = kind === "now" ? "var(--now)" : "var(--reference)";
  const line = svg("line", { x1: ends[0], x2: ends.at(-1), y1: at, y2: at, "stroke-width": 2 });
  line.style.stroke = stroke;
  picture.append(line);
  marks.forEach((_, which) => {
    const mark = svg("circle", { cx: ends[which], cy: at, r: 4 * u });
    mark.style.fill = kind === "now" ? stroke : "var(--card)";
    mark.style.stroke = stroke;
    mark.style.strokeWidth = 2;
    picture.append(mark);
    if (kind === "before") picture.append(text(ends[which], at - 8 * u, ["p50", "p90", "p99"][which], { "text-anchor": "middle" }));
  });
  picture.append(text(ends[0] - 10 * u, at + 4 * u, kind === "now" ? "now" : "reference", { "text-anchor": "end" }));
}

function spoken(now, reference) {
  const of = (counts) => [0.5, 0.9, 0.99].map((wanted) => quantile(counts, wanted)).map((value) => (value === null ? "none" : distance(value)));
  const words = [];
  if (now) words.push(`now: median ${of(now)[0]}, p90 ${of(now)[1]}, p99 ${of(now)[2]}`);
  words.push(reference ? `reference: median ${of(reference)[0]}, p90 ${of(reference)[1]}, p99 ${of(reference)[2]}` : "no reference yet");
  return `Distribution of the distances; ${words.join("; ")}`;
}

function nice(most) {
  const rough = most / 4, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= rough);
  const ticks = [];
  for (let at = step; at < most; at += step) ticks.push(at);
  return ticks;
}

/** All that goes on along the time: alerts and models, outcomes, the heat map, scores, customers. Gives back the axis. */
export function lanes(holder, detail, alerts) {
  const u = unit(), width = Math.max(300, holder.clientWidth), narrow = width < 560;
  const left = 44 * u, right = 34 * u;
  // A few windows alone do not fill the width: time goes on.
  const step = detail.step_ms, to = Math.ceil(detail.to / step) * step;
  const slots = Math.max(36, Math.ceil((to - detail.from) / step)), from = to - slots * step;
  const x = (time) => left + ((time - from) / (to - from)) * (width - left - right);
  const heights = { events: 24, outcome: 11, heat: narrow ? 170 : Math.min(330, Math.max(200, window.innerHeight / u * 0.26)), zero: 11, score: narrow ? 90 : 120, customers: 56 };
  const at = {};
  let y = 16 * u;
  for (const [lane, height] of Object.entries(heights)) {
    at[lane] = { top: y, height: height * u, bottom: y + height * u };
    y += height * u + (lane === "heat" ? 3 : lane === "zero" ? 30 : lane === "score" ? 28 : 6) * u;
  }
  const bottom = y;
  const axis = { from, to, step, left, right: width - right, x, at, bottom };
  const picture = svg("svg", { height: bottom + 20 * u, "aria-hidden": "true" });
  const draw = { picture, detail, axis, u, narrow };
  timeAxis(draw);
  outcomes(draw);
  heat(draw);
  scores(draw);
  customers(draw);
  events(draw, alerts);
  const cross = svg("g");
  picture.append(cross);
  holder.replaceChildren(picture);
  return { ...axis, cross };
}

function timeAxis({ picture, axis, u, narrow }) {
  const span = axis.to - axis.from, minute = 60_000, hour = 60 * minute;
  const steps = [minute, 2 * minute, 5 * minute, 10 * minute, 30 * minute, hour, 2 * hour, 3 * hour, 6 * hour, 12 * hour, 24 * hour, 48 * hour, 96 * hour];
  const step = steps.find((candidate) => span / candidate <= (narrow ? 5 : 10)) ?? steps.at(-1);
  const zone = new Date(axis.to).getTimezoneOffset() * minute;
  for (let time = Math.ceil((axis.from - zone) / step) * step + zone; time <= axis.to; time += step) {
    const date = new Date(time), is_day = date.getHours() === 0 && date.getMinutes() === 0;
    picture.append(svg("line", { x1: axis.x(time), x2: axis.x(time), y1: axis.at.outcome.top, y2: axis.bottom, class: is_day ? "axis" : "grid" }));
    const words = is_day ? date.toLocaleDateString("en-GB", { weekday: "short", day: "numeric", month: "short" }) : clock(time);
    picture.append(text(axis.x(time), axis.bottom + 13 * u, words, { "text-anchor": "middle" }));
  }
}

/** With seconds where there are any: windows may be short. */
export const clock = (time) => new Date(time).toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit", ...(time % 60_000 === 0 ? {} : { second: "2-digit" }) });

function outcomes({ picture, detail, axis, u }) {
  const lane = axis.at.outcome;
  let run = null;
  const end = () => {
    if (!run) return;
    const wide = Math.max(1.5, axis.x(run.end) - axis.x(run.start));
    const shape = { x: axis.x(run.start), y: lane.top, width: wide, height: lane.height };
    const kind = { OK: { class: "ok", opacity: 0.75 }, BREACH: { class: "breach" }, INSUFFICIENT: { class: "hatched", fill: "url(#hatch)" }, NO_REFERENCE: { class: "none" } };
    picture.append(svg("rect", { ...shape, ...kind[run.outcome] }));
  };
  for (const column of detail.columns) {
    if (run && run.outcome === column.outcome && column.start - run.end < axis.step) run.end = column.end;
    else { end(); run = { outcome: column.outcome, start: column.start, end: column.end }; }
  }
  end();
}

function heat({ picture, detail, axis, u }) {
  const [first, last] = rowsOf(detail.columns);
  const lane = axis.at.heat, zero = axis.at.zero;
  const y = (at) => lane.bottom - ((at - (first - 1)) / (last - first + 1)) * lane.height;
  const shares = detail.columns.map((column) => column.rows.map((count) => count / Math.max(1, column.distances)));
  const sorted = shares.flat().filter((value) => value > 0).sort((a, b) => a - b);
  const most = sorted[Math.floor(sorted.length * 0.995)] ?? 1;
  const slots = Math.round((axis.to - axis.from) / axis.step), rows = last - first + 1;
  const ramp = colours();
  const cells = pixels(slots, rows, (put) => {
    detail.columns.forEach((column, which) => {
      const slot = Math.floor((column.start - axis.from) / axis.step);
      for (let row = first; row <= last; row++) put(slot, last - row, ramp(Math.sqrt((shares[which][row - column.first_row] ?? 0) / most)));
    });
  });
  const zeros = pixels(slots, 1, (put) => {
    for (const column of detail.columns) put(Math.floor((column.start - axis.from) / axis.step), 0, ramp(Math.sqrt(column.zero / Math.max(1, column.distances) / most)));
  });
  const place = { x: axis.left, width: axis.right - axis.left, preserveAspectRatio: "none" };
  picture.append(svg("image", { ...place, y: lane.top, height: lane.height, href: cells }));
  picture.append(svg("image", { ...place, y: zero.top, height: zero.height, href: zeros }));
  for (const { top, height } of [lane, zero]) picture.append(svg("rect", { x: axis.left, y: top, width: axis.right - axis.left, height, fill: "none", class: "axis" }));
  for (const tick of decades(first, last).filter((tick) => tick.is_main)) {
    picture.append(svg("line", { x1: axis.left - 4 * u, x2: axis.left, y1: y(tick.at), y2: y(tick.at), class: "axis" }));
    picture.append(text(axis.left - 6 * u, y(tick.at) + 4 * u, distance(tick.value), { "text-anchor": "end" }));
  }
  picture.append(text(axis.left - 6 * u, zero.bottom, "0", { "text-anchor": "end" }));
  let free = -Infinity;
  ["p99", "p90", "p50"].forEach((name, back) => {
    const which = 2 - back;
    const path = line(detail, axis, (column) => column.quantiles[which], (value) => y(Math.max(first - 1, value > 0 ? position(value) : first - 1)));
    if (path === "") return;
    picture.append(svg("path", { d: path, class: "halo" }), svg("path", { d: path, class: `quantile ${name}` }));
    const newest = detail.columns.findLast((column) => column.quantiles[which] !== null);
    const at = Math.max(free, y(position(newest.quantiles[which] || 1e-9)) + 4 * u);
    picture.append(text(axis.right + 4 * u, at, name, { class: "lane" }));
    free = at + 12 * u;
  });
}

/** A path through the columns, broken where there is no window or no number. */
function line(detail, axis, value, y) {
  let path = "", before = null;
  for (const column of detail.columns) {
    const number = value(column);
    if (number === null) { before = null; continue; }
    const at = `${axis.x((column.start + column.end) / 2).toFixed(1)} ${y(number).toFixed(1)}`;
    path += before !== null && column.start - before < axis.step ? `L${at}` : `M${at}h0.1`;
    before = column.end;
  }
  return path;
}

/** An image of so many cells, as a data address. */
function pixels(width, height, fill) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [width, height];
  const context = canvas.getContext("2d"), image = context.createImageData(width, height);
  fill((x, y, colour) => {
    if (x >= 0 && x < width) image.data.set(colour, (y * width + x) * 4);
  });
  context.putImageData(image, 0, 0);
  return canvas.toDataURL();
}

function colours() {
  const style = getComputedStyle(document.documentElement);
  const stops = [0, 1, 2, 3, 4].map((stop) => {
    const hex = style.getPropertyValue(`--heat-${stop}`).trim();
    return [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
  });
  return (value) => {
    const at = Math.min(0.9999, Math.max(0, value)) * 4, stop = Math.floor(at), part = at - stop;
    return [0, 1, 2].map((channel) => Math.round(stops[stop][channel] * (1 - part) + stops[stop + 1][channel] * part)).concat(255);
  };
}

function scores({ picture, detail, axis, u }) {
  const lane = axis.at.score;
  const highest = (column) => column.ratios.reduce((most, ratio) => (ratio !== null && ratio > (most ?? -1) ? ratio : most), null);
  // What is farther beyond touches the top.
  const most = Math.min(64, Math.max(1.7, ...detail.columns.map((column) => highest(column) ?? 0)) * 1.05);
  const y = (ratio) => lane.bottom - Math.sqrt(Math.min(most, Math.max(0, ratio)) / most) * lane.height;
  picture.append(text(axis.left, lane.top - 5 * u, "score ÷ threshold", { class: "lane" }));
  const ticks = [0, 0.5, 1, 2, 4, 8, 16, 32, 64].filter((tick) => tick <= most && (tick === 0 || tick === 1 || y(tick) < y(1) - 11 * u || (tick < 1 && y(tick) > y(1) + 11 * u)));
  for (const tick of ticks) {
    picture.append(svg("line", { x1: axis.left, x2: axis.right, y1: y(tick), y2: y(tick), class: tick === 1 ? "one" : "grid" }));
    picture.append(text(axis.left - 6 * u, y(tick) + 4 * u, String(tick), { "text-anchor": "end", ...(tick === 1 ? { class: "lane" } : {}) }));
  }
  for (const column of detail.columns) {
    const ratio = highest(column);
    if (ratio === null || ratio < 1 || column.outcome !== "BREACH") continue;
    const start = axis.x(column.start), wide = Math.max(1.2, axis.x(column.end) - start - 0.4);
    picture.append(svg("rect", { x: start, y: y(ratio), width: wide, height: y(1) - y(ratio), class: "over-fill", opacity: 0.3 }));
  }
  detail.statistics.forEach((statistic, which) => {
    const path = line(detail, axis, (column) => column.ratios[which], y);
    if (path === "") return;
    const shape = svg("path", { d: path, class: "line", "stroke-dasharray": STATISTICS[statistic]?.dash ?? "" });
    shape.style.stroke = `var(--${statistic})`;
    picture.append(shape);
  });
}

function customers({ picture, detail, axis, u }) {
  const lane = axis.at.customers;
  // Columns of several windows hold as many customers more.
  const per = (column) => column.distances / column.windows;
  const most = Math.max(1, ...detail.columns.map(per));
  picture.append(text(axis.left, lane.top - 5 * u, "customers a window", { class: "lane" }));
  picture.append(text(axis.left - 6 * u, lane.top + 8 * u, whole(most), { "text-anchor": "end" }));
  for (const column of detail.columns) {
    const start = axis.x(column.start), wide = Math.max(0.8, axis.x(column.end) - start - (axis.step > 0 ? 0.4 : 0));
    const height = (per(column) / most) * lane.height;
    const kind = { INSUFFICIENT: { class: "hatched", fill: "url(#hatch)" }, BREACH: { class: "breach", opacity: 0.8 }, NO_REFERENCE: { class: "none" }, OK: { class: "count" } }[column.outcome];
    picture.append(svg("rect", { x: start, y: lane.bottom - height, width: wide, height, ...kind }));
  }
  picture.append(svg("line", { x1: axis.left, x2: axis.right, y1: lane.bottom, y2: lane.bottom, class: "axis" }));
}

function events({ picture, detail, axis, u }, alerts) {
  const lane = axis.at.events;
  const clip = (time) => axis.x(Math.min(axis.to, Math.max(axis.from, time)));
  picture.append(text(axis.left, lane.top - 4 * u, "alerts and models", { class: "lane" }));
  for (const alert of alerts) {
    const end = alert.resolved_at ?? axis.to;
    if (end < axis.from || alert.since > axis.to) continue;
    const is_own = alert.segment === detail.name;
    const shape = { x: clip(alert.since), width: Math.max(3, clip(end) - clip(alert.since)), rx: 2 };
    const bar = is_own
      ? svg("rect", { ...shape, y: lane.top + 1, height: 11 * u, class: alert.state === "FIRING" ? "alert-bar" : "alert-bar resolved" })
      : svg("rect", { ...shape, y: lane.top + 15 * u, height: 3 * u, class: "alert-bar", opacity: 0.45 });
    picture.append(bar);
  }
  for (const [time, model] of detail.models) {
    const at = axis.x(time), size = 5 * u, middle = lane.top + 6 * u;
    picture.append(svg("line", { x1: at, x2: at, y1: lane.top, y2: axis.bottom, class: "model-line" }));
    picture.append(svg("path", { d: `M${at} ${middle - size}L${at + size} ${middle}L${at} ${middle + size}L${at - size} ${middle}Z`, class: "model" }));
    const is_late = at > axis.right - 120 * u;
    picture.append(text(at + (is_late ? -8 : 8) * u, middle + 4 * u, model, { "text-anchor": is_late ? "end" : "start" }));
  }
}

/** The last hours of a segment in a table's cell: its highest score, and the line of the threshold. */
export function spark(points) {
  const width = 120, height = 28, most = Math.min(64, Math.max(1.5, ...points.map(([ratio]) => ratio ?? 0)));
  const wide = width / Math.max(24, points.length), left = width - points.length * wide;
  const y = (ratio) => height - 1 - Math.sqrt(Math.min(most, ratio) / most) * (height - 4);
  const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", class: "spark", "aria-hidden": "true" });
  points.forEach(([ratio, outcome], index) => {
    const place = { x: left + index * wide + 0.2, width: wide - 0.4 };
    if (ratio === null) picture.append(svg("rect", { ...place, y: height - 4, height: 3, ...(outcome === "INSUFFICIENT" ? { class: "hatched", fill: "url(#hatch)" } : { class: "none" }) }));
    else picture.append(svg("rect", { ...place, y: y(ratio), height: Math.max(1, height - y(ratio)), class: outcome === "BREACH" ? "over-fill" : "under-fill" }));
  });
  picture.append(svg("line", { x1: 0, x2: width, y1: y(1), y2: y(1), class: "one", "vector-effect": "non-scaling-stroke" }));
  return picture;
}

/** One line over the span, from 0 on. */
export function small(detail, which) {
  const width = 200, height = 26, values = detail.columns.map((column) => column.inputs[which]);
  const most = Math.max(0.01, ...values.filter((value) => value !== null));
  const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", "aria-hidden": "true" });
  const axis = { step: detail.step_ms, x: (time) => ((time - detail.from) / Math.max(1, detail.to - detail.from)) * width };
  const path = line(detail, axis, (column) => column.inputs[which], (value) => height - 2 - (value / most) * (height - 5));
  const shape = svg("path", { d: path, class: "line", "vector-effect": "non-scaling-stroke" });
  shape.style.stroke = "var(--now)";
  picture.append(svg("line", { x1: 0, x2: width, y1: height - 1, y2: height - 1, class: "axis", "vector-effect": "non-scaling-stroke" }), shape);
  return picture;
}

/** For the moved bins of an alert: the share now as a bar, and before as a mark. */
export function shareBar(bin, most) {
  const now = (bin.share / most) * 100, before = (bin.share_before / most) * 100;
  return svg("svg", { viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" },
    svg("rect", { x: 0, y: 2, width: now, height: 6, class: "over-fill" }),
    svg("line", { x1: before, x2: before, y1: 0, y2: 10, class: "cross", "vector-effect": "non-scaling-stroke" }));
}
