// A stand-in for a browser: just enough of a document for page.js, and a server whose replies are scripted.
"use strict";
const fs = require("node:fs");
const [page, scenario] = process.argv.slice(2);
const element = () => ({ dataset: {}, classList: { toggle() {}, remove() {}, add() {} }, children: [], value: "anna", append(...more) {
  this.children.push(...more); }, replaceChildren(...all) { this.children = all; }, setAttribute() {}, addEventListener() {}, focus() {}, blur() {} });
const elements = {}, asked = [], sent = [];
const all = (from, to) => Array.from({ length: to - from }, (_, index) => ({ image_id: `i${from + index}`, path: "", why: "", labels: [],
  answers: [["cat", 0.9]], shown: "cat", neighbours: [], twin: null, answer: null }));
const wait = (ms) => new Promise((go) => setTimeout(go, ms));
let reply = async () => { throw new Error("down"); };  // to the second chunk of the queue
Object.assign(globalThis, { location: { pathname: "/token/" }, window: element(), Image: class {}, getComputedStyle: () => ({}),
  sessionStorage: { getItem: () => null, setItem() {} },
  document: { getElementById: (id) => (elements[id] ??= element()), createElement: element, querySelector: element, addEventListener() {} } });
globalThis.fetch = async (url, options) => {
  asked.push(url);
  if (options?.method === "POST") sent.push([url.split("/").pop(), JSON.parse(options.body)]);
  if (url.endsWith("queue?from=200")) return { ok: true, json: await reply() };
  const queue = { classes: ["cat", "dog"], none: "none", who: "anna", count: 300, since: 0, questions: all(0, 200) };
  return { ok: true, json: async () => (url.includes("queue") ? queue : { news: [] }) };
};
const chunk = async () => ({ count: 300, questions: all(200, 300) });
const scenarios = {
  async slow(of) {  // the next chunk is under way when all loaded images are answered
    reply = () => wait(100).then(() => chunk);
    of.load();
    of.forward();
    await wait(400);
    return [of.state.questions.length, of.state.at, asked.filter((url) => url.endsWith("from=200")).length];
  },
  async down(of) {
    const before = asked.length;
    of.forward();
    await wait(200);
    const tries = asked.length - before;
    reply = async () => chunk;  // it is back
    of.forward();
    await wait(50);
    return [tries, of.state.at];
  },
  async renamed(of) {
    of.state.at = 0;
    of.answer("dog");
    elements.who.value = "ben";
    await wait(20);
    of.undo();
    await wait(20);
    return sent.map(([what, body]) => [what, body.who, body.label]);
  },
};
const source = fs.readFileSync(page, "utf8").replace('"use strict";', "");
const of = new Function(`${source}; return { state, load, forward, answer, undo };`)();
setTimeout(async () => {
  if (scenario !== "renamed") for (const each of of.state.questions) each.answer = "cat";
  of.state.at = 199;
  process.stdout.write(JSON.stringify(await scenarios[scenario](of)), () => process.exit(0));
}, 20);
