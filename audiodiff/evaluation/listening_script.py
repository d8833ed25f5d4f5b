"""Hold the script and the style of the listening page: plain JavaScript and CSS, nothing from elsewhere.

The script knows trials and stimuli by opaque ids. It draws each listener's order from his name, plays, keeps what was
answered across a reload where the browser has a store, and hands the results over as JSON.
"""

SCRIPT = r"""
"use strict";
const test = JSON.parse(document.getElementById("test").textContent);
const STORE = "listening test " + test.plan;
const FADE_S = 0.005;  // switching inside a sound would click without it
const WHOLE = 0.95;    // the share of its length after which a sound counts as heard
const byId = id => document.getElementById(id);
const now = () => new Date().toISOString();

// --- order: FNV-1a of a text seeds mulberry32, the same numbers in every browser

function drawer(text) {
  let seed = 2166136261;
  for (const byte of new TextEncoder().encode(text)) seed = Math.imul(seed ^ byte, 16777619);
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

function shuffled(list, draw) {
  const result = [...list];
  for (let i = result.length - 1; i > 0; i--) {
    const j = Math.floor(draw() * (i + 1));
    [result[i], result[j]] = [result[j], result[i]];
  }
  return result;
}

function begin(listener) {
  const draw = drawer(test.plan + " " + listener);
  const trials = shuffled(test.trials, draw);
  const nought = ids => Object.fromEntries(ids.map(id => [id, 0]));
  const answers = trials.map(trial => {
    const all = trial.reference ? [trial.reference, ...trial.stimuli] : trial.stimuli;
    return {
      trial: trial.id, order: shuffled(trial.stimuli, draw), ratings: {}, times: {},
      plays: nought(all), seconds: nought(all), began: null, answered: null,
    };
  });
  return {
    format: test.format, plan: test.plan, kind: test.kind, listener, began: now(), ended: null,
    order: trials.map(trial => trial.id), answers,
  };
}

// --- the store, which a browser may lack or refuse

let state = null;

function save() {
  try { localStorage.setItem(STORE, JSON.stringify(state)); return true; } catch { return false; }
}

function saved() {
  try { return JSON.parse(localStorage.getItem(STORE)); } catch { return null; }
}

// --- sound: one source at a time

let context = null, playing = null, current = null, position = 0;
const buffers = new Map();

async function decode(ids) {
  context ??= new AudioContext();
  for (const id of ids) {
    const bytes = Uint8Array.from(atob(test.sounds[id]), character => character.charCodeAt(0));
    if (!buffers.has(id)) buffers.set(id, await context.decodeAudioData(bytes.buffer));
  }
}

function elapsed() {
  if (!playing) return 0;
  const seconds = context.currentTime - playing.since;
  return playing.source.loop ? seconds : Math.min(seconds, playing.source.buffer.duration - playing.from);
}

function play(id, loop) {
  pause();
  context.resume();  // browsers let no page sound before a key or a click
  const buffer = buffers.get(id);
  // Another stimulus goes on at the same place in a test that compares them so; elsewhere only the same one does.
  if (!(test.seamless || id === current) || position > buffer.duration - 0.01) position = 0;
  const source = new AudioBufferSourceNode(context, { buffer, loop });
  const gain = new GainNode(context);
  source.connect(gain).connect(context.destination);
  if (position) {
    gain.gain.setValueAtTime(0, context.currentTime);
    gain.gain.linearRampToValueAtTime(1, context.currentTime + FADE_S);
  }
  source.onended = () => { if (playing?.source === source) { pause(); position = 0; update(); } };
  source.start(0, position);
  current = id;
  playing = { id, source, gain, since: context.currentTime, from: position };
  if (answer) answer.plays[id] += 1;
}

function pause() {
  if (!playing) return;
  const { id, source, gain, from } = playing, seconds = elapsed(), end = context.currentTime + FADE_S;
  if (answer) answer.seconds[id] += seconds;
  position = (from + seconds) % source.buffer.duration;
  playing = null;
  gain.gain.setValueAtTime(1, context.currentTime);
  gain.gain.linearRampToValueAtTime(0, end);
  source.stop(end);
}

// --- a trial

let answer = null;   // the entry of state.answers that is being filled
let buttons = [];    // {id, letter, name, button}
let inputs = [];     // what rates: radio buttons, or one slider for each stimulus

const secondsHeard = id => answer.seconds[id] + (playing?.id === id ? elapsed() : 0);
const heard = id => secondsHeard(id) >= WHOLE * buffers.get(id).duration;
const locked = () => !buttons.every(({ id }) => heard(id));
const rated = () => answer.order.every(id => id in answer.ratings);

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

function toggle(id) {
  if (playing?.id === id) pause(); else play(id, test.seamless);
  save();
  update();
}

function rate(ratings) {
  Object.assign(answer.ratings, ratings);
  for (const id in ratings) answer.times[id] = now();
  save();
  update();
}

function playButton(id, name, letter) {
  const button = make("button", { type: "button", className: "play", onclick: () => toggle(id) });
  buttons.push({ id, letter, name, button });
  return button;
}

function slider(id, name) {
  const input = make("input", { type: "range", min: 0, max: 100, step: 1, value: answer.ratings[id] ?? 50 });
  const output = make("output", {}, "–");
  const show = () => {
    output.value = id in answer.ratings ? answer.ratings[id] : "–";
    const word = test.labels[Math.min(4, Math.floor(input.value / 20))];
    input.ariaValueText = id in answer.ratings ? `${input.value}, ${word}` : "not rated yet";
  };
  input.ariaLabel = `Rating of ${name}`;
  // A click that leaves the slider where it was is an answer as well.
  input.oninput = input.onclick = () => { rate({ [id]: Number(input.value) }); show(); };
  show();
  inputs.push(input);
  return [input, output];
}

function choice({ key, label, ratings }) {
  const given = Object.fromEntries(answer.order.map((id, i) => [id, ratings[i]]));
  const input = make("input", { type: "radio", name: "answer", onchange: () => rate(given) });
  input.checked = rated() && answer.order.every(id => answer.ratings[id] === given[id]);
  input.dataset.key = key;
  inputs.push(input);
  return make("label", {}, input, make("kbd", { ariaHidden: "true" }, key), " " + label);
}

async function show() {
  const at = state.answers.findIndex(one => !one.answered);
  for (const id of ["start", "trial", "end"]) byId(id).hidden = true;
  answer = null;
  if (at < 0) return finish();
  const trial = test.trials.find(one => one.id === state.answers[at].trial);
  const all = trial.reference ? [trial.reference, ...trial.stimuli] : trial.stimuli;
  buffers.clear();
  await decode(all);
  answer = state.answers[at];
  answer.began ??= now();
  [buttons, inputs, current, position] = [[], [], null, 0];
  byId("heading").textContent = `Trial ${at + 1} of ${state.answers.length}`;
  byId("progress").max = state.answers.length;
  byId("progress").value = at;
  const rows = answer.order.map((id, i) => {
    const letter = String.fromCharCode(65 + i), name = answer.order.length > 1 ? letter : "the sound";
    const rating = test.choices.length ? [] : slider(id, letter);
    return make("div", { className: "row" }, playButton(id, name, letter), ...rating);
  });
  if (trial.reference) {
    const row = make("div", { className: "row" }, playButton(trial.reference, test.open, test.open[0]));
    if (test.open === "X") rows.push(row); else rows.unshift(row);
  }
  if (!test.choices.length) rows.splice(1, 0, make("div", { className: "scale", ariaHidden: "true" },
    ...test.labels.map(label => make("span", {}, label))));
  byId("stimuli").replaceChildren(...rows);
  byId("answers").replaceChildren(...test.choices.map(choice));
  byId("trial").hidden = false;
  byId("heading").focus();
  scrollTo(0, 0);
  update();
}

function write(element, text) {
  if (element.textContent !== text) element.textContent = text;  // else a screen reader reads it again
}

function update() {
  if (!answer) return;
  const done = buttons.filter(({ id }) => heard(id)).length, closed = locked();
  for (const { id, name, letter, button } of buttons) {
    const on = playing?.id === id;
    write(button, `${on ? "❚❚" : "▶"} ${name === "the sound" ? "Play" : name}${heard(id) ? " ✓" : ""}`);
    button.ariaLabel = `${on ? "Pause" : "Play"} ${name}, key ${letter}${heard(id) ? ", heard" : ""}`;
    button.classList.toggle("current", id === current);
  }
  for (const input of inputs) input.disabled = closed;
  byId("next").disabled = closed || !rated();
  write(byId("status"), closed ? `Listen first: ${done} of ${buttons.length} sounds heard in full.`
    : rated() ? "Press Next, or the Enter key, to go on." : test.ask);
  const at = playing ? (playing.from + elapsed()) % playing.source.buffer.duration : position;
  byId("position").value = current ? at / buffers.get(current).duration : 0;
}

function next() {
  pause();
  answer.answered = now();
  if (state.answers.every(one => one.answered)) state.ended = now();
  save();
  show();
}

// --- before and after

function finish() {
  buffers.clear();
  const text = JSON.stringify(state, null, 1);
  const name = `${state.listener.replace(/[^\p{L}\p{N}_-]/gu, "_")}_${test.plan}.json`;
  byId("results").value = text;
  byId("save").href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  byId("save").download = name;
  byId("end").hidden = false;
  byId("thanks").focus();
}

async function enter(given) {
  pause();
  state = given;
  byId("volume").textContent = "▶ Play the sample";
  byId("unsaved").hidden = save();
  await show();
}

byId("volume").onclick = async () => {
  const { stimuli, reference } = test.trials[0], id = reference || stimuli[0];
  await decode([id]);
  if (playing) pause(); else play(id, true);
  byId("volume").textContent = playing ? "❚❚ Pause the sample" : "▶ Play the sample";
};
byId("form").onsubmit = event => { event.preventDefault(); enter(begin(byId("listener").value.trim())); };
byId("listener").oninput = event => {
  event.target.setCustomValidity(event.target.value.trim() ? "" : "Type a name or a number.");
};
byId("next").onclick = next;
byId("results").onfocus = event => event.target.select();
byId("resume").onclick = () => enter(saved());
for (const button of document.querySelectorAll(".anew")) button.onclick = () => {
  if (!confirm("The answers that this browser keeps are dropped. Begin anew?")) return;
  try { localStorage.removeItem(STORE); } catch { /* there is none */ }
  location.reload();
};

document.addEventListener("keydown", event => {
  if (!answer || event.ctrlKey || event.metaKey || event.altKey) return;
  const { target } = event, key = event.key.toUpperCase();
  const named = buttons.find(({ letter }) => letter === key);
  const mine = inputs[answer.order.indexOf(current)];
  if (key === "ENTER") {
    if (byId("next").disabled || target === byId("next")) return;
    byId("next").click();
  } else if (key === " ") {
    // A focused button, or a radio button to be chosen, has a use for the space key itself.
    if (target.matches("button, [type=radio]:not(:checked)")) return;
    toggle(current ?? buttons[0].id);
  } else if (named) {
    if (!event.repeat) toggle(named.id);
  } else if (/^[0-9]$/.test(key) && !locked()) {
    if (test.choices.length) inputs.find(input => input.dataset.key === key)?.click();
    else if (mine) { mine.value = 10 * key; mine.focus(); mine.oninput(); }
  } else if (key.startsWith("ARROW") && mine && !test.choices.length && !target.matches("[type=range]") && !locked()) {
    mine.focus();
    if (key === "ARROWUP" || key === "ARROWRIGHT") mine.stepUp(); else mine.stepDown();
    mine.oninput();
  } else return;
  event.preventDefault();
});
addEventListener("pagehide", () => { if (answer) { pause(); save(); } });
setInterval(() => { if (playing) update(); }, 50);

const before = saved();
if (before) {
  byId("welcome").textContent = before.ended ? `The answers of ${before.listener} are still here.`
    : `${before.listener} has answered ${before.answers.filter(one => one.answered).length} of ${before.order.length}.`;
}
byId("again").hidden = !before;
byId("first").hidden = Boolean(before);
byId("start").hidden = false;
"""

