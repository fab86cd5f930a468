// The page: asks the monitor how it stands every two seconds, and for more only where something changed. Names and words come
// from clicks: they are put in as text, with what cannot be seen written out.

import { OUTCOMES, STATISTICS, clock, definitions, distance, distribution, icon, lanes, share, shareBar, small, spark, svg, times, whole } from "./charts.js";

const PULSE_MS = 2_000, ANSWER_MS = 8_000;
/// Of the engine: longer without a word, and what is shown is stale.
const SILENT_MS = 30_000;
const MINUTE = 60_000, HOUR = 60 * MINUTE, DAY = 24 * HOUR;
const RANGES = [["6 h", 6 * HOUR], ["24 h", DAY], ["3 d", 3 * DAY], ["14 d", 14 * DAY]];
const MOMENTS = [["last window", "window"], ["last hour", "hour"]];
const INPUTS = {
  zero: "did not move at all", cold_start: "first embedding ever", model_changed: "of another model than before",
  unknown_events: "events with unknown values", gated: "sessions held back by the gate", revised: "sessions revised",
  late: "records too late", rejected: "clicks rejected",
};
/// In the units of each statistic, as people say it.
const EFFECTS = {
  w1_log: (effect) => `${Math.round(Math.expm1(effect) * 100)} % apart`, exceedance: (effect) => `${times(effect)} × as many`,
  zero: (effect) => `${effect < 0 ? "−" : "+"}${share(Math.abs(effect))}`, volume: (effect) => `${times(effect)} × as many`,
  creep: (effect) => `${Math.round(Math.expm1(effect) * 100)} % apart`,
};
const REFERENCES = { SAME_HOUR: "the same hour in past weeks", WARMUP: "the last 24 hours (warm-up)", PINNED: "what was pinned" };
const ALERTS_WIDE = 3;

const by = (id) => document.getElementById(id);
const state = { now: null, detail: null, name: null, range: DAY, moment: "window", pinned: null, cursor: null, axis: null, version: null, failed: 0, offset: 0 };

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "click") element.addEventListener("click", value);
    else element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** What cannot be seen, or turns the text around, is written out. */
