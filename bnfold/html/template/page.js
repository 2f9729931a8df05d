"use strict";
// Sorting, filtering and unfolding of the table of sites. Every name is set as text, never as HTML.
(() => {
  const STEP = 500; // rows shown at first, and more on demand: thousands at once would be slow
  const table = document.getElementById("table");
  if (!table) return;
  const body = table.tBodies[0];
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const details = read("details");
  const reasons = new Map(read("reasons").map((reason) => [reason.code, reason]));
  const search = document.getElementById("search");
  const outcome = document.getElementById("outcome");
  const operator = document.getElementById("operator");
  const count = document.getElementById("count");
  const more = document.getElementById("more");
  let limit = STEP;

  const make = (tag, text = "", name = "") => {
    const element = document.createElement(tag);
    if (text) element.textContent = text;
    if (name) element.className = name;
    return element;
  };
  const number = (value) =>
    Math.abs(value) >= 1000 && Math.abs(value) < 1e7
      ? Math.round(value).toLocaleString("en")
      : value.toPrecision(3);
  const cell = (row, index) => row.cells[index].textContent;

  const sites = Array.from(body.rows, (row, index) => ({
    row,
    index,
    keys: [index, ...Array.from({ length: 6 }, (_, i) => cell(row, i + 1))],
    text: row.textContent.toLowerCase(),
    state: cell(row, 2),
    operator: cell(row, 3),
    detail: null,
  }));

  // -- what unfolds ---------------------------------------------------------------------------

  const layers = (boxes) => {
    const depth = new Map();
    boxes.forEach(([, inputs, outputs]) => {
      const above = inputs.map((name) => depth.get(name) ?? 0);
      const own = 1 + Math.max(0, ...above);
      outputs.forEach((name) => depth.set(name, own));
    });
    const rows = [];
    boxes.forEach((box) => (rows[depth.get(box[2][0]) ?? 1] ??= []).push(box));
    return rows.filter(Boolean);
  };

  const drawn = (title, boxes, others) => {
    const side = make("div");
    side.append(make("h4", title));
    const list = make("ol", "", "graph");
    layers(boxes).forEach((layer) => {
      const item = make("li");
      const row = make("div", "", "layer");
      layer.forEach(([type, inputs, outputs, constants, isSite]) => {
        const known = others.some((o) => o[0] === type && o[3] === constants && o[2][0] === outputs[0]);
        const box = make("div", "", isSite ? "box site" : known ? "box" : "box new");
        box.append(make("strong", type + (isSite ? " (this site)" : "")));
        const held = constants ? ` and ${constants} constant${constants > 1 ? "s" : ""}` : "";
        box.append(make("span", `reads ${inputs.join(", ") || "nothing that flows"}${held}`));
        box.append(make("span", `makes ${outputs.join(", ")}`));
        row.append(box);
      });
      item.append(row);
      list.append(item);
    });
    side.append(list);
    return side;
  };

  const figures = (site) => {
    const rows = [
      ["|scale| of each channel", site.scale],
      ["largest |weight| of each channel, before", site.weight_before],
      ["the same, after", site.weight_after],
    ].filter(([, values]) => values);
    if (!rows.length) return null;
    const result = make("table");
    const head = result.createTHead().insertRow();
    ["", "channels", "smallest", "median", "largest", "largest / smallest"].forEach((name) => {
      const th = make("th", name);
      th.scope = "col";
      head.append(th);
    });
    const inner = result.createTBody();
    rows.forEach(([name, [channels, low, , middle, , high]]) => {
      const row = inner.insertRow();
      const ratio = low > 0 ? number(high / low) : "one is zero";
      const values = [low, middle, high].map(number);
      [name, channels, ...values, ratio].forEach((value) => (row.insertCell().textContent = value));
    });
    const wrapper = make("div", "", "scroll");
    wrapper.tabIndex = 0;
    wrapper.setAttribute("role", "region");
    wrapper.setAttribute("aria-label", "magnitudes of the channels");
    wrapper.append(result);
    return wrapper;
  };

  const unfolded = (site) => {
    const data = details[site.index];
    const row = make("tr", "", "detail");
    const content = row.insertCell();
    content.colSpan = 7;
    const reason = reasons.get(data.code);
    if (reason) {
      content.append(make("h4", `${reason.code} ${reason.name}: ${reason.help}`));
      if (data.detail) content.append(make("p", data.detail));
      content.append(make("p", reason.explanation));
    }
    if (data.path) content.append(make("p", `On the way: ${data.path.join(", ")}.`));
    if (data.facts) content.append(make("p", `The affine: ${data.facts}.`));
    if (data.before) {
      const sides = make("div", "", "sides");
      const before = drawn(reason ? "Around it" : "Before", data.before, data.before);
      sides.append(before);
      if (!reason) sides.append(drawn("After", data.after, data.before));
      content.append(sides);
    }
    const numbers = figures(data);
    if (numbers) content.append(numbers);
    return row;
  };

  const toggle = (site, button) => {
    const open = button.getAttribute("aria-expanded") !== "true";
    button.setAttribute("aria-expanded", String(open));
    if (open) {
      site.detail ??= unfolded(site);
      site.row.after(site.detail);
    } else {
      site.detail.remove();
    }
  };

  sites.forEach((site) => {
    const place = site.row.cells[1];
    const button = make("button", place.textContent, "open");
    button.type = "button";
    button.setAttribute("aria-expanded", "false");
    button.addEventListener("click", () => toggle(site, button));
    place.replaceChildren(button);
  });

  // -- sorting and filtering ------------------------------------------------------------------

  const show = () => {
    const wanted = search.value.trim().toLowerCase();
    let found = 0;
    sites.forEach((site) => {
      const fits =
        (!wanted || site.text.includes(wanted)) &&
        (!outcome.value || site.state === outcome.value) &&
        (!operator.value || site.operator === operator.value);
      found += fits;
      site.row.hidden = !fits || found > limit;
      if (site.detail) site.detail.hidden = site.row.hidden;
    });
    const shown = Math.min(found, limit);
    const of = found === sites.length ? `${found} sites` : `${found} of ${sites.length} sites`;
    count.textContent = shown < found ? `${of}, the first ${shown} shown` : of;
    more.parentElement.hidden = shown === found;
  };

  const headers = Array.from(table.tHead.rows[0].cells);
  const collator = new Intl.Collator("en", { numeric: true });
  const sort = (column, descending) => {
    const sign = descending ? -1 : 1;
    const compare = (a, b) =>
      column === 0 ? a.index - b.index : collator.compare(a.keys[column], b.keys[column]);
    sites.sort((a, b) => sign * compare(a, b) || a.index - b.index);
    const all = document.createDocumentFragment();
    sites.forEach((site) => {
      all.append(site.row);
      if (site.detail && site.row.querySelector('[aria-expanded="true"]')) all.append(site.detail);
    });
    body.append(all);
    headers.forEach((header, index) => {
      const order = descending ? "descending" : "ascending";
      header.setAttribute("aria-sort", index === column ? order : "none");
    });
    show();
  };

  headers.forEach((header, column) => {
    const button = make("button", header.textContent);
    button.type = "button";
    button.addEventListener("click", () => {
      sort(column, header.getAttribute("aria-sort") === "ascending");
    });
    header.replaceChildren(button);
  });

  const offer = (select, values) => {
    Array.from(new Set(values)).sort().forEach((value) => {
      const option = make("option", value);
      option.value = value;
      select.append(option);
    });
  };
  offer(outcome, sites.map((site) => site.state));
  offer(operator, sites.map((site) => site.operator));

  const label = make("label", "Sort by ", "sort-by"); // where the head of the table is not shown
  const by = make("select");
  by.id = "sort";
  headers.forEach((header, column) => {
    const option = make("option", header.textContent);
    option.value = String(column);
    by.append(option);
  });
  label.append(by);
  by.addEventListener("change", () => sort(Number(by.value), false));
  count.before(label);

  const again = () => {
    limit = STEP;
    show();
  };
  search.addEventListener("input", again);
  outcome.addEventListener("change", again);
  operator.addEventListener("change", again);
  more.addEventListener("click", () => {
    limit += STEP;
    show();
  });
  document.querySelector(".filters").hidden = false;
  show();

  // Paper has no buttons: all rows are shown while printing.
  let before = limit;
  addEventListener("beforeprint", () => {
    before = limit;
    limit = Infinity;
    show();
  });
  addEventListener("afterprint", () => {
    limit = before;
    show();
  });
})();
