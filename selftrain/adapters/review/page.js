"use strict";
// The page about a queue: shows images and sends answers. Names and labels are only ever set as text.
const base = location.pathname, token = base.split("/")[1];
const DEEDS = "usnga", LETTERS = [..."123456789bcdefhijklmopqrtvwxyz"], PAGE = 48, AHEAD = 60;
const find = (id) => document.getElementById(id);
const state = { questions: [], count: 0, loading: null, at: 0, start: 0, many: false, selected: new Set(), classes: [], keys: [],
  none: "", since: 0, waiting: [], sending: false, undo: [], byId: new Map() };

function make(tag, text, attributes = {}) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}
const address = (id, size) => `${base}image/${encodeURIComponent(id)}?size=${size}`;
const percent = (share) => `${(100 * share).toFixed(0)} %`;
const open = (question) => question && question.answer === null && !question.skipped;
function picture(image, id, size) {
  image.classList.remove("tiny");
  image.onload = () => image.classList.toggle("tiny", image.naturalWidth <= 64 && image.naturalHeight <= 64);
  image.src = address(id, size);
}
function say(text, bad = false) { find("say").textContent = text; find("say").classList.toggle("bad", bad); }

function load() {  // a chunk at a time: whoever asks meanwhile waits for the same one
  if (state.count && state.questions.length >= state.count) return Promise.resolve();
  state.loading ??= fetched().finally(() => { state.loading = null; });
  return state.loading;
}
async function fetched() {
  try {
    const reply = await fetch(`${base}queue?from=${state.questions.length}`);
    const got = await reply.json();
    if (!reply.ok) throw new Error(got.error);
    if (!state.count) begin(got);
    for (const each of got.questions) {
      each.skipped = false;
      state.byId.set(each.image_id, each);
      state.questions.push(each);
    }
    state.count = got.count;
  } catch (error) {
    say(`the queue cannot be loaded: ${error.message}; is the server still running?`, true);
  }
}
function keysOf(classes) {  // a class that is called like a key has that key; the others get what is free, in order
  const own = classes.map((name) => (/^[0-9a-z]$/.test(name.toLowerCase()) && !DEEDS.includes(name.toLowerCase()) ? name.toLowerCase() : ""));
  const free = LETTERS.filter((key) => !own.includes(key));
  return own.map((key, index) => (key && own.indexOf(key) === index ? key : free.shift() || ""));
}
function begin(got) {
  state.classes = got.classes; state.none = got.none; state.since = got.since;
  find("who").value = sessionStorage.getItem("who") || got.who;
  document.querySelector(".search").hidden = got.classes.length <= LETTERS.length;
  state.keys = keysOf(got.classes);
  got.classes.forEach((name, index) => {
    const button = make("button", undefined, { type: "button", title: name });
    if (state.keys[index]) button.append(make("kbd", state.keys[index]), " ");
    button.append(name);
    button.dataset.label = name;
    find("classes").append(button);
  });
}

