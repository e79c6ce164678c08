// The study page: feedback and seen by one key, next and previous study, and the slices of the pictures.
// Everything it does goes by the API, as any other client's requests do. The viewer is volume.js.

const page = document.querySelector("#study");
const { key, caller, csrf, revision, score } = page.dataset;
const one = (selector) => page.querySelector(selector);
const all = (selector) => [...page.querySelectorAll(selector)];
const PAGE = 200; // rows of the list asked for at once
const MOST_PAGES = 10; // of the list looked through for a neighbour
const here = { slice: Number(one("#volume")?.dataset.frame ?? shownFrame()), isLive: false };
let mine = null; // feedback of this caller on this score, as the server has it
let others = []; // of the other readers

// Asking the server

function unique() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function ask(path, method = "GET", { body, match, isOnce = method === "POST" } = {}) {
  const headers = { Accept: "application/json" };
  if (csrf && method !== "GET") headers["X-CSRF-Token"] = csrf;
  if (isOnce) headers["Idempotency-Key"] = unique();
  if (match !== undefined) headers["If-Match"] = `"${match}"`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const answer = await fetch(path, { method, headers, body: body && JSON.stringify(body) });
  if (answer.status === 401) location.reload(); // signed out meanwhile: the form comes, and then this page again
  const said = await answer.json();
  if (CHANGED.has(said.type)) showAnew();
  if (!answer.ok) throw new Error(`${said.detail ?? "That did not work."} ${said.remedy ?? ""}`);
  return said;
}

// What the server answers where the page shows what does not count any more: nothing was stored, and the page
// is read again. It says so afterwards.
const CHANGED = new Set(["urn:vigil:problem:score-changed", "urn:vigil:problem:revision-changed"]);
const AGAIN = "vigil-changed";

function showAnew() {
  try {
    sessionStorage.setItem(AGAIN, key);
  } catch {
    // It is read again without a word then.
  }
  location.reload();
}

function isShownAnew() {
  try {
    const isAgain = sessionStorage.getItem(AGAIN) === key;
    if (isAgain) sessionStorage.removeItem(AGAIN);
    return isAgain;
  } catch {
    return false;
  }
}

function tell(text, isBad = false) {
  const place = one("#answer");
  place.textContent = text;
  place.classList.toggle("bad", isBad);
}

// One change at a time: a key that is held down is one wish.
let isBusy = false;

async function act(doing) {
  if (isBusy) return;
  isBusy = true;
  try {
    await doing();
  } catch (error) {
    tell(error instanceof TypeError ? "The server did not answer. It may have been done all the same: read the page again." : error.message, true);
  } finally {
    isBusy = false;
  }
}

const looked = () => ({ revision: revision ? Number(revision) : null, score });
const address = (what) => `/api/v1/studies/${key}/${what}`;

// Feedback

const FINDING = "confirmed_finding";
const MINUTES = { hour: "2-digit", minute: "2-digit" };
const verdicts = all("[data-verdict]");
const grades = all("[data-conspicuity]");

function labelOf(verdict) {
  const button = verdicts.find((one) => one.dataset.verdict === verdict);
  return button ? button.lastChild.textContent.trim().toLowerCase() : verdict;
}

function saying(given) {
  return given.conspicuity ? `${labelOf(given.verdict)}, C${given.conspicuity}` : labelOf(given.verdict);
}

function showFeedback() {
  for (const button of verdicts) {
    button.setAttribute("aria-pressed", String(button.dataset.verdict === mine?.verdict));
  }
  if (verdicts.length) one("#grades").hidden = mine?.verdict !== FINDING;
  for (const button of grades) {
    button.setAttribute("aria-pressed", String(Number(button.dataset.conspicuity) === mine?.conspicuity));
  }
  const said = others.map((one) => `${one.by}: ${saying(one)}.`).join(" ");
  one("#given").textContent = mine
    ? `You said at ${clock(mine.at, MINUTES)}: ${saying(mine)}. Another number corrects it. ${said}`
    : `No feedback from you yet. ${said}`;
}

async function readFeedback() {
  const given = await ask(address("feedback"));
  const current = given.filter((one) => one.is_current);
  mine ??= current.find((one) => one.by === caller) ?? null; // a key may have been quicker than this answer
  others = current.filter((one) => one.by !== caller);
  showFeedback();
}

