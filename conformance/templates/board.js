"use strict";
// The board: filters, whose state is the address, and what a clause shows when opened.
(() => {
  const form = document.getElementById("filters");
  if (!form) return; // no results, only fuzzes or measurements
  const data = JSON.parse(document.getElementById("data").textContent);
  const boxes = [...form.querySelectorAll("[name=impl]")];
  const count = document.getElementById("count");
  const chapters = [...document.querySelectorAll("section.chapter")];
  const numbers = new Intl.NumberFormat("en");

  const rows = [...document.querySelectorAll("details.clause")].map((element) => {
    const found = data.clauses[element.id];
    const told = new Set();
    for (const tests of found.tests) for (const test of tests) {
      told.add(data.strings[test[1]]);
      if (test.length > 2) told.add(data.strings[test[2]]);
    }
    const own = ["id", "title"].map((name) => element.querySelector("." + name).textContent);
    const rule = element.querySelector(".rule").textContent;
    return {
      element, found, chapter: element.id.slice(0, 3), full: false,
      text: [...own, rule, ...told].join("\n").toLowerCase(),
    };
  });
  const byId = new Map(rows.map((row) => [row.element.id, row]));

  function apply() {
    const asked = new FormData(form);
    const wanted = asked.get("q").toLowerCase().split(/\s+/).filter(Boolean);
    const chapter = asked.get("chapter");
    const outcomes = new Set(asked.getAll("outcome").map((name) => data.outcomes.indexOf(name)));
    const shown = boxes.filter((box) => box.checked).map((box) => Number(box.dataset.run));
    for (const box of boxes) {
      document.body.classList.toggle(`hide-${box.dataset.run}`, !box.checked);
    }
    document.documentElement.style.setProperty("--shown", String(shown.length));
    let left = 0;
    const alive = new Set();
    for (const row of rows) {
      const good = (!chapter || row.chapter === chapter)
        && (!outcomes.size || shown.some((run) => outcomes.has(row.found.cells[run])))
        && wanted.every((word) => row.text.includes(word));
      if (row.element.hidden === good) row.element.hidden = !good;
      if (good) {
        left += 1;
        alive.add(row.chapter);
      }
    }
    for (const part of chapters) part.hidden = !alive.has(part.dataset.chapter);
    count.textContent = left === rows.length
      ? `${numbers.format(left)} clauses`
      : `${numbers.format(left)} of ${numbers.format(rows.length)} clauses`;
  }

  // The address: #q=...&chapter=CAP&outcome=fail&impl=..., or #CAP-03 for one clause.
  function address() {
    const asked = new URLSearchParams();
    for (const [name, value] of new FormData(form)) {
      const all = name === "impl" && boxes.every((box) => box.checked);
      if (value && !all) asked.append(name, value);
    }
    if (!boxes.some((box) => box.checked)) asked.append("impl", "");
    const text = asked.toString();
    return location.href.split("#")[0] + (text ? "#" + text : "");
  }
  let waiting = 0;
  function keep() { // browsers refuse too many changes of the address in a row
    clearTimeout(waiting);
    waiting = setTimeout(() => history.replaceState(null, "", address()), 150);
  }

  function follow() {
    const raw = location.hash.slice(1);
    const clause = /^[A-Z]{3}-\d{2}$/.test(raw);
    if (raw && !clause && !raw.includes("=")) return; // a part of the page
    const asked = new URLSearchParams(clause ? "" : raw);
    form.elements.namedItem("q").value = asked.get("q") || "";
    form.elements.namedItem("chapter").value = asked.get("chapter") || "";
    if (form.elements.namedItem("chapter").selectedIndex < 0) {
      form.elements.namedItem("chapter").value = "";
    }
    const outcomes = asked.getAll("outcome");
    for (const box of form.querySelectorAll("[name=outcome]")) {
      box.checked = outcomes.includes(box.value);
    }
    const impls = asked.getAll("impl");
    for (const box of boxes) box.checked = !asked.has("impl") || impls.includes(box.value);
    apply();
    if (!clause) return;
    const row = byId.get(raw);
    if (!row) {
      count.textContent = `There is no ${raw} on this board.`;
      return;
    }
    row.element.open = true;
    fill(row);
    row.element.scrollIntoView();
    row.element.querySelector("summary").focus({ preventScroll: true });
  }

  function made(tag, text, name) {
    const element = document.createElement(tag);
    if (text) element.textContent = text; // never as HTML: it is anybody's text
    if (name) element.className = name;
    return element;
  }
  function quoted(text) { // as a POSIX shell wants it
    return /^[\w@%+=:,./-]+$/.test(text) ? text : "'" + text.replaceAll("'", "'\"'\"'") + "'";
  }
  function code(text, name) {
    const block = made("pre", text, name);
    block.tabIndex = 0; // long ones scroll
    return block;
  }
  function listed(tests) {
    const list = made("ul");
    for (const [, name, , command] of tests) {
      const item = made("li", data.strings[name]);
      if (command !== undefined) {
        const text = data.strings[command].replaceAll("\0", () => quoted(data.strings[name]));
        item.append(code(text, "command"));
      }
      list.append(item);
    }
    return list;
  }
  function fill(row) {
    if (row.full) return;
    row.full = true;
    const place = row.element.querySelector(".tests");
    row.found.tests.forEach((tests, run) => {
      const part = made("section", "", `run-${run}`);
      part.append(made("h4", boxes[run].value));
      const groups = new Map(); // tests that ended alike
      for (const test of tests) {
        const key = `${test[0]} ${test[2]}`;
        if (!groups.has(key)) groups.set(key, []);
        groups.get(key).push(test);
      }
      if (!tests.length) part.append(made("p", "The run did not have this clause."));
      for (const alike of groups.values()) {
        const [outcome, , message] = alike[0];
        const name = data.outcomes[outcome];
        const told = message === undefined ? "" : data.strings[message];
        const title = `${name}: ${alike.length} ${alike.length === 1 ? "test" : "tests"}`;
        if (name === "pass") {
          const more = made("details", "", "more");
          more.append(made("summary", title));
          if (told) more.append(code(told));
          more.append(listed(alike));
          part.append(more);
        } else {
          part.append(made("p", title));
          if (told) part.append(code(told));
          part.append(listed(alike));
        }
      }
      place.append(part);
    });
  }

  function step(event) {
    const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName);
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "/" && !typing) {
      event.preventDefault();
      form.elements.namedItem("q").focus();
      return;
    }
    const way = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const here = event.target.closest(".clause > summary");
    if (!way || !here) return;
    const there = rows.filter((row) => !row.element.hidden);
    const next = there[there.findIndex((row) => row.element === here.parentElement) + way];
    if (!next) return;
    event.preventDefault();
    next.element.querySelector("summary").focus();
  }

  form.addEventListener("input", () => { apply(); keep(); });
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(() => { apply(); keep(); }));
  document.addEventListener("keydown", step);
  document.addEventListener("toggle", (event) => {
    if (event.target.open && byId.has(event.target.id)) fill(byId.get(event.target.id));
  }, true);
  window.addEventListener("hashchange", follow);
  follow();
  // The browser goes to the clause of the address once more, and drops the focus.
  window.addEventListener("load", () => setTimeout(() => {
    if (byId.has(location.hash.slice(1))) follow();
  }));
})();
