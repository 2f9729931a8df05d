// Unfolding of the table of sites, below table.js. Every name is set as text, never as HTML.
(() => {
  if (!document.getElementById("table")) return;
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const details = read("details");
  const reasons = new Map(read("reasons").map((reason) => [reason.code, reason]));

  const number = (value) =>
    Math.abs(value) >= 1000 && Math.abs(value) < 1e7
      ? Math.round(value).toLocaleString("en")
      : value.toPrecision(3);

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

  const unfolded = (item) => {
    const data = details[item.index];
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

  const toggle = (item, button) => {
    const open = button.getAttribute("aria-expanded") !== "true";
    button.setAttribute("aria-expanded", String(open));
    if (open) {
      item.detail ??= unfolded(item);
      item.row.after(item.detail);
    } else {
      item.detail.remove();
    }
  };

  longTable("sites", { outcome: 2, operator: 3 }).forEach((item) => {
    const place = item.row.cells[1];
    const button = make("button", place.textContent, "open");
    button.type = "button";
    button.setAttribute("aria-expanded", "false");
    button.addEventListener("click", () => toggle(item, button));
    place.replaceChildren(button);
  });
})();
