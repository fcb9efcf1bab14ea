"use strict";
document.documentElement.classList.remove("still");
const all = (where, what) => [...where.querySelectorAll(what)];

// A picture that wipes has the one before behind it, which is the first of its seed.
for (const tile of all(document, ".tile.wipes")) {
  const before = tile.closest(".tiles").querySelector("img");
  tile.style.backgroundImage = `url(${before.src})`;
}
const wipe = (range, where) => {
  where.style.setProperty("--wipe", `${range.value}%`);
  range.setAttribute("aria-valuetext", `${range.value} % after`);
};
for (const range of all(document, ".card input[type=range]")) {
  range.addEventListener("input", () => wipe(range, range.closest(".card")));
}

const zoom = document.getElementById("zoom");
const large = zoom.querySelector(".large");
const slider = zoom.querySelector("input");
const open = (tile) => {
  const wipes = tile.classList.contains("wipes");
  const picture = tile.querySelector("img").cloneNode();
  large.replaceChildren(picture);
  large.classList.toggle("wipes", wipes);
  large.style.backgroundImage = tile.style.backgroundImage;
  zoom.querySelector("#zoom-words").textContent = picture.alt;
  zoom.querySelector(".wipe").hidden = !wipes;
  zoom.querySelector(".after").textContent = tile.parentElement.querySelector("figcaption").textContent;
  if (wipes) slider.value = tile.closest(".card").querySelector("input[type=range]").value;
  wipe(slider, large);
  zoom.showModal();
};
for (const tile of all(document, ".tile")) tile.addEventListener("click", () => open(tile));
slider.addEventListener("input", () => wipe(slider, large));
zoom.querySelector(".close").addEventListener("click", () => zoom.close());
zoom.addEventListener("click", (event) => event.target === zoom && zoom.close());