function show() {
  const done = state.questions.filter((each) => each.answer !== null).length;
  find("bar").max = state.count; find("bar").value = done;
  find("count").textContent = `${done} of ${state.count} answered`;
  find("single").hidden = state.many; find("many").hidden = !state.many;
  find("other").textContent = state.many ? "one image" : "many images";
  state.many ? showMany() : showOne();
  if (Math.max(state.at, state.start + PAGE) + AHEAD > state.questions.length && state.questions.length < state.count) {
    load().then(() => { if (state.many) showMany(); });
  }
}
function showOne() {
  const question = state.questions[state.at];
  if (!question) return;
  const frame = find("frame");
  if (!frame.children.length) frame.append(make("img"));
  const shown = frame.children[0];
  shown.alt = `image ${state.at + 1} of ${state.count}`;
  picture(shown, question.image_id, "large");
  find("path").textContent = question.path;
  find("answered").textContent = question.answer !== null ? `Answered: ${question.answer}${question.by ? ` (${question.by})` : ""}`
    : question.skipped ? "Skipped" : "";
  find("answers").replaceChildren(...question.answers.map(([name, share]) => {
    const row = make("li");
    row.append(make("span", name), make("span", percent(share)), make("progress", undefined, { value: share, max: 1, "aria-hidden": "true" }));
    return row;
  }));
  if (!question.answers.length) find("answers").append(make("li", "nothing: it was not asked about this image", { class: "quiet" }));
  find("teacher").textContent = question.teacher ? `round ${question.round}, teacher ${question.teacher.slice(0, 12)}` : "";
  find("why").textContent = question.why;
  const today = question.labels.length ? `Its label today: ${question.labels.join(" or ")}. ` : "";
  find("labels").textContent = today || question.disputed ? `${today}Your answer settles it.` : "";
  const near = question.twin ? [[question.twin, "looks the same"], ...question.neighbours] : question.neighbours;
  find("near").hidden = !near.length;
  find("neighbours").replaceChildren(...near.map(([id, label]) => {
    const row = make("li"), image = make("img", undefined, { alt: "" });
    picture(image, id, "small");
    row.append(image, label);
    return row;
  }));
  for (const button of find("classes").children) button.classList.toggle("likely", button.dataset.label === question.shown);
  const next = state.questions[state.at + 1];
  if (next) new Image().src = address(next.image_id, "large");
}
function showMany() {
  const shown = state.questions.slice(state.start, state.start + PAGE);
  for (const button of find("classes").children) button.classList.remove("likely");
  find("page").textContent = `images ${state.start + 1} to ${state.start + shown.length} of ${state.count}`;
  find("grid").replaceChildren(...shown.map((question, index) => {
    const place = state.start + index;
    const says = question.shown ? `${question.shown} ${percent(question.answers[0][1])}` : question.labels.join(" or ") || "no answer";
    const cell = make("li", undefined, { role: "option", tabindex: place === state.at ? "0" : "-1", title: question.why,
      "aria-selected": String(state.selected.has(question.image_id)) });
    const image = make("img", undefined, { alt: `image ${place + 1}`, loading: "lazy" });
    picture(image, question.image_id, "small");
    const answered = question.answer ?? (question.skipped ? "skipped" : null);
    cell.classList.toggle("done-with", answered !== null);
    cell.append(image, make("b", answered === null ? says : `✓ ${answered}`), make("span", answered === null ? "" : `model: ${says}`));
    cell.addEventListener("click", () => { state.at = place; toggle(); });
    return cell;
  }));
  const cell = find("grid").children[state.at - state.start];
  if (cell && document.activeElement !== find("who") && document.activeElement !== find("search")) cell.focus({ preventScroll: false });
}
function toggle() {
  const id = state.questions[state.at]?.image_id;
  if (id && !state.selected.delete(id)) state.selected.add(id);
  show();
}
function asked() {
  const chosen = state.many && state.selected.size ? [...state.selected].map((id) => state.byId.get(id)) : [state.questions[state.at]];
  return chosen.filter(Boolean);
}

function answer(label) { give([[asked(), label]]); }
function accept() {
  const groups = new Map();
  for (const each of asked().filter((one) => one.shown !== null)) groups.set(each.shown, [...(groups.get(each.shown) || []), each]);
  if (!groups.size) say("the model said nothing about this image; give it a class", true);
  else give([...groups].map(([label, questions]) => [questions, label]));
}
function give(groups) {
  const deed = [], who = find("who").value;
  for (const [questions, label] of groups) {
    if (!questions.length) continue;
    deed.push({ label, images: questions.map((each) => each.image_id), before: questions.map((each) => each.answer) });
    for (const each of questions) Object.assign(each, { answer: label, by: who, skipped: false });
    send("answer", { images: questions.map((each) => each.image_id), label, who });
  }
  if (!deed.length) return;
  state.undo.push({ deed, who, at: state.at });
  state.selected.clear();
  say(`answered ${deed.map((each) => `${each.images.length > 1 ? `${each.images.length} images: ` : ""}${each.label}`).join(", ")}`);
  forward();
}
function undo() {
  const last = state.undo.pop();
  if (!last) { say("there is nothing to undo in this window"); return; }
  state.at = last.at;
  for (const { label, images, before, skipped } of last.deed) {
    images.forEach((id, index) => Object.assign(state.byId.get(id), { answer: before[index], skipped: false }));
    if (!skipped) send("undo", { images, label, who: last.who });  // the name may be another one by now
  }
  if (state.many) state.start = Math.floor(state.at / PAGE) * PAGE;
  say("undone");
  show();
}
function skip() {
  const questions = asked().filter((each) => each.answer === null);
  for (const each of questions) each.skipped = true;
  const images = questions.map((each) => each.image_id);
  if (images.length) state.undo.push({ deed: [{ skipped: true, images, before: images.map(() => null) }], at: state.at });
  state.selected.clear();
  forward();
}
function forward() {
  const after = state.questions.findIndex((each, index) => index > state.at && open(each));
  const first = after >= 0 ? after : state.questions.findIndex(open);
  if (first >= 0) state.at = first;
  else if (state.questions.length < state.count) {
    const had = state.questions.length;
    load().then(() => { if (state.questions.length > had) forward(); else show(); });  // the next key tries again
    return;
  }
  else say(state.questions.some((each) => each.skipped) ? "All images are answered or skipped. Start the command again for the next ones."
    : "All images are answered. Start the command again for the next ones.");
  state.start = Math.floor(state.at / PAGE) * PAGE;
  show();
  if (!state.many) find("single").focus({ preventScroll: true });
}
function move(step) {
  state.at = Math.min(Math.max(state.at + step, 0), state.questions.length - 1);
  state.start = Math.floor(state.at / PAGE) * PAGE;
  show();
}
function turn(step) {
  const start = state.start + step * PAGE;
  if (start >= 0 && start < state.questions.length) { state.start = state.at = start; state.selected.clear(); show(); }
}
function columns() { return getComputedStyle(find("grid")).gridTemplateColumns.split(" ").length; }

