// Pages work without this. It shows the present numbers every few seconds, in the parts of a page that say so
// (`data-live`), while somebody looks at it and unless they have stopped it.
"use strict";

const EVERY = 10000;
const STOPPED = "llm-metering-stopped";

const parts = () => document.querySelectorAll("[data-live]");

function stopped() {
  try {
    return localStorage.getItem(STOPPED) === "yes";
  } catch {
    return false; // the browser keeps nothing
  }
}

function remember(is) {
  try {
    localStorage.setItem(STOPPED, is ? "yes" : "no");
  } catch {
    // as above
  }
}

function put(part, fresh) {
  if (part.innerHTML === fresh.innerHTML && part.className === fresh.className) return;
  // Whoever is in it with the keyboard, or has marked some of it, is left in peace.
  if (part.contains(document.activeElement)) return;
  const selection = document.getSelection();
  if (selection && !selection.isCollapsed && selection.containsNode(part, true)) return;
  for (const open of part.querySelectorAll("details[open][id]")) {
    const same = fresh.querySelector(`#${CSS.escape(open.id)}`);
    if (same) same.open = true;
  }
  const scrolled = [...part.querySelectorAll(".scroll")].map((each) => each.scrollLeft);
  part.replaceChildren(...fresh.childNodes);
  part.className = fresh.className;
  [...part.querySelectorAll(".scroll")].forEach((each, place) => {
    each.scrollLeft = scrolled[place] ?? 0;
  });
}

async function refresh() {
  if (document.hidden || stopped()) return;
  let response;
  try {
    response = await fetch(location.href, { headers: { Accept: "text/html" } });
  } catch {
    return; // the server is away; it may be back next time
  }
  // Whoever was signed out meanwhile is shown so where they go next.
  if (!response.ok || response.redirected) return;
  const page = new DOMParser().parseFromString(await response.text(), "text/html");
  for (const part of parts()) {
    const fresh = page.getElementById(part.id);
    if (fresh) put(part, fresh);
  }
}

function tick() {
  setTimeout(() => refresh().finally(tick), EVERY);
}

if (parts().length) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "link";
  const label = () => {
    button.textContent = stopped() ? "Show changes as they come" : "Stop showing changes";
  };
  button.addEventListener("click", () => {
    remember(!stopped());
    label();
    refresh();
  });
  label();
  document.querySelector("footer.end p").append(" ", button);
  tick();
}

for (const each of document.querySelectorAll("[data-copy]")) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "Copy";
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(each.textContent.trim());
    button.textContent = "Copied";
  });
  each.after(" ", button);
}
