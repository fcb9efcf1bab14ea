const cards = all(document, ".card");
const kinds = all(document, "input[name=kind]");
const filter = () => {
  const wanted = new Set(kinds.filter((box) => box.checked).map((box) => box.value));
  for (const card of cards) card.hidden = !wanted.has(card.dataset.kind);
  const shown = cards.filter((card) => !card.hidden).length;
  document.getElementById("count").textContent = `${shown} of ${cards.length} prompts`;
};
for (const box of kinds) box.addEventListener("change", filter);
