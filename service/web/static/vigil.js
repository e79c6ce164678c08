// The theme, before anything is painted: loaded in the head, first of all scripts, on every page.
"use strict";

const THEMES = ["dark", "light", "system"];
const root = document.documentElement;

function stored(name, otherwise) {
  try {
    return localStorage.getItem(name) ?? otherwise;
  } catch {
    return otherwise; // storage may be switched off
  }
}

function store(name, value) {
  try {
    localStorage.setItem(name, value);
  } catch {
    // It holds for this page alone then.
  }
}

// Times as the server writes them: the foot of the page names their zone, and the browser may be in another.
function clock(at, format = {}) {
  const there = new Date(new Date(at).getTime() + Number(root.dataset.aheadS) * 1000);
  return there.toLocaleTimeString([], { hour12: false, timeZone: "UTC", ...format });
}

function wear(theme) {
  root.dataset.theme = THEMES.includes(theme) ? theme : THEMES[0];
}

wear(stored("vigil-theme", THEMES[0]));

addEventListener("DOMContentLoaded", () => {
  const choice = document.querySelector("#theme");
  if (!choice) return;
  choice.closest("[hidden]")?.removeAttribute("hidden");
  choice.value = root.dataset.theme;
  choice.addEventListener("change", () => {
    wear(choice.value);
    store("vigil-theme", root.dataset.theme);
  });
});