function send(what, body) {
  state.waiting.push([what, body]);
  flush();
}
async function flush() {
  if (state.sending) return;
  state.sending = true;
  while (state.waiting.length) {
    const [what, body] = state.waiting[0];
    let reply = null, got = {};
    const saved = find("saved");
    try {
      reply = await fetch(base + what, { method: "POST", body: JSON.stringify({ ...body, since: state.since }),
        headers: { "Content-Type": "application/json", "X-Review-Token": token } });
      got = await reply.json();
    } catch { reply = null; }
    if (reply?.ok) {
      state.waiting.shift();
      take(got.news, new Set(state.waiting.flatMap(([, each]) => each.images)));
      saved.textContent = state.waiting.length ? "saving" : "saved";
      saved.classList.remove("bad");
    } else if (reply && reply.status < 500) {
      state.waiting.shift();
      for (const id of body.images) if (what === "answer") state.byId.get(id).answer = null;
      say(`not saved: ${got.error}`, true);
      show();
    } else {
      saved.textContent = `${state.waiting.length} not saved`;
      saved.classList.add("bad");
      say(got.error ? `not saved yet: ${got.error}` : "not saved yet: the server does not answer; it is tried again", true);
      await new Promise((go) => setTimeout(go, 1500));
    }
  }
  state.sending = false;
}
function take(news, spared = new Set()) {
  let changed = false;
  for (const each of news) {
    state.since = Math.max(state.since, each.number);
    const question = state.byId.get(each.image_id);
    if (!question || spared.has(each.image_id) || question.answer === each.label) continue;
    Object.assign(question, { answer: each.label, by: each.who });
    changed = true;
  }
  if (changed) show();
}
async function look() {
  if (!state.sending && state.count) {
    try {
      const reply = await fetch(`${base}news?since=${state.since}`);
      const news = reply.ok ? (await reply.json()).news : [];
      if (!state.sending) take(news);
    } catch { /* the next answer says that the server is gone */ }
  }
  setTimeout(look, 3000);
}

const DO = { accept, undo, skip, none: () => answer(state.none), view: () => { state.many = !state.many; state.selected.clear();
  state.start = Math.floor(state.at / PAGE) * PAGE; show(); if (!state.many) find("single").focus(); }, back: () => turn(-1), on: () => turn(1),
  all: () => { for (const each of state.questions.slice(state.start, state.start + PAGE)) if (open(each)) state.selected.add(each.image_id); show(); } };
const KEYS = { Enter: "accept", u: "undo", s: "skip", n: "none", g: "view", ",": "back", ".": "on", a: "all" };
document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  button.blur();
  if (button.dataset.label !== undefined) answer(button.dataset.label);
  else DO[button.dataset.do]();
});
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || !state.questions.length) return;
  const target = event.target, key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (target === find("search")) {
    const first = [...find("classes").children].find((each) => !each.hidden);
    if (key === "Enter" && first) { find("search").value = ""; filter(); find("search").blur(); answer(first.dataset.label); }
    if (key === "Escape") { find("search").value = ""; filter(); find("search").blur(); }
    return;
  }
  if (target === find("who")) { if (key === "Enter") target.blur(); return; }
  if (target.closest("button") && (key === "Enter" || key === " ")) return;
  const arrow = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: state.many ? -columns() : 0, ArrowDown: state.many ? columns() : 0 }[key];
  const index = state.keys.indexOf(key);
  if (event.repeat && !arrow) return;  // a key that is held down answers once
  if (arrow) move(arrow);
  else if (key === " " && state.many) toggle();
  else if (key === "/") find("search").focus();
  else if (KEYS[key] && (key !== "a" || state.many)) DO[KEYS[key]]();
  else if (index >= 0) answer(state.classes[index]);
  else return;
  event.preventDefault();
});
function filter() {
  const wanted = find("search").value.toLowerCase();
  for (const button of find("classes").children) button.hidden = !button.dataset.label.toLowerCase().includes(wanted);
}
find("search").addEventListener("input", filter);
find("who").addEventListener("change", () => sessionStorage.setItem("who", find("who").value));
window.addEventListener("beforeunload", (event) => { if (state.waiting.length) event.preventDefault(); });
load().then(() => { state.at = Math.max(state.questions.findIndex(open), 0); show(); find("single").focus({ preventScroll: true }); look(); });