const clean = (name) => String(name).replace(/[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g,
  (hidden) => `‹U+${hidden.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}›`);
const named = (name) => make("bdi", {}, clean(name));
/** The same, that may go on in a new line behind its key. */
const breaking = (name) => make("bdi", {}, ...clean(name).split(/(?<==)/).flatMap((part, index) => (index === 0 ? [part] : [make("wbr"), part])));

function span(ms) {
  const minutes = Math.round(Math.abs(ms) / MINUTE);
  if (minutes < 1) return `${Math.round(Math.abs(ms) / 1000)} s`;
  if (minutes < 120) return `${minutes} min`;
  return minutes < 48 * 60 ? `${Math.round(minutes / 60)} h` : `${Math.round(minutes / 1440)} d`;
}
function moment(time) {
  const date = new Date(time), today = new Date();
  return date.toDateString() === today.toDateString() ? clock(time) : `${date.toLocaleDateString("en-GB", { weekday: "short", day: "numeric", month: "short" })} ${clock(time)}`;
}

async function ask(path) {
  const answer = await fetch(path, { signal: AbortSignal.timeout(ANSWER_MS) });
  if (answer.status === 404) return null;
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer.json();
}

// ---------------------------------------------------------------- how the monitor stands

function tell(kind, words) {
  by("state").dataset.state = kind;
  // Said again only where it changed: a screen reader reads it aloud.
  if (by("state-text").textContent !== words) by("state-text").textContent = words;
  document.body.classList.toggle("stale", kind === "bad");
}

function judgePulse(pulse) {
  const silent = pulse.said_ms === null ? null : pulse.now_ms - pulse.said_ms;
  const newest = state.now?.newest_ms ?? null;
  const behind = newest === null ? null : pulse.now_ms - newest;
  if (pulse.role === null) return tell("wait", "the monitor starts");
  if (silent > SILENT_MS) return tell("bad", `the monitor’s engine has said nothing for ${span(silent)}`);
  if (pulse.away_ms !== null) return tell("bad", `Kafka does not answer (since ${clock(pulse.away_ms)})`);
  if (pulse.role === "standby") return tell("wait", "stands by: another instance is active");
  if (pulse.role === "restoring") return tell("wait", "restores its past windows");
  if (behind > 6 * state.now.window_ms + HOUR / 2) return tell("wait", `live · no window for ${span(behind)}${pulse.lag ? ` · ${whole(pulse.lag)} records behind` : ""}`);
  const lag = pulse.lag > 100_000 ? ` · ${whole(pulse.lag)} records behind` : "";
  tell("live", newest === null ? "live · no window yet" : `live · window until ${clock(newest)}${lag}`);
}

async function beat() {
  try {
    const pulse = await ask("api/pulse");
    if (state.version !== pulse.version) {
      state.now = await ask("api/now");
      state.version = pulse.version;
      choose();
      await load();
      [state.role, state.away] = [pulse.role, pulse.away_ms !== null];
      showEmpty();
      show();
    }
    state.failed = 0;
    [state.role, state.away] = [pulse.role, pulse.away_ms !== null];
    showEmpty();
    judgePulse(pulse);
  } catch (fault) {
    state.failed += 1;
    state.since ??= Date.now();
    if (state.failed >= 2 || state.now === null) tell("bad", `the monitor does not answer (since ${clock(Math.floor(state.since / MINUTE) * MINUTE)})`);
    if (!(fault instanceof TypeError) && fault.name !== "TimeoutError") console.error(fault);
    // After a restart the same number may stand for something else.
    state.version = null;
  }
  if (state.failed === 0) state.since = null;
  setTimeout(beat, PULSE_MS);
}

// ---------------------------------------------------------------- which segment, which span

const isOld = (segment) => segment.end < (state.now?.newest_ms ?? 0) - HOUR;
function ordered() {
  const rank = (segment) => (isOld(segment) ? 4 : segment.alert ? 0 : segment.name === "all" ? 1 : segment.outcome === "BREACH" ? 2 : 3);
  return [...state.now.segments].sort((a, b) => rank(a) - rank(b) || (a.name < b.name ? -1 : 1));
}

function choose() {
  const known = state.now.segments.some((segment) => segment.name === state.name);
  if (!known) state.name = ordered()[0]?.name ?? null;
}

async function load() {
  if (state.name === null) { state.detail = null; return; }
  const to = state.now.newest_ms, from = to - state.range;
  state.detail = await ask(`api/segment/${encodeURIComponent(state.name)}/${from}/${to}`);
}

async function select(name, scroll) {
  [state.name, state.pinned, state.cursor] = [name, null, null];
  remember();
  await refresh();
  if (scroll && window.innerWidth <= 1100) by("detail").scrollIntoView({ block: "start" });
}

async function refresh() {
  try {
    await load();
    show();
  } catch {
    state.version = null; // The next beat tells.
  }
}

function remember() {
  const parts = new URLSearchParams({ segment: state.name ?? "", range: RANGES.find(([, ms]) => ms === state.range)?.[0] ?? "" });
  history.replaceState(null, "", `#${parts}`);
}
function recall() {
  const parts = new URLSearchParams(location.hash.slice(1));
  state.name = parts.get("segment") || null;
  state.range = RANGES.find(([words]) => words === parts.get("range"))?.[1] ?? DAY;
}

// ---------------------------------------------------------------- what is shown

function show() {
  const { now } = state;
  by("about").textContent = `How far customers’ embeddings move · ${clean(now.source)} · windows of ${span(now.window_ms)} · at most one false alarm in ${times(now.false_alarm_days).replace(".0", "")} days · ${clean(now.instance)}, dce ${now.program}`;
  document.title = now.open_alerts > 0 ? `▲ ${now.open_alerts} open · Drift monitor` : "Drift monitor";
  showAlerts();
  showSegments();
  showDetail();
  showPast();
}

function showEmpty() {
  const is_empty = state.now !== null && state.now.segments.length === 0;
  by("panes").hidden = is_empty || state.now === null;
  by("empty").hidden = !is_empty;
  if (!is_empty) return;
  const words = state.away ? ["Kafka does not answer", "The monitor asks again every few seconds, and goes on where it ended once a broker answers."] : {
    standby: ["This instance stands by", "Another instance of the same group reads and judges; its page shows the windows. This one takes over when that one ends."],
    restoring: ["Reading past windows back", "The windows of the days before are read from their topic; then the page fills."],
  }[state.role] ?? ["No window yet", `A window holds ${span(state.now.window_ms)} of closed sessions and appears some minutes after its end. The first distances come with customers’ second sessions.`];
  const [title, text] = by("empty").children;
  if (title.textContent !== words[0]) [title.textContent, text.textContent] = words;
}

function reference(alert) {
  return `${REFERENCES[alert.reference] ?? "its reference"}${alert.reference_count ? ` (${whole(alert.reference_count)} distances)` : ""}`;
}

function showAlerts() {
  const open = state.now.alerts.filter((alert) => alert.state === "FIRING");
  const shown = open.slice(0, open.length > ALERTS_WIDE + 1 ? ALERTS_WIDE : open.length).map((alert) => {
    const most = Math.max(...alert.moved.flatMap((bin) => [bin.share, bin.share_before]), 0.01) * 1.03;
    const bins = alert.moved.map((bin) => {
      const where = bin.high === 0 ? "exactly 0" : `${distance(bin.low)} – ${distance(bin.high)}`;
      return make("li", {}, make("span", {}, where), make("span", { class: "bar" }, shareBar(bin, most)), make("span", {}, `${share(bin.share)}, before ${share(bin.share_before)}`));
    });
    const companions = alert.companions.map((companion) => make("li", {}, clean(companion.words)));
    return make("article", { class: "alert" }, make("div", { class: "parts" },
      make("div", {},
        make("h2", {}, make("button", { type: "button", click: () => select(alert.segment, true) }, make("span", { class: "mark", "aria-hidden": "true" }, "▲ "), named(alert.summary.split("; ")[0]))),
        make("p", {}, make("strong", {}, named(alert.segment)), ` · since ${moment(alert.since)} (${span(state.now.newest_ms - alert.since)}) · ${alert.breaches} window${alert.breaches === 1 ? "" : "s"} beyond the threshold`),
        make("p", {}, `against ${reference(alert)} · ${STATISTICS[alert.statistic]?.name ?? clean(alert.statistic)}: ${times(alert.value / alert.threshold)} × threshold · ${whole(alert.customers)} customers${alert.model ? ` · ${clean(alert.model)}` : ""}`)),
      bins.length > 0 ? make("div", {}, make("h3", {}, "Customers by distance, where most moved"), make("ul", { class: "bins" }, ...bins)) : make("div"),
      companions.length > 0 ? make("div", {}, make("h3", {}, "Moved with it"), make("ul", {}, ...companions)) : make("div")));
  });
  const more = state.now.open_alerts - shown.length;
  if (more > 0) shown.push(make("p", { class: "alert more" }, `▲ and ${more} more open alert${more === 1 ? "" : "s"}, below`));
  // A live region speaks when it changes: only then it is touched.
  const told = JSON.stringify([open, Math.round((state.now.newest_ms ?? 0) / MINUTE), more]);
  if (by("alerts").dataset.told !== told) {
    by("alerts").dataset.told = told;
    by("alerts").replaceChildren(...shown);
  }
}

function showSegments() {
  const wanted = by("filter").value.trim().toLowerCase();
  const segments = ordered().filter((segment) => segment.name.toLowerCase().includes(wanted));
  const body = by("segment-rows");
  const known = new Map([...body.rows].map((row) => [row.segment, row]));
  by("spark-title").textContent = `score, last ${span(48 * state.now.window_ms)}`;
  const rows = segments.map((segment) => {
    const row = known.get(segment.name) ?? newRow(segment.name);
    row.setAttribute("aria-current", String(segment.name === state.name));
    row.classList.toggle("old", isOld(segment));
    const [name, picture, ratio, count] = row.cells;
    const outcome = segment.alert ? "BREACH" : segment.outcome;
    name.firstChild.replaceChildren(icon(outcome), breaking(segment.name));
    name.title = clean(segment.name);
    picture.replaceChildren(spark(segment.spark));
    ratio.textContent = segment.ratio === null ? "–" : `${times(segment.ratio)} ×`;
    ratio.title = segment.statistic ? `${STATISTICS[segment.statistic]?.name ?? ""}` : OUTCOMES[segment.outcome];
    ratio.classList.toggle("over", segment.outcome === "BREACH");
    count.textContent = isOld(segment) ? `until ${moment(segment.end)}` : whole(segment.distances);
    return row;
  });
  const focused = document.activeElement;
  body.replaceChildren(...rows);
  if (body.contains(focused)) focused.focus({ preventScroll: true });
}

function newRow(segment) {
  const choose = () => select(segment, true);
  const row = make("tr", { click: choose }, make("td", {}, make("button", { type: "button" })), make("td"), make("td", { class: "number" }), make("td", { class: "number wide" }));
  row.segment = segment;
  return row;
}

function showDetail() {
  const { detail } = state;
  by("detail").hidden = detail === null;
  if (detail === null) return;
  const segment = state.now.segments.find((segment) => segment.name === detail.name);
  by("detail-title").replaceChildren(named(detail.name));
  const facts = [OUTCOMES[segment.outcome], `${whole(segment.distances)} customers until ${moment(segment.end)}`,
    segment.reference ? `against ${REFERENCES[segment.reference]}` : null, segment.model ? clean(segment.model) : null,
    detail.counts.windows > 1 ? `judged over ${detail.counts.windows} windows together` : null, detail.counts.partial ? "not counted whole" : null];
  by("detail-facts").textContent = facts.filter((fact) => fact !== null).join(" · ");
  const longest = state.now.newest_ms - state.now.oldest_ms;
  const ranges = RANGES.filter((_, index) => index === 0 || RANGES[index - 1][1] < longest);
  choice("ranges", ranges, Math.min(state.range, ranges.at(-1)[1]), (range) => { state.range = range; state.pinned = null; remember(); refresh(); });
  showTime();
  showDistribution();
  showScores();
  const items = detail.inputs.map((input, which) => {
    const known = detail.columns.map((column) => column.inputs[which]).filter((value) => value !== null);
    return known.length === 0 ? null : make("li", {}, make("span", {}, INPUTS[input] ?? input), make("strong", {}, share(known.at(-1))), small(detail, which));
  });
  by("inputs").querySelector("ul").replaceChildren(...items.filter((item) => item !== null));
}

/** Buttons of which one is pressed; the same buttons stay, so that the focus does too. */
function choice(id, options, chosen, pick) {
  const holder = by(id);
  while (holder.children.length > options.length) holder.lastChild.remove();
  while (holder.children.length < options.length) holder.append(make("button", { type: "button" }));
  [...holder.children].forEach((button, index) => {
    button.textContent = options[index][0];
    button.setAttribute("aria-pressed", String(options[index][1] === chosen));
    button.onclick = () => pick(options[index][1]);
  });
}

function showDistribution() {
  const { detail } = state;
  const column = state.pinned === null ? null : detail.columns.find((column) => column.start === state.pinned);
  const options = column ? [...MOMENTS, [moment(column.start), "pinned"]] : MOMENTS;
  choice("moments", options, column ? "pinned" : state.moment, (chosen) => {
    if (chosen !== "pinned") [state.moment, state.pinned] = [chosen, null];
    showTime();
    showDistribution();
  });
  const counts = column ?? detail[state.moment];
  const open = state.now.alerts.find((alert) => alert.state === "FIRING" && alert.segment === detail.name);
  distribution(by("distribution").querySelector(".chart"), counts, detail.reference, open && !column ? open.moved : []);
  const key = (shape, words) => make("li", {}, svg("svg", { viewBox: "0 0 26 14", "aria-hidden": "true" }, shape), words);
  const total = (counts) => whole(counts.zero + counts.rows.reduce((sum, count) => sum + count, 0));
  by("distribution").querySelector(".legend").replaceChildren(...[
    counts ? key(svg("rect", { x: 3, y: 1, width: 20, height: 13, class: "now" }), `${moment(counts.start)} to ${clock(counts.end)}: ${total(counts)} customers`) : make("li", {}, "no distance in this window"),
    detail.reference ? key(svg("path", { d: "M2 13V6H13V2H24V13", class: "before" }), `${REFERENCES[detail.reference.kind]}: ${total(detail.reference)}`) : make("li", {}, "no reference yet"),
    open && !column ? key(svg("rect", { x: 3, y: 1, width: 20, height: 12, class: "moved" }), "moved most") : null,
  ].filter((item) => item !== null));
}

function showTime() {
  const { detail } = state;
  state.axis = lanes(by("lanes"), detail, state.now.alerts);
  const shown = detail.statistics.filter((_, which) => detail.columns.some((column) => column.ratios[which] !== null));
  const key = (statistic) => {
    const stroke = svg("line", { x1: 0, x2: 26, y1: 7, y2: 7, "stroke-width": 2.5, "stroke-dasharray": STATISTICS[statistic].dash });
    stroke.style.stroke = `var(--${statistic})`;
    return make("li", {}, svg("svg", { viewBox: "0 0 26 14", "aria-hidden": "true" }, stroke), STATISTICS[statistic].name);
  };
  by("time").querySelector(".legend").replaceChildren(...shown.map(key));
  point(state.cursor);
}

function showScores() {
  const { detail } = state;
  const rows = detail.statistics.filter((statistic) => statistic in detail.scores).map((statistic) => {
    const [score, threshold, effect] = [detail.scores[statistic], detail.thresholds[statistic], detail.effects[statistic]];
    const ratio = threshold > 0 ? score / threshold : null;
    const number = (value) => make("td", { class: "number" }, value === undefined ? "–" : Number(value.toPrecision(3)).toString());
    const kind = detail.breaches.includes(statistic) ? "number over" : "number";
    return make("tr", {}, make("td", {}, STATISTICS[statistic].name), number(score), number(threshold), make("td", { class: kind }, ratio === null ? "–" : `${times(ratio)} ×`), make("td", { class: "number" }, effect === undefined ? "–" : EFFECTS[statistic](effect)));
  });
  const quantiles = ["p50", "p90", "p99"].filter((name) => name in detail.readings).map((name) => {
    const [now, before] = [detail.readings[name], detail.readings[`${name}_before`] ?? detail.readings[`${name}_reference`]];
    const change = before > 0 ? `${times(now / before)} ×` : "–";
    return make("tr", {}, make("td", {}, `${name} of the distance`), make("td", { class: "number" }, distance(now)), make("td", { class: "number" }, before === undefined ? "–" : distance(before)), make("td", { class: "number" }, change), make("td"));
  });
  const head = (...words) => make("tr", {}, ...words.map((word, index) => make("th", { scope: "col", ...(index > 0 ? { class: "number" } : {}) }, word)));
  const table = by("scores").querySelector("table");
  table.tHead.replaceChildren(head("", "score", "threshold", "", "effect"));
  table.tBodies[0].replaceChildren(...rows, ...(rows.length === 0 ? [make("tr", {}, make("td", { colspan: 5 }, "no score: too few customers, or no reference"))] : []),
    ...(quantiles.length > 0 ? [head("", "now", "reference", "", "")] : []), ...quantiles);
}

function showPast() {
  const alerts = state.now.alerts;
  by("past").hidden = alerts.length === 0;
  const items = alerts.map((alert) => make("li", {}, icon(alert.state === "FIRING" ? "BREACH" : "OK"),
    make("span", { class: "when" }, `${moment(alert.since)} · ${alert.resolved_at === null ? "open" : `over after ${span(alert.resolved_at - alert.since)}`}`),
    make("span", {}, named(alert.summary))));
  by("past").querySelector("ul").replaceChildren(...items);
}

// ---------------------------------------------------------------- one window under the finger, the mouse or the arrow keys

function point(index) {
  const { detail, axis } = state;
  const columns = detail.columns;
  state.cursor = index === null || columns.length === 0 ? null : Math.max(0, Math.min(columns.length - 1, index));
  const column = columns[state.cursor ?? columns.length - 1];
  const marks = [];
  const mark = (column, kind) => {
    const at = axis.x((column.start + column.end) / 2);
    marks.push(svg("line", { x1: at, x2: at, y1: axis.at.outcome.top, y2: axis.bottom, class: kind }));
  };
  const pinned = columns.find((column) => column.start === state.pinned);
  if (pinned) mark(pinned, "pin");
  if (state.cursor !== null) mark(column, "cross");
  axis.cross.replaceChildren(...marks);
  const slider = by("lanes");
  slider.setAttribute("aria-valuemin", 0);
  slider.setAttribute("aria-valuemax", Math.max(0, columns.length - 1));
  slider.setAttribute("aria-valuenow", state.cursor ?? Math.max(0, columns.length - 1));
  if (!column) return;
  const [p50, p90, p99] = column.quantiles.map((value) => (value === null ? "–" : distance(value)));
  const ratio = Math.max(...column.ratios.map((ratio) => ratio ?? -1));
  const words = [`${moment(column.start)}–${clock(column.end)}`, OUTCOMES[column.outcome], `${whole(column.distances)} customers`, `p50 ${p50}, p90 ${p90}, p99 ${p99}`, ratio >= 0 ? `${times(ratio)} × threshold` : "no score"].join(" · ");
  slider.setAttribute("aria-valuetext", words);
  by("readout").textContent = state.cursor === null ? "" : words;
}

function columnAt(event) {
  const { detail, axis } = state;
  const box = by("lanes").firstChild.getBoundingClientRect();
  const time = axis.from + ((event.clientX - box.left - axis.left) / (axis.right - axis.left)) * (axis.to - axis.from);
  let nearest = null;
  detail.columns.forEach((column, index) => {
    const far = Math.abs((column.start + column.end) / 2 - time);
    if (nearest === null || far < nearest.far) nearest = { far, index };
  });
  return nearest?.index ?? null;
}

function pin() {
  const column = state.detail.columns[state.cursor ?? -1];
  if (!column) return;
  state.pinned = state.pinned === column.start ? null : column.start;
  point(state.cursor);
  showDistribution();
}

function listen() {
  const slider = by("lanes");
  slider.addEventListener("pointermove", (event) => state.detail && point(columnAt(event)));
  slider.addEventListener("pointerleave", () => state.detail && document.activeElement !== slider && point(null));
  slider.addEventListener("click", (event) => { if (state.detail) { point(columnAt(event)); pin(); } });
  slider.addEventListener("blur", () => state.detail && point(null));
  slider.addEventListener("keydown", (event) => {
    if (!state.detail) return;
    const last = state.detail.columns.length - 1, at = state.cursor ?? last + 1;
    const to = { ArrowLeft: at - 1, ArrowRight: at + 1, PageUp: at - 12, PageDown: at + 12, Home: 0, End: last }[event.key];
    if (to !== undefined) point(to);
    else if (event.key === "Enter" || event.key === " ") pin();
    else if (event.key === "Escape") { state.pinned = null; point(null); showDistribution(); }
    else return;
    event.preventDefault();
  });
  by("filter").addEventListener("input", () => state.now && showSegments());
  let width = 0, waiting = 0;
  new ResizeObserver(([{ contentRect }]) => {
    if (contentRect.width === width) return;
    width = contentRect.width;
    clearTimeout(waiting);
    waiting = setTimeout(() => state.detail && showDetail(), 100);
  }).observe(by("detail"));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => state.detail && showTime());
  window.addEventListener("hashchange", () => { recall(); if (state.now) { choose(); refresh(); } });
  by("theme").addEventListener("click", () => colour({ "": "light", light: "dark", dark: "" }[document.documentElement.dataset.theme ?? ""]));
}

/** As the system, light, or dark; kept where the browser lets us. */
function colour(theme) {
  if (theme === "") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  by("theme-name").textContent = theme === "" ? "as the system" : theme;
  try { localStorage.setItem("theme", theme); } catch { /* A private window keeps nothing. */ }
  if (state.detail) showTime();
}

document.body.append(definitions());
by("outcome-legend").replaceChildren(...Object.entries(OUTCOMES).map(([outcome, words]) => make("li", {}, icon(outcome), words)));
let kept = "";
try { kept = localStorage.getItem("theme") ?? ""; } catch { /* As above. */ }
colour(["light", "dark"].includes(kept) ? kept : "");
recall();
listen();
beat();
