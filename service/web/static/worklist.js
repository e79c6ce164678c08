// The list, live. A row never moves while somebody reads: changes are announced, and the list is read again by
// the key r, or by itself when nothing in it has focus, nothing is selected and nobody has scrolled. It says
// "Live" only while the server says every few seconds that it is there and can read its database.
"use strict";

const GATHER_MS = 400; // changes come in bursts
const LEAST_MS = 2000; // between two readings of the list by itself
const STILL_MS = 4000; // a pointer that moved over the list since then may be about to press
const NEAR_TOP_PX = 8;
const LOST_MS = 4000;
const LOST = "Connection lost, trying again";
const WATCH_MS = 1000;
const ANSWER_MS = 20_000; // a request that takes longer has failed
const CONFLICT = 409;
const UNKNOWN = 401; // nobody is signed in
const MOST_ROWS = 50; // asked for at once, to be changed in place

const one = (selector) => document.querySelector(selector);
const list = () => one("#list");
const told = { fresh: new Set(), changed: new Set(), stale: false };
let timer = null;
let losing = null;
let readAt = performance.now();
let askedAt = readAt; // a quiet list is read now and then all the same
let heardAt = readAt;
let source = null; // of the notices
let pointedAt = -STILL_MS;
let turn = 0; // part of a long page that is asked for next, where it is not read whole
let reading = null; // key of the study that had focus when the list was asked for

function rowOf(key) {
  return document.getElementById(`row-${key}`);
}

function isAtRest() {
  return (
    !list().contains(document.activeElement) &&
    scrollY <= NEAR_TOP_PX &&
    getSelection().isCollapsed &&
    !one("dialog[open]") &&
    !document.hidden &&
    performance.now() - pointedAt > STILL_MS
  );
}

// Telling

function count(number, what) {
  return `${number} ${what}${number === 1 ? " study" : " studies"}`;
}

function announce() {
  const parts = [];
  if (told.fresh.size) parts.push(count(told.fresh.size, "new"));
  if (told.changed.size) parts.push(count(told.changed.size, "changed"));
  if (told.stale) parts.push("much has changed");
  const text = parts.length ? `${parts.join(", ")}, press r` : "";
  const news = one("#news");
  if (news.textContent !== text) news.textContent = text;
  one("#news-reload").hidden = !text;
}

function connection(state, words) {
  const place = one("#connection");
  place.className = state;
  const say = place.querySelector(".say");
  if (say.textContent !== words) say.textContent = words;
}

// Reading

function reload() {
  reading = list().contains(document.activeElement)
    ? document.activeElement.closest("tr")?.dataset.key
    : null;
  clearTimeout(timer);
  timer = null;
  htmx.trigger("#reload", "reload");
}

function updateInPlace(keys) {
  const query = new URLSearchParams(keys.map((key) => ["key", key]));
  htmx.ajax("GET", `/rows?${query}`, { target: "#events", swap: "none" });
}

// Time alone changes a list too: who waits too long, whether workers answer.
function readQuietly() {
  if (isAtRest()) {
    reload();
    return;
  }
  htmx.ajax("GET", one("#reload").href, { target: "#pulse", select: "#pulse", swap: "outerHTML" });
  const keys = [...list().querySelectorAll("tr[data-key]")].map((row) => row.dataset.key);
  const begin = turn * MOST_ROWS < keys.length ? turn * MOST_ROWS : 0; // on a long page part by part
  turn = begin / MOST_ROWS + 1;
  if (keys.length) updateInPlace(keys.slice(begin, begin + MOST_ROWS));
}

function look() {
  timer = null;
  if (!told.fresh.size && !told.changed.size && !told.stale) return;
  const wait = LEAST_MS - (performance.now() - readAt);
  if (isAtRest()) {
    if (wait > 0) timer = setTimeout(look, wait);
    else reload();
    return;
  }
  announce();
  const here = [...told.changed].filter(rowOf).slice(-MOST_ROWS); // those that changed last
  if (here.length) updateInPlace(here);
}

function soon() {
  timer ??= setTimeout(look, GATHER_MS);
}

// Moving

function links() {
  return [...list().querySelectorAll("a.study")];
}

function current() {
  return list().contains(document.activeElement) ? document.activeElement.closest("tr") : null;
}

function move(step) {
  const all = links();
  const at = all.findIndex((link) => link.closest("tr") === current());
  const next = all[at < 0 ? (step > 0 ? 0 : all.length - 1) : at + step];
  next?.focus();
  next?.closest("tr").scrollIntoView({ block: "nearest" });
}

const KEYS = {
  j: () => move(1),
  ArrowDown: () => move(1),
  k: () => move(-1),
  ArrowUp: () => move(-1),
  o: () => current()?.querySelector("a.study").click(),
  s: () => current()?.querySelector('form[data-action="seen"]')?.requestSubmit(),
  r: reload,
  "/": () => one("#filter-text").focus(),
  "?": () => one("#keys").showModal(),
};

function areKeysOn() {
  return stored("vigil-keys", "on") === "on";
}

function pressed(event) {
  const typing = event.target.closest("input, select, textarea, dialog[open]");
  if (event.key === "Escape" && event.target.id === "filter-text") event.target.blur();
  if (typing || event.ctrlKey || event.metaKey || event.altKey || !areKeysOn()) return;
  const act = KEYS[event.key];
  if (!act) return;
  event.preventDefault();
  act();
}

