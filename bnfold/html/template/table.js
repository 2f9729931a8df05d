"use strict";
// Sorting and filtering of a table that may be long. Every name is set as text, never as HTML.
const make = (tag, text = "", name = "") => {
  const element = document.createElement(tag);
  if (text) element.textContent = text;
  if (name) element.className = name;
  return element;
};

// Gives the rows as items. `filters` are selections, each by its id with the column it looks at.
// A cell's data-value, where it has one, is the number that its column is sorted by.
const longTable = (noun, filters) => {
  const STEP = 500; // rows shown at first, and more on demand: thousands at once would be slow
  const table = document.getElementById("table");
  const body = table.tBodies[0];
  const search = document.getElementById("search");
  const count = document.getElementById("count");
  const more = document.getElementById("more");
  const choices = Object.entries(filters).map(([id, column]) => [document.getElementById(id), column]);
  let limit = STEP;

  const key = (cell) => {
    if (!("value" in cell.dataset)) return cell.textContent;
    return cell.dataset.value === "" ? null : Number(cell.dataset.value);
  };
  const items = Array.from(body.rows, (row, index) => ({
    row,
    index,
    texts: Array.from(row.cells, (cell) => cell.textContent),
    keys: [index, ...Array.from(row.cells, key).slice(1)],
    text: row.textContent.toLowerCase(),
    detail: null,
  }));
  const order = Array.from(items);

  const show = () => {
    const wanted = search.value.trim().toLowerCase();
    let found = 0;
    order.forEach((item) => {
      const fits =
        (!wanted || item.text.includes(wanted)) &&
        choices.every(([choice, column]) => !choice.value || item.texts[column] === choice.value);
      found += fits;
      item.row.hidden = !fits || found > limit;
      if (item.detail) item.detail.hidden = item.row.hidden;
    });
    const shown = Math.min(found, limit);
    const of = found === items.length ? `${found} ${noun}` : `${found} of ${items.length} ${noun}`;
    count.textContent = shown < found ? `${of}, the first ${shown} shown` : of;
    more.parentElement.hidden = shown === found;
  };

  const headers = Array.from(table.tHead.rows[0].cells);
  const collator = new Intl.Collator("en", { numeric: true });
  const compare = (one, other) =>
    typeof one === "number" ? one - other : collator.compare(one, other);
  const sort = (column, descending) => {
    const sign = descending ? -1 : 1;
    order.sort((a, b) => {
      const [one, other] = [a.keys[column], b.keys[column]];
      if (one === null || other === null) {
        return (one === null) - (other === null) || a.index - b.index; // what is not known is last
      }
      return sign * compare(one, other) || a.index - b.index;
    });
    const all = document.createDocumentFragment();
    order.forEach((item) => {
      all.append(item.row);
      if (item.detail && item.row.querySelector('[aria-expanded="true"]')) all.append(item.detail);
    });
    body.append(all);
    headers.forEach((header, index) => {
      const direction = descending ? "descending" : "ascending";
      header.setAttribute("aria-sort", index === column ? direction : "none");
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
    Array.from(new Set(values)).filter(Boolean).sort().forEach((value) => {
      const option = make("option", value);
      option.value = value;
      select.append(option);
    });
  };
  choices.forEach(([choice, column]) => offer(choice, items.map((item) => item.texts[column])));

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
  choices.forEach(([choice]) => choice.addEventListener("change", again));
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
  return items;
};
