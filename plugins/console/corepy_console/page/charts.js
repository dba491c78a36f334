"use strict";
// Draws line charts of the last hour as SVG. All text is set with textContent.

const SVG = "http://www.w3.org/2000/svg";
const CLASSES = ["one", "two", "three"];
const CHART_HEIGHT = 100;

function svgElement(tag, attributes) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

// Returns the path of the values, oldest first, that end at the right edge; null is a gap.
function linePath(values, points, top) {
  let path = "";
  let pen = false;
  values.forEach((value, index) => {
    if (value === null || value === undefined) {
      pen = false;
      return;
    }
    const x = points - values.length + index;
    const y = CHART_HEIGHT - (top > 0 ? Math.min(value / top, 1) * (CHART_HEIGHT - 4) : 0);
    path += `${pen ? "L" : "M"}${x} ${y.toFixed(2)}`;
    if (!pen && (index + 1 === values.length || values[index + 1] === null)) path += "h0.5";
    pen = true;
  });
  return path;
}

// A chart: a figure with a caption, a drawing, its axis, and the values as a table.
class Chart {
  constructor(title, names, format) {
    this.title = title;
    this.names = names;
    this.format = format;
    this.figure = document.createElement("figure");
    this.caption = document.createElement("figcaption");
    this.drawing = svgElement("svg", {
      class: "chart", role: "img", preserveAspectRatio: "none",
    });
    this.axis = document.createElement("div");
    this.axis.className = "axis";
    this.axis.setAttribute("aria-hidden", "true");
    const details = document.createElement("details");
    const summary = document.createElement("summary");
    summary.textContent = "Values";
    this.table = document.createElement("div");
    this.table.className = "scroll";
    details.append(summary, this.table);
    details.addEventListener("toggle", () => this.fillTable());
    this.details = details;
    this.figure.append(this.caption, this.drawing, this.axis, details);
    this.series = [];
  }

  // `series` is a list of values for each name; `interval` is in seconds, `points` is the width.
  draw(series, interval, points) {
    this.series = series;
    this.interval = interval;
    const known = series.flat().filter((value) => value !== null && value !== undefined);
    const top = Math.max(0, ...known);
    this.drawing.setAttribute("viewBox", `0 0 ${points} ${CHART_HEIGHT}`);
    const paths = series.map((values, index) => {
      const path = linePath(values, points, top);
      return svgElement("path", { class: CLASSES[index], d: path });
    });
    const first = series[0] || [];
    if (first.length > 1 && !first.includes(null)) {
      const line = linePath(first, points, top);
      const area = `${line}V${CHART_HEIGHT}H${points - first.length}Z`;
      paths.unshift(svgElement("path", { class: "area", d: area }));
    }
    this.drawing.replaceChildren(...paths);
    this.drawing.setAttribute("aria-label", this.description(top));
    this.fillCaption();
    this.fillAxis(points * interval, top);
    this.fillTable();
  }

  last(index) {
    const values = this.series[index] || [];
    return values.length ? values[values.length - 1] : null;
  }

  description(top) {
    const now = this.names.map((name, index) => `${name} ${this.format(this.last(index))}`);
    return `${this.title}, last hour. Latest: ${now.join(", ")}. Highest: ${this.format(top)}.`;
  }

  fillCaption() {
    const title = document.createElement("strong");
    title.textContent = this.title;
    const keys = this.names.map((name, index) => {
      const key = document.createElement("span");
      key.className = "key";
      const sample = svgElement("svg", { viewBox: "0 0 24 8", "aria-hidden": "true" });
      sample.append(svgElement("path", {
        class: CLASSES[index], d: "M0 4H24", "stroke-width": "2",
      }));
      key.append(sample, ` ${name} ${this.format(this.last(index))}`);
      return key;
    });
    this.caption.replaceChildren(title, ...keys);
  }

  fillAxis(seconds, top) {
    const marks = [`${Math.round(seconds / 60)} min ago`, `top ${this.format(top)}`, "now"];
    this.axis.replaceChildren(...marks.map((mark) => {
      const label = document.createElement("span");
      label.textContent = mark;
      return label;
    }));
  }

  // One row for five minutes, for screen readers and for reading exact values.
  fillTable() {
    if (!this.details.open) return;
    const step = Math.max(1, Math.round(300 / (this.interval || 10)));
    const length = Math.max(0, ...this.series.map((values) => values.length));
    const rows = [];
    for (let end = length; end > 0; end -= step) {
      const cells = this.series.map((values) => {
        const part = values.slice(Math.max(0, end - step), end).filter((value) => value !== null);
        return part.length ? part.reduce((sum, value) => sum + value, 0) / part.length : null;
      });
      rows.push([`${Math.round(((length - end) * this.interval) / 60)} min`, ...cells]);
    }
    const table = document.createElement("table");
    const head = table.createTHead().insertRow();
    for (const name of ["before now", ...this.names]) {
      const cell = document.createElement("th");
      cell.scope = "col";
      cell.textContent = name;
      head.append(cell);
    }
    const body = table.createTBody();
    for (const [time, ...values] of rows) {
      const row = body.insertRow();
      row.insertCell().textContent = time;
      for (const value of values) row.insertCell().textContent = this.format(value);
    }
    this.table.replaceChildren(table);
  }
}
