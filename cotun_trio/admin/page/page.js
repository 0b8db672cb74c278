// Keeps the page up to date: fetches it again, and puts what has changed in its place.
"use strict";

const PERIOD = 5000; // milliseconds between two looks at the figures
const SOON = 300; // after an event, to see others that come with it
const LEAST = 1000; // between two of them
const AGAIN = 15000; // until events are asked for again where they were refused
const KINDS = ["opened", "closed", "kicked", "refused", "reloaded"];

const news = document.getElementById("news");
const trouble = document.getElementById("trouble");
const ask = document.getElementById("ask");
let events = null;
let timer = 0; // of the next look
let again = 0; // of another try to get events
let busy = false; // while it is fetched
let soon = false; // whether an event has asked for it
let fetched = 0;
let latest = ""; // the latest news
let said = 0;

// ---- what has changed

// Makes `old` what `fresh` is.  What stays the same stays the same node, so that it keeps the focus.
function update(old, fresh) {
  if (old.isEqualNode(fresh)) return;
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name)) old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) old.setAttribute(name, value);
  const ids = new Set([...fresh.children].map((child) => child.id));
  for (const child of [...old.children]) {
    if (child.id && !ids.has(child.id)) child.remove();
  }
  let place = old.firstChild;
  for (const child of [...fresh.childNodes]) {
    if (place && isSame(place, child)) {
      const next = place.nextSibling;
      if (child.nodeType === Node.ELEMENT_NODE) update(place, child);
      else if (place.data !== child.data) place.data = child.data;
      place = next;
    } else {
      old.insertBefore(child, place);
    }
  }
  while (place) {
    const next = place.nextSibling;
    place.remove();
    place = next;
  }
}

function isSame(one, other) {
  return one.nodeName === other.nodeName && (one.id || "") === (other.id || "");
}

async function refresh() {
  clearTimeout(timer);
  soon = false;
  if (busy) return refreshSoon();
  busy = true;
  await fetchPage();
  busy = false;
  fetched = Date.now();
  if (!document.hidden && !soon) timer = setTimeout(refresh, PERIOD);
}

// However many events there are, the page is fetched once in a second.
function refreshSoon() {
  if (soon) return;
  soon = true;
  clearTimeout(timer);
  timer = setTimeout(refresh, Math.max(SOON, fetched + LEAST - Date.now()));
}

async function fetchPage() {
  let text;
  try {
    const answer = await fetch("/", { cache: "no-store" });
    if (answer.status === 401) return tell("The token has changed: the log has the new address.");
    if (!answer.ok) return tell(`The answer was ${answer.status}: trying again.`);
    text = await answer.text();
  } catch {
    return tell("There is no answer: trying again.");
  }
  tell("");
  const fresh = new DOMParser().parseFromString(text, "text/html");
  const focused = document.activeElement;
  for (const id of ["top", "main"]) {
    update(document.getElementById(id), fresh.getElementById(id));
  }
  if (!focused.isConnected) document.getElementById("sessions").focus();
}

function tell(text) {
  if (trouble.textContent === text) return;
  trouble.textContent = text;
  trouble.hidden = !text;
}

// ---- events

function listen() {
  // From where the page is: what happens before the answer comes is news as well.
  const last = document.getElementById("main").dataset.last;
  events = new EventSource(`/api/v1/events?after=${last}`);
  for (const kind of KINDS) events.addEventListener(kind, happened);
  events.addEventListener("error", () => {
    if (events.readyState === EventSource.CLOSED) {
      again = setTimeout(listen, AGAIN);
    }
  });
}

function happened(message) {
  const { kind, facts } = JSON.parse(message.data);
  const words = [kind[0].toUpperCase() + kind.slice(1)];
  if (facts.session) words.push(`session ${facts.session}`);
  const source = facts.user && facts.user !== "-" ? facts.user : facts.peer || facts.client;
  if (source) words.push(kind === "refused" ? source : `of ${source}`);
  say(words.join(" ") + (facts.reason ? `: ${facts.reason}` : ""));
  refreshSoon();
}

// A screen reader reads each of them: of many, one in a second.
function say(text) {
  latest = text;
  said ||= setTimeout(() => {
    news.textContent = latest;
    said = 0;
  }, LEAST);
}

// ---- the end of a session

document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-end]");
  if (!button) return;
  ask.dataset.session = button.dataset.end;
  document.getElementById("question").textContent =
    `End session ${button.dataset.end} (${button.dataset.of})?`;
  ask.returnValue = "";
  ask.showModal();
});

document.getElementById("cancel").addEventListener("click", () => ask.close());

ask.addEventListener("close", async () => {
  const input = ask.querySelector("input");
  const reason = input.value;
  input.value = "";
  if (ask.returnValue !== "end") return;
  const query = reason ? `?reason=${encodeURIComponent(reason)}` : "";
  const path = `/api/v1/sessions/${encodeURIComponent(ask.dataset.session)}${query}`;
  try {
    const answer = await fetch(path, { method: "DELETE" });
    if (!answer.ok) say(`It was not ended: ${(await answer.json()).detail}`);
  } catch {
    say("It was not ended: there is no answer.");
  }
  refresh();
});

// ---- refreshing, while the page is visible

function look() {
  clearTimeout(timer);
  clearTimeout(again);
  events?.close();
  if (!document.hidden) {
    listen();
    refresh();
  }
}

document.documentElement.classList.add("has-script");
document.addEventListener("visibilitychange", look);
look();
