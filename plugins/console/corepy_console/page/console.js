"use strict";
// Shows the documents of the console plugin. Every text is set with textContent, and unusual
// characters are shown as escapes, because names come from the network.

const INTERVAL = 2000;
const RETRY = 3000;
const PATIENCE = 10000;
const EXPLAIN_PATIENCE = 45000;
const HISTORY_EVERY = 10000;
const STATUS_EVERY = 15000;
const TOKEN = "corepy-token";
const UNUSUAL = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;

const byId = (id) => document.getElementById(id);

// Control characters and those that change the direction of text, as \u{...}.
function visible(text) {
  return String(text).replace(UNUSUAL, (char) => `\\u{${char.codePointAt(0).toString(16)}}`);
}

function element(tag, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined && text !== null) made.textContent = visible(text);
  if (className) made.className = className;
  return made;
}

// Formats of numbers, as in `corepy top`.

const exists = (value) => value !== null && value !== undefined;
// Plugins of third parties report their state, too: a figure may be of any type.
const known = (value) => typeof value === "number" && Number.isFinite(value);
const listOf = (value) => (Array.isArray(value) ? value.filter((it) => it && typeof it === "object") : []);

function formatCount(value) {
  if (!known(value)) return "-";
  for (const [size, unit] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
    if (Math.abs(value) >= Math.max(size, 1e4)) return `${(value / size).toFixed(1)}${unit}`;
  }
  return String(Math.round(value));
}

function formatRate(value) {
  if (!known(value)) return "-";
  if (value > 0 && value < 0.995) return value.toFixed(2);
  return value > 0 && value < 9.95 ? value.toFixed(1) : formatCount(value);
}

function formatShare(value) {
  return known(value) ? `${(value * 100).toFixed(value < 0.9995 ? 1 : 0)}%` : "-";
}

function formatSeconds(value) {
  if (!known(value)) return "-";
  if (value < 0.0009995) return `${Math.round(value * 1e6)} µs`;
  if (value < 0.9995) return `${(value * 1e3).toFixed(value < 0.09995 ? 1 : 0)} ms`;
  return `${value.toFixed(1)} s`;
}

function formatAge(value) {
  if (!known(value)) return "-";
  const total = Math.floor(value);
  const steps = [[86400, "d", 3600, "h"], [3600, "h", 60, "m"], [60, "m", 1, "s"]];
  for (const [size, unit, below, small] of steps) {
    if (total >= size) return `${Math.floor(total / size)}${unit} ${Math.floor((total % size) / below)}${small}`;
  }
  return `${total}s`;
}

function formatSize(value) {
  if (!known(value)) return "-";
  for (const [size, unit] of [[2 ** 40, "TiB"], [2 ** 30, "GiB"], [2 ** 20, "MiB"], [2 ** 10, "KiB"]]) {
    if (value >= size) return `${(value / size).toFixed(1)} ${unit}`;
  }
  return `${Math.round(value)} B`;
}

function formatValue(value) {
  if (!exists(value)) return "-";
  if (Array.isArray(value)) return value.map(formatValue).join(" ") || "none";
  if (typeof value === "object") {
    return Object.entries(value).map(([key, it]) => `${key} ${formatValue(it)}`).join(", ");
  }
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value === "number") return Number.isInteger(value) ? String(value) : value.toPrecision(4);
  return String(value);
}

// Requests.

class Refused extends Error {}

async function request(path, patience = PATIENCE) {
  const headers = { "X-Corepy-Console": "1" };
  const token = sessionStorage.getItem(TOKEN);
  if (token) headers.Authorization = `Bearer ${token}`;
  const signal = AbortSignal.timeout(patience);
  const response = await fetch(`api/${path}`, { headers, signal, cache: "no-store", credentials: "omit" });
  const content = await response.json();
  if (response.status === 401) throw new Refused(content.error);
  if (!response.ok) throw new Error(content.error || `status ${response.status}`);
  return content;
}

