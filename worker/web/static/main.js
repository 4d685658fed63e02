// Shows the view that the address names.

import { el, note, replace } from "./dom.js";

const VIEWS = {
  "/": () => import("./now.js"),
  "/find": () => import("./find.js"),
  "/conversation": () => import("./conversation.js"),
  "/letters": () => import("./letters.js"),
  "/events": () => import("./events.js"),
};

const main = document.getElementById("main");
for (const link of document.querySelectorAll("nav a")) {
  if (link.pathname === location.pathname) link.setAttribute("aria-current", "page");
}
try {
  const view = await VIEWS[location.pathname]();
  await view.show(main, new URLSearchParams(location.search));
} catch (error) {
  replace(main, el("h1", {}, "This can't be shown"), note("danger", error.message));
}