async function judge(verdict, conspicuity = null) {
  if (mine?.verdict === verdict && (conspicuity === null || mine.conspicuity === conspicuity)) {
    tell(`You said that already: ${saying(mine)}.`);
    return;
  }
  const isCorrection = mine !== null;
  mine = isCorrection
    ? await ask(address(`feedback/${mine.number}`), "PUT", { body: { verdict, conspicuity }, match: mine.version })
    : await ask(address("feedback"), "POST", { body: { verdict, conspicuity, ...looked() } });
  showFeedback();
  tell(`${isCorrection ? "Corrected to" : "Stored"}: ${saying(mine)}.`);
  readFeedback().catch(() => {}); // another reader may have said otherwise meanwhile; the next key need not wait
}

async function grade(conspicuity) {
  if (mine?.verdict === FINDING) await judge(FINDING, conspicuity);
  else tell("Only a confirmed finding is graded: press 1 before.");
}

// Seen, reveal, resend

const seen = one("#seen");

async function toggleSeen() {
  const wasSeen = seen.getAttribute("aria-pressed") === "true";
  const now = await (wasSeen ? ask(address("seen"), "DELETE") : ask(address("seen"), "POST", { body: looked() }));
  seen.setAttribute("aria-pressed", String(now.seen_at !== null));
  tell(now.seen_at === null ? "No longer marked as seen." : `Seen by ${now.seen_by}.`);
}

async function reveal() {
  const told = await ask(address("reveal"), "POST", { isOnce: false });
  const parts = [
    told.label || "no name",
    told.age_years === null ? "" : `${told.age_years} y`,
    told.sex,
    told.birth_date && `born ${told.birth_date}`,
    told.patient_id && `ID ${told.patient_id}`,
    told.accession_number && `accession ${told.accession_number}`,
  ];
  one("#who").textContent = parts.filter(Boolean).join(", ");
  one("#reveal").remove();
  tell("Revealed. It is on record who looked.");
}

async function resend() {
  const changed = await ask(address("resend"), "POST", { body: { destination: null } });
  tell(
    changed.deliveries
      ? `Sent again: ${changed.deliveries}. Read the page again to see how far they are.`
      : "Nothing is sent again: nothing was sent, or it is on its way.",
  );
}

// Neighbours in the list, as it was filtered when this study was opened from it

function listQuery() {
  try {
    return new URLSearchParams(sessionStorage.getItem("vigil-list") ?? "");
  } catch {
    return new URLSearchParams(); // storage may be switched off
  }
}

async function neighbour(step) {
  const query = listQuery();
  query.delete("live");
  query.set("limit", String(PAGE));
  let last = null; // of the page before
  let wants = false; // the first of the next page
  for (let number = 0; number < MOST_PAGES; number += 1) {
    const found = await ask(`/api/v1/worklist?${query}`);
    const keys = found.rows.map((row) => row.key);
    if (wants) return keys[0] ?? null;
    const index = keys.indexOf(key);
    if (index >= 0 && step < 0) return index > 0 ? keys[index - 1] : last;
    if (index >= 0 && index + 1 < keys.length) return keys[index + 1];
    wants = index >= 0;
    last = keys.at(-1) ?? last;
    if (!found.next) return null;
    query.set("cursor", found.next);
  }
  return null;
}

async function walk(step) {
  const to = await neighbour(step);
  if (to) location.assign(`/studies/${to}`);
  else tell(step > 0 ? "No study after this one in the list." : "No study before this one in the list.");
}

function listAddress() {
  const query = listQuery().toString();
  return query ? `/?${query}` : "/";
}

// Slices: of the volume where there is one, else of the pictures

function shownFrame() {
  const frame = new URLSearchParams(location.search).get("frame");
  return frame === null ? Number(one(".strip [aria-current]")?.dataset.slice ?? 0) : Number(frame);
}

const slices = () => Number(one("#curve")?.dataset.slices ?? 0);

function mark(slice) {
  here.slice = slice;
  const curve = one("#curve");
  if (curve) {
    const x = ((slice + 0.5) * curve.viewBox.baseVal.width) / slices();
    for (const end of ["x1", "x2"]) one("#here").setAttribute(end, x.toFixed(1));
  }
  for (const link of all(".strip [data-slice]")) {
    if (Number(link.dataset.slice) === slice) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }
}

function go(slice, at) {
  if (!slices()) return false;
  const to = Math.min(Math.max(slice, 0), slices() - 1);
  if (here.isLive) {
    page.dispatchEvent(new CustomEvent("vigil:go", { detail: { slice: to, at } }));
    return true;
  }
  const picture = one(".picture img");
  if (!picture) return false;
  picture.src = address(`pictures/${to}.png`);
  picture.alt = `Heatmap, slice ${to + 1} of ${slices()}`;
  one(".picture strong").textContent = `Slice ${to + 1} of ${slices()}`;
  history.replaceState(null, "", `?frame=${to}`);
  mark(to);
  return true;
}