// What htmx and the server say

htmx.config.timeout = ANSWER_MS;
const createSource = htmx.createEventSource;
htmx.createEventSource = (address) => {
  source = createSource(address);
  return source;
};

function heard(state, words) {
  clearTimeout(losing);
  losing = null;
  heardAt = performance.now();
  connection(state, words);
}

// A path that swallows everything ends no connection: only the silence tells.
function watch() {
  const { silentS, rereadS } = one("#events").dataset;
  const now = performance.now();
  if (now - heardAt > silentS * 1000) {
    heardAt = now;
    connection("lost", LOST);
    source?.close();
    source?.onerror(new Event("error")); // the extension opens another one
  }
  if (now - Math.max(readAt, askedAt) > rereadS * 1000) {
    askedAt = now;
    readQuietly();
  }
}

// The server ends a stream now and then to ask anew who it is for, and resumes it: that is no loss.
addEventListener("htmx:sseOpen", () => heard("live", "Live"));

addEventListener("htmx:sseError", () => {
  losing ??= setTimeout(() => connection("lost", LOST), LOST_MS);
});

addEventListener("htmx:sseBeforeMessage", (event) => {
  event.preventDefault(); // it carries a notice, not a piece of the page
  const { type, data, lastEventId } = event.detail;
  if (lastEventId) one("#events").setAttribute("sse-connect", `/api/v1/events?since=${lastEventId}`);
  let notice;
  try {
    notice = JSON.parse(data);
  } catch {
    return;
  }
  if (type === "stale") {
    const since = clock(new Date(Date.now() - notice.for_s * 1000));
    heard("lost", `The database does not answer: the list may be old, since ${since}`);
    return;
  }
  heard("live", "Live");
  if (type === "here") return;
  if (type === "reload") {
    told.stale = true; // too much was missed to tell it one by one
    soon();
    return;
  }
  const isNew = !rowOf(notice.key) && list().dataset.whole === "yes"; // else it may be of another page
  const among = isNew ? told.fresh : told.changed;
  among.delete(notice.key); // the last one stands last
  among.add(notice.key);
  soon();
});

addEventListener("htmx:beforeSwap", (event) => {
  if (event.detail.xhr.status === CONFLICT && event.detail.target.id.startsWith("row-")) {
    event.detail.shouldSwap = true; // what the row shows did not count any more: this is what it says now
    event.detail.isError = false;
    one("#news").textContent = "It was scored again meanwhile: nothing was marked. Its row says what counts now.";
  }
  if (event.detail.target.id !== "list" || event.detail.xhr.responseText.includes('id="list"')) return;
  event.detail.shouldSwap = false; // signed out, or an error: the page says which
  if (event.detail.xhr.status < 500) location.reload();
});

addEventListener("htmx:afterSwap", (event) => {
  const id = event.detail.target.id;
  if (id === "list") {
    readAt = performance.now();
    told.fresh.clear();
    told.changed.clear();
    told.stale = false;
    announce();
    if (reading) document.getElementById(`study-${reading}`)?.focus();
    reading = null;
  } else if (id.startsWith("row-") && document.activeElement === document.body) {
    document.getElementById(id.replace("row-", "study-"))?.focus();
  }
});

function failed(event) {
  const isReading = event.detail.requestConfig?.verb === "get";
  const isSignedOut = event.detail.xhr?.status === UNKNOWN;
  const isAnswered = event.type === "htmx:responseError";
  if (isSignedOut) one("#news-reload").hidden = false; // it leads to the form, and back to this list
  if (isSignedOut) one("#news").textContent = "Your session has ended, nothing was changed. Press r to sign in.";
  else if (isReading)
    one("#news").textContent =
      `The list could not be read again; this is how it was: ${one("#read-at").textContent}.`;
  else
    one("#news").textContent = isAnswered
      ? "That did not work. Nothing was changed."
      : "The server did not answer. It may have been done all the same: press r to see.";
}

addEventListener("htmx:responseError", failed);
addEventListener("htmx:sendError", failed);
addEventListener("htmx:timeout", failed);

addEventListener("pointermove", (event) => {
  if (list()?.contains(event.target)) pointedAt = performance.now();
});
addEventListener("visibilitychange", soon);
addEventListener("scrollend", soon);
addEventListener("focusout", soon);

// A picture that is kept elsewhere or lost leaves its place empty.
addEventListener(
  "error",
  (event) => {
    if (event.target instanceof HTMLImageElement) event.target.hidden = true;
  },
  true,
);

// The study page walks to the next and the previous study of this list.
function remember() {
  try {
    sessionStorage.setItem("vigil-list", location.search);
  } catch {
    // It walks through the whole list then.
  }
}

addEventListener("DOMContentLoaded", () => {
  remember();
  if (one("#events")) setInterval(watch, WATCH_MS);
  document.addEventListener("keydown", pressed);
  const show = one("#show-keys");
  show.hidden = false;
  show.addEventListener("click", () => one("#keys").showModal());
  const toggle = one("#keys-on");
  toggle.checked = areKeysOn();
  toggle.addEventListener("change", () => store("vigil-keys", toggle.checked ? "on" : "off"));
  one("#news-reload").addEventListener("click", reload);
});
