// The table of models, below table.js.
if (document.getElementById("table")) longTable("models", { outcome: 2, kind: 7 });