STYLE = """
main { max-width: 46rem; }
[hidden] { display: none !important; }
#heading, #thanks { border: 0; outline: none; padding: 0; }
h1 { font-size: clamp(1.5rem, 4vw, 2rem); }
section h2 { margin-top: 1.5rem; }
button, .button {
  font: inherit; color: var(--ink); background: var(--card); border: 1px solid var(--soft); border-radius: .5rem;
  min-height: 2.9rem; padding: .4rem 1rem; cursor: pointer;
}
.button { display: inline-block; line-height: 2.1rem; text-decoration: none; }
button.main, .button.main { background: var(--accent); border-color: var(--accent); color: var(--paper); }
button:disabled { opacity: .45; cursor: default; }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
.play { text-align: left; white-space: nowrap; }
.play:only-child { grid-column: 1 / -1; justify-self: start; min-width: 9rem; }
.play.current { border-color: var(--accent); box-shadow: inset 0 0 0 1px var(--accent); }
.row, .scale { display: grid; grid-template-columns: 9rem 1fr 2.2rem; gap: .3rem 1rem; align-items: center; }
.row { margin-bottom: .6rem; }
.row output { text-align: right; font-variant-numeric: tabular-nums; }
.scale { color: var(--soft); font-size: .75rem; grid-template-columns: 9rem repeat(5, 1fr) 2.2rem; column-gap: 0; }
.scale span { text-align: center; }
.scale span:first-child { grid-column: 2; }
input[type=range] { width: 100%; min-height: 2.9rem; margin: 0; accent-color: var(--accent); }
#answers { border: 0; margin: 1rem 0; padding: 0; display: grid; gap: .5rem; max-width: 24rem; }
#answers label {
  display: flex; align-items: center; gap: .6rem; min-height: 2.9rem; padding: .3rem .9rem;
  background: var(--card); border: 1px solid var(--rule); border-radius: .5rem; cursor: pointer;
}
#answers label:has(:checked) { border-color: var(--accent); box-shadow: inset 0 0 0 1px var(--accent); }
#answers label:has(:disabled) { opacity: .55; cursor: default; }
#answers:empty { display: none; }
kbd { font: .85rem ui-monospace, monospace; border: 1px solid var(--rule); border-radius: .25rem; padding: 0 .35rem; }
progress { appearance: none; border: 0; background: var(--rule); width: 100%; height: .4rem; display: block; }
progress::-webkit-progress-bar { background: var(--rule); }
progress::-webkit-progress-value { background: var(--accent); }
progress::-moz-progress-bar { background: var(--accent); }
#position { height: .2rem; margin: 1rem 0; }
#status { min-height: 1.6em; color: var(--soft); }
.field { display: block; margin: 1rem 0; }
.field input[type=text], textarea {
  font: inherit; display: block; width: 100%; max-width: 24rem; min-height: 2.9rem; padding: .4rem .7rem;
  color: inherit; background: var(--card); border: 1px solid var(--soft); border-radius: .5rem;
}
textarea { max-width: none; height: 12rem; font: .8rem/1.4 ui-monospace, monospace; margin: 1rem 0; }
li { margin-bottom: .3rem; max-width: 42rem; }
ul { padding-left: 1.3rem; }
@media (max-width: 34rem) {
  .row, .scale { grid-template-columns: 5.6rem 1fr 1.8rem; column-gap: .6rem; }
  .scale { grid-template-columns: 6.2rem repeat(5, 1fr) 2.4rem; column-gap: 0; font-size: .62rem; }
  .play { padding: .4rem .6rem; }
  #trial > .main { width: 100%; }
}
"""