// Tables: `columns` have a title, a function for the text, and one for the value to sort by.

class Table {
  constructor(place, caption, columns) {
    this.columns = columns;
    this.rows = [];
    this.sorted = null;
    this.descending = true;
    const table = document.createElement("table");
    if (caption) this.caption = table.appendChild(element("caption", caption));
    const head = table.createTHead().insertRow();
    this.heads = columns.map((column, index) => {
      const cell = element("th", null, column.number ? "number" : "");
      cell.scope = "col";
      const button = element("button", column.title);
      button.type = "button";
      button.title = `Sort by ${column.title}`;
      button.addEventListener("click", () => this.sortBy(index));
      cell.append(button);
      head.append(cell);
      return cell;
    });
    this.body = table.createTBody();
    const scroll = element("div", null, "scroll");
    scroll.append(table);
    place.append(scroll);
  }

  sortBy(index) {
    this.descending = this.sorted === index ? !this.descending : Boolean(this.columns[index].number);
    this.sorted = index;
    this.heads.forEach((head, at) => {
      if (at === index) head.setAttribute("aria-sort", this.descending ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
    this.show(this.rows);
  }

  show(rows) {
    this.rows = rows;
    this.body.replaceChildren(...this.inOrder().map((row) => this.row(row)));
    if (!rows.length) {
      const cell = element("td", "none", "empty");
      cell.colSpan = this.columns.length;
      this.body.insertRow().append(cell);
    }
  }

  inOrder() {
    if (this.sorted === null) return this.rows;
    const value = (row) => {
      const found = (this.columns[this.sorted].value || this.columns[this.sorted].text)(row);
      return exists(found) ? found : this.descending ? -Infinity : Infinity;
    };
    const compare = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
    const ordered = [...this.rows].sort((a, b) => compare(value(a), value(b)));
    return this.descending ? ordered.reverse() : ordered;
  }

  row(row) {
    const made = document.createElement("tr");
    this.columns.forEach((column, index) => {
      const style = column.style ? column.style(row) : "";
      const cell = element(index ? "td" : "th", column.text(row), column.number ? "number" : style);
      if (!index) cell.scope = "row";
      if (column.number && style) cell.classList.add(style);
      made.append(cell);
    });
    return made;
  }
}

const number = (title, key, format = formatCount) => ({
  title, number: true, text: (row) => format(row[key]), value: (row) => row[key],
});
const word = (title, key) => ({ title, text: (row) => row[key] ?? "" });

function errorBound(item) {
  const margin = item.margin || 0;
  const over = (item.error || 0) + margin;
  return over || margin ? `-${formatCount(over)} +${formatCount(margin)}` : "exact";
}

function talkerColumns(title, key) {
  return [
    word(title, key),
    number("Queries", "count"),
    { title: "Error", number: true, text: errorBound, value: (row) => (row.error || 0) + (row.margin || 0) },
    number("Per second", "per_second", formatRate),
  ];
}

const TALKERS = [
  ["clients", "Clients", "client", "Client"],
  ["names", "Names", "name", "Name"],
  ["suffixes", "Suffixes (names below them)", "name", "Suffix"],
  ["nxdomain", "Names that do not exist (NXDOMAIN)", "name", "Name"],
  ["servfail", "Names that failed (SERVFAIL)", "name", "Name"],
];

const page = { tables: {}, charts: [], last: null, before: null, paused: false, timer: null };
page.statusAt = page.historyAt = -Infinity;

function makeTables() {
  for (const [section, caption, key, title] of TALKERS) {
    page.tables[section] = new Table(byId("top-tables"), caption, talkerColumns(title, key));
  }
  const stateClass = (row) => ({ up: "good", down: "bad" })[row.state] || "warn";
  page.tables.upstreams = new Table(byId("upstream-table"), "", [
    word("Upstream", "address"), word("Protocol", "protocol"),
    { title: "State", text: (row) => row.state || "", style: stateClass },
    number("Round trip", "rtt", formatSeconds), number("Per second", "rate", formatRate),
    number("Failures/s", "failureRate", formatRate), number("Failures", "failures"),
    number("Waiting", "in_flight"), word("Plugin", "plugin"), word("Block", "block"),
  ]);
  page.tables.caches = new Table(byId("cache-table"), "", [
    { title: "Cache", text: (row) => `${row.plugin} ${row.zones.join(" ")}` },
    number("Hits", "ratio", formatShare), number("Entries", "entries"), number("Capacity", "capacity"),
    number("Size", "bytes", formatSize), number("Evictions/s", "evictionRate", formatRate), word("Block", "block"),
  ]);
  page.tables.listeners = new Table(byId("listener-table"), "", [
    word("Listener", "server"), word("Protocol", "protocol"), number("Connections", "connections"),
    number("Waiting", "waiting"), number("Packet cache", "packet_cache_entries"), number("Unsent", "unsent"),
    number("Lost", "overflows"),
  ]);
  page.tables.plugins = new Table(byId("plugin-table"), "Plugins", [
    word("Plugin", "plugin"), word("Block", "block"),
    { title: "State", text: (row) => row.state, style: (row) => (row.isProblem ? "bad" : "") },
    word("Details", "details"),
  ]);
  page.tables.blocks = new Table(byId("block-table"), "Server blocks", [
    { title: "Zones", text: (row) => row.zones.join(" ") + (row.view ? `, view ${row.view}` : "") },
    word("Place", "place"), { title: "Servers", text: (row) => row.servers.join(" ") },
    { title: "Chain", text: (row) => row.chain.join(" > ") },
    { title: "Packet cache", text: (row) => (row.packet_cache.on ? "on" : `off: ${row.packet_cache.reason}`) },
  ]);
}

function makeCharts() {
  page.charts = [
    new Chart("Queries per second", ["all", "packet cache", "waited"], formatRate),
    new Chart("Latency", ["p50", "p99"], formatSeconds),
    new Chart("Failures per second", ["NXDOMAIN", "SERVFAIL", "unanswered"], formatRate),
  ];
  byId("charts").append(...page.charts.map((chart) => chart.figure));
}

// Rates of counters between two documents of the same process.

function pluginKey(plugin) {
  return [plugin.plugin, plugin.block, ...(plugin.zones || [])].join(" ");
}

function earlier() {
  const { last, before } = page;
  const same = before && before.server.pid === last.server.pid && last.time > before.time;
  return same ? before : null;
}

function rateOf(now, then, seconds) {
  return known(now) && known(then) && now >= then && seconds > 0 ? (now - then) / seconds : null;
}

function statusBefore() {
  const before = earlier();
  return new Map((before ? before.plugins : []).map((it) => [pluginKey(it), it.status]));
}

function upstreamRows() {
  const then = statusBefore();
  const seconds = page.before ? page.last.time - page.before.time : 0;
  return page.last.plugins.flatMap((plugin) => listOf(plugin.status.upstreams).map((upstream) => {
    const others = listOf((then.get(pluginKey(plugin)) || {}).upstreams);
    const old = others.find((it) => it.address === upstream.address && it.protocol === upstream.protocol) || {};
    return {
      ...upstream, plugin: plugin.plugin, block: plugin.block || "",
      rate: rateOf(upstream.queries, old.queries, seconds),
      failureRate: rateOf(upstream.failures, old.failures, seconds),
    };
  }));
}

function cacheRows() {
  const then = statusBefore();
  const seconds = page.before ? page.last.time - page.before.time : 0;
  return page.last.plugins.filter((plugin) => listOf([plugin.status.cache]).length).map((plugin) => {
    const cache = plugin.status.cache;
    const old = (then.get(pluginKey(plugin)) || {}).cache || {};
    const hits = cache.hits - (old.hits || 0);
    const misses = cache.misses - (old.misses || 0);
    const [part, rest] = hits + misses > 0 ? [hits, misses] : [cache.hits, cache.misses];
    return {
      ...cache, plugin: plugin.plugin, zones: plugin.zones || [], block: plugin.block || "",
      part, asked: part + rest, ratio: part + rest ? part / (part + rest) : null,
      evictionRate: rateOf(cache.evictions, old.evictions, seconds),
    };
  });
}

function pluginRows() {
  const shown = ["cache", "upstreams", "state", "problems"];
  return page.last.plugins.filter((plugin) => Object.keys(plugin.status).some((key) => !shown.slice(0, 2).includes(key)))
    .map((plugin) => {
      const problems = Array.isArray(plugin.status.problems) ? plugin.status.problems : [];
      const others = Object.entries(plugin.status).filter(([key]) => !shown.includes(key));
      return {
        plugin: plugin.plugin, block: plugin.block || "", isProblem: problems.length > 0,
        state: problems.join("; ") || plugin.status.state || "",
        details: others.map(([key, value]) => `${key} ${formatValue(value)}`).join(", "),
      };
    });
}

// What is shown from "stats".

function showTiles(stats) {
  const { recent } = stats;
  const memory = stats.memory || {};
  const limit = memory.limit ? ` of ${formatSize(memory.limit)}` : "";
  const caches = cacheRows();
  const total = (key) => caches.reduce((sum, it) => sum + (it[key] || 0), 0);
  const [hits, asked] = [total("part"), total("asked")];
  const tiles = [
    ["Queries per second", formatRate(recent.queries_per_second)],
    ["From the packet cache", formatShare(recent.packet_cache_ratio)],
    ["Hits of caches", formatShare(asked ? hits / asked : null)],
    ["Waited for an upstream", formatShare(recent.waited_ratio)],
    ["Latency p50", formatSeconds(recent.p50)],
    ["Latency p99", formatSeconds(recent.p99)],
    ["NXDOMAIN per second", formatRate(recent.nxdomain_per_second)],
    ["SERVFAIL per second", formatRate(recent.servfail_per_second), recent.servfail_per_second ? "bad" : ""],
    ["Memory", formatSize(memory.bytes) + limit],
    ["Processes", String((stats.processes || []).length)],
    ["Up", formatAge(stats.server.uptime)],
  ];
  byId("tiles").replaceChildren(...tiles.map(([title, value, style]) => {
    const tile = document.createElement("div");
    tile.append(element("dt", title), element("dd", value, style));
    return tile;
  }));
}

function showCharts(history) {
  const { interval } = history;
  const perSecond = (values) => (values || []).map((value) => (known(value) ? value / interval : null));
  const points = Math.round(3600 / interval);
  page.charts[0].draw([history.queries, history.packet_cache_hits, history.waited].map(perSecond), interval, points);
  page.charts[1].draw([history.p50 || [], history.p99 || []], interval, points);
  page.charts[2].draw([history.nxdomain, history.servfail, history.unanswered].map(perSecond), interval, points);
}

function showTop(top) {
  const given = top || {};
  const looked = (given.sampled || 0) >= (given.queries || 0) ? "all were counted" : `${formatCount(given.sampled)} were sampled`;
  byId("top-note").textContent = `Last ${Math.round(given.seconds || 0)} seconds: of ${formatCount(given.queries || 0)} queries, `
    + `${looked}.`;
  const bounds = given.bounds || {};
  for (const [section, caption] of TALKERS) {
    const table = page.tables[section];
    table.caption.textContent = bounds[section]
      ? `${caption}; any that is not listed has at most ${formatCount(bounds[section])}` : caption;
    table.show(given[section] || []);
  }
}

function showStats(stats) {
  page.before = page.last;
  page.last = stats;
  stats.plugins = listOf(stats.plugins).filter((it) => listOf([it.status]).length);
  byId("server").textContent = visible(`${stats.server.version} ${stats.server.name || ""} (process ${stats.server.pid})`);
  showTiles(stats);
  showTop(stats.top);
  page.tables.upstreams.show(upstreamRows());
  page.tables.caches.show(cacheRows());
  page.tables.listeners.show(stats.listeners);
  page.tables.plugins.show(pluginRows());
}

// What is shown from "status" and "corefile".

function fillList(list, texts) {
  list.replaceChildren(...texts.map((text) => element("li", text)));
}

function showStatus(status) {
  const problems = [...(status.problems || []), ...(status.not_ready || []).map((name) => `${name} is not ready`)];
  byId("problems").hidden = !problems.length;
  fillList(byId("problems").querySelector("ul"), problems);
  page.tables.blocks.show(status.blocks || []);
  const reload = status.reload;
  const when = reload && reload.time ? new Date(reload.time * 1000).toLocaleString() : "";
  byId("reload").textContent = reload
    ? visible(`${reload.count} reloads, ${reload.failed} failed; the last one at ${when}.`) : "Not reloaded yet.";
}

function codeLine(text, isMarked) {
  return element("li", text, isMarked ? "marked" : "");
}

function showCorefile(corefile) {
  const marked = new Set(corefile.diagnostics.map((it) => `${it.file}:${it.line}`));
  const files = corefile.files.map((file) => {
    const part = document.createElement("div");
    const list = element("ol", null, "code");
    list.tabIndex = 0;
    list.setAttribute("aria-label", visible(`Text of ${file.name}`));
    const lines = file.text.replace(/\n$/, "").split("\n");
    list.append(...lines.map((line, index) => codeLine(line, marked.has(`${file.name}:${index + 1}`))));
    part.append(element("h3", file.name), list);
    return part;
  });
  byId("files").replaceChildren(...files);
  const notes = corefile.diagnostics.map((it) => {
    const where = it.file ? `${it.file}:${it.line}: ` : "";
    const hint = it.hint ? ` (${it.hint})` : "";
    return element("li", `${where}${it.severity}: ${it.message}${hint}`, it.severity === "error" ? "bad" : "warn");
  });
  if (corefile.error) notes.push(element("li", `The last reload failed: ${corefile.error}`, "bad"));
  byId("diagnostics").replaceChildren(...(notes.length ? notes : [element("li", "No warnings.", "good")]));
}

async function refreshHistory(now) {
  if (now - page.historyAt < HISTORY_EVERY) return;
  page.historyAt = now;
  showCharts(await request("history"));
}

async function refreshStatus(now) {
  if (now - page.statusAt < STATUS_EVERY) return;
  page.statusAt = now;
  const [status, corefile] = await Promise.all([request("status"), request("corefile")]);
  showStatus(status);
  const text = JSON.stringify(corefile);
  if (text !== page.corefile) {
    page.corefile = text;
    showCorefile(corefile);
  }
}

// The explanation of a question.

function facts(rows) {
  const list = element("dl", null, "facts");
  for (const [title, text] of rows) list.append(element("dt", title), element("dd", text));
  return list;
}

const pairs = (values) => Object.entries(values || {}).map(([key, value]) => `${key}: ${formatValue(value)}`);

function stepItem(step) {
  const item = element("li");
  item.append(element("strong", step.plugin));
  const state = (step.before || {}).state;
  const time = known(step.seconds) ? `, ${formatSeconds(step.seconds)}` : "";
  item.append(visible(`: ${state ? `${state}; ` : ""}${step.did}${time}`));
  const { state: _state, ...before } = step.before || {};
  const changes = [
    ...pairs(before),
    ...(step.down || []).map((change) => `query: ${change}`),
    ...(step.up || []).map((change) => `reply: ${change}`),
    ...(step.error ? [`error: ${step.error}`] : []),
    ...pairs(step.labels),
  ];
  if (changes.length) {
    const list = document.createElement("ul");
    fillList(list, changes);
    item.append(list);
  }
  return item;
}

function packetCacheText(packets) {
  if (!packets) return "not used, no block answers";
  const text = packets.admitted ? `stores this reply for ${Math.round(packets.seconds)} s`
    : `does not store this reply: ${packets.reason}`;
  return packets.holds ? `${text}; contains one now` : text;
}

function showExplanation(found) {
  const block = found.block;
  const where = block ? `${block.zone} (${block.place}${block.view ? `, view ${block.view}` : ""})` : "none";
  const asked = found.question;
  const summary = facts([
    ["Question", `${asked.name} ${asked.class} ${asked.type} from ${asked.client}, ${asked.protocol}`],
    ["Server", found.server],
    ["Block", `${where}: ${found.reason}`],
    ["Chain", block ? block.chain.join(" > ") || "empty" : "-"],
    ["Packet cache", packetCacheText(found.packet_cache)],
    ["Time", formatSeconds(found.seconds)],
  ]);
  const steps = element("ol", null, "steps");
  steps.append(...found.steps.map(stepItem));
  const reply = element("pre", found.reply.text);
  reply.tabIndex = 0;
  reply.setAttribute("aria-label", "Reply");
  byId("explanation").replaceChildren(
    summary, element("h3", "Steps"), steps, element("h3", `Reply ${found.reply.rcode || ""}`), reply,
  );
}

async function explain(event) {
  event.preventDefault();
  const place = byId("explanation");
  const question = new URLSearchParams({
    name: byId("name").value, type: byId("type").value, client: byId("client").value,
    protocol: byId("protocol").value, do: byId("do").checked ? "1" : "",
  });
  place.replaceChildren(element("p", "The server is answering the question.", "note"));
  try {
    showExplanation(await request(`explain?${question}`, EXPLAIN_PATIENCE));
  } catch (error) {
    place.replaceChildren(element("p", error.message, "bad"));
  }
}

// Polling: only while the page is visible.

function connection(text, isLost) {
  const place = byId("connection");
  if (place.textContent !== text) place.textContent = text;
  place.classList.toggle("lost", Boolean(isLost));
}

function askForToken(error) {
  byId("login-error").textContent = sessionStorage.getItem(TOKEN) ? visible(error.message) : "";
  sessionStorage.removeItem(TOKEN);
  const isNew = byId("login").hidden;
  byId("login").hidden = false;
  byId("main").hidden = true;
  connection("a token is needed");
  if (isNew) byId("token").focus();
}

async function poll() {
  clearTimeout(page.timer);
  page.timer = null;
  if (document.hidden || page.paused || page.isBusy) return;
  page.isBusy = true;
  try {
    showStats(await request("stats"));
    byId("login").hidden = true;
    byId("main").hidden = false;
    connection("live");
    await refreshHistory(performance.now());
    await refreshStatus(performance.now());
    schedule(INTERVAL);
  } catch (error) {
    if (error instanceof Refused) {
      askForToken(error);
      return;
    }
    page.statusAt = page.historyAt = -Infinity;
    connection(visible(`no answer: ${error.message}; trying again`), true);
    schedule(RETRY);
  } finally {
    page.isBusy = false;
  }
}

function schedule(delay) {
  clearTimeout(page.timer);
  if (!document.hidden && !page.paused) page.timer = setTimeout(poll, delay);
}

function togglePause() {
  page.paused = !page.paused;
  byId("pause").setAttribute("aria-pressed", String(page.paused));
  byId("pause").textContent = page.paused ? "Continue" : "Pause";
  connection(page.paused ? "paused" : "live");
  poll();
}

function login(event) {
  event.preventDefault();
  sessionStorage.setItem(TOKEN, byId("token").value.trim());
  byId("token").value = "";
  poll();
}

makeTables();
makeCharts();
byId("question").addEventListener("submit", explain);
byId("login").addEventListener("submit", login);
byId("pause").addEventListener("click", togglePause);
document.addEventListener("visibilitychange", poll);
poll();