page.addEventListener("vigil:live", () => {
  here.isLive = true;
});
page.addEventListener("vigil:at", (event) => mark(event.detail.slice));

page.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-slice]");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  const at = link.dataset.at?.split(" ").map(Number);
  if (go(Number(link.dataset.slice), at)) event.preventDefault();
});

one("#curve")?.addEventListener("click", (event) => {
  const box = event.currentTarget.getBoundingClientRect();
  go(Math.floor(((event.clientX - box.left) / box.width) * slices()));
});

one(".picture figcaption")?.addEventListener("click", (event) => {
  const step = { prev: -1, next: 1 }[event.target.rel];
  if (step && go(here.slice + step)) event.preventDefault();
});

// What counts may change while somebody reads: the page says so, and moves nothing

const LOOK_MS = 60_000;

function newsOf(row) {
  if (row.score !== score) return "What counts of this study has changed.";
  if (row.is_receiving && page.dataset.receiving !== "yes")
    return "More images are arriving; this score does not include them.";
  return (row.flag ?? "") === page.dataset.flag ? "" : "Its images contradict each other.";
}

async function lookAgain() {
  if (document.hidden) return;
  let words = "";
  try {
    const answer = await fetch(`/api/v1/studies/${key}`, { headers: { Accept: "application/json" } });
    if (answer.status === 401) words = "Your session has ended.";
    else if (!answer.ok) throw new Error("no answer");
    else words = newsOf((await answer.json()).row);
  } catch {
    words = "The server did not answer when it was last asked: this may be old.";
  }
  one("#changed").hidden = !words;
  one("#changed span:last-of-type").textContent = words;
}

setInterval(lookAgain, LOOK_MS);
document.addEventListener("visibilitychange", lookAgain);

// Keys

function press(selector) {
  const button = one(selector);
  if (button && !button.disabled) button.click();
}

const KEYS = {
  n: () => act(() => walk(1)),
  p: () => act(() => walk(-1)),
  u: () => location.assign(listAddress()),
  s: () => press("#seen"),
  h: () => press("#overlay"),
  v: () => page.dispatchEvent(new CustomEvent("vigil:plane")),
  j: () => go(here.slice - 1),
  k: () => go(here.slice + 1),
  ArrowDown: () => go(here.slice - 1),
  ArrowUp: () => go(here.slice + 1),
  "?": () => document.querySelector("#keys").showModal(),
};
verdicts.forEach((button, index) => {
  KEYS[String(index + 1)] = () => button.click();
});
for (const button of grades) KEYS[button.dataset.key] = () => button.click();

function areKeysOn() {
  return stored("vigil-keys", "on") === "on";
}

const HELD = new Set(["j", "k", "ArrowDown", "ArrowUp"]); // that go on while they are held
const TAKES_KEYS = "input:not([type=checkbox], [type=range]), select, textarea, dialog[open]";

function pressed(event) {
  const { key: name, target } = event;
  const isArrow = name.startsWith("Arrow");
  if (event.ctrlKey || event.metaKey || event.altKey || !areKeysOn() || target.closest(TAKES_KEYS)) return;
  // Elsewhere the arrows scroll the page, and on a slider they move it.
  if (isArrow && (!one("#heatmap").contains(target) || target.matches("input"))) return;
  if (!KEYS[name] || (event.repeat && !HELD.has(name))) return;
  event.preventDefault();
  event.stopPropagation(); // the viewer has keys of its own
  KEYS[name]();
}

document.addEventListener("keydown", pressed, true);

// Ready

for (const button of verdicts) button.addEventListener("click", () => act(() => judge(button.dataset.verdict)));
for (const button of grades) {
  button.addEventListener("click", () => act(() => grade(Number(button.dataset.conspicuity))));
}
seen?.addEventListener("click", () => act(toggleSeen));
one("#reveal")?.addEventListener("click", () => act(reveal));
one("#resend")?.addEventListener("click", () => act(resend));
for (const button of all("[data-step]")) {
  button.addEventListener("click", () => act(() => walk(Number(button.dataset.step))));
}
for (const button of all("button[disabled]")) button.disabled = false;
one("#to-list").href = listAddress();
const show = document.querySelector("#show-keys");
show.hidden = false;
show.addEventListener("click", () => document.querySelector("#keys").showModal());
const toggle = document.querySelector("#keys-on");
toggle.checked = areKeysOn();
toggle.addEventListener("change", () => store("vigil-keys", toggle.checked ? "on" : "off"));
if (isShownAnew()) tell("It was scored again meanwhile: nothing was stored. This is what it says now.", true);
if (verdicts.length) readFeedback().catch((error) => tell(error.message, true));
